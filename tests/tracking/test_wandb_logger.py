"""Weights & Biases may neither stop nor hang a training."""

import subprocess
import warnings

import pytest
from pytorch_lightning.loggers import CSVLogger

from hybridgen.tracking import wandb_logger as module
from hybridgen.tracking.run_folder import loggers, next_run_folder
from hybridgen.tracking.wandb_logger import CarefulWandbLogger, circumstances, git_revision, wandb_logger


class Broken:
    """A run whose every use fails."""

    def __getattr__(self, name):
        raise BrokenPipeError(f"the service is gone ({name})")


def test_the_first_failure_is_told_and_the_run_goes_on(tmp_path):
    logger = CarefulWandbLogger(save_dir=tmp_path, offline=True)
    logger._experiment = Broken()
    with pytest.warns(UserWarning, match="Weights & Biases failed and is left out from here on"):
        logger.log_metrics({"loss": 1.0}, step=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logger.log_metrics({"loss": 1.0}, step=2)
        logger.log_text(key="samples", columns=["a"], data=[["b"]])
        logger.log_hyperparams({"a": 1})
        logger.describe({"b": 2})
        logger.draw_against("train/tokens_seen")
        logger.finalize("success")


def test_a_run_that_does_not_start_leaves_the_csv(tmp_path, monkeypatch):
    def refuse(**options):
        raise TimeoutError("no answer")

    monkeypatch.setattr("wandb.init", refuse)
    folder = next_run_folder(tmp_path, "x")
    with pytest.warns(UserWarning, match="no answer"):
        only = loggers(folder, name="x", wandb_mode="offline")
    assert [isinstance(each, CSVLogger) for each in only] == [True]


@pytest.mark.parametrize(
    ("mode", "key", "answers", "online"),
    [
        ("auto", True, True, True),
        ("auto", True, False, False),
        ("auto", False, True, False),
        ("offline", True, True, False),
        ("online", False, False, True),
    ],
)
def test_whether_it_is_online_is_decided_before_it_starts(mode, key, answers, online, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "has_wandb_key", lambda: key)
    monkeypatch.setattr(module, "reaches_wandb", lambda: answers)
    monkeypatch.setattr(CarefulWandbLogger, "start", lambda self: True)
    assert wandb_logger(tmp_path, name="x", mode=mode)._offline is not online


def test_why_it_is_offline_is_told_and_its_end_cannot_hang(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "has_wandb_key", lambda: False)
    monkeypatch.setattr(CarefulWandbLogger, "start", lambda self: True)
    logger = wandb_logger(tmp_path, name="x", mode="auto")
    assert capsys.readouterr().err.count("Weights & Biases is offline, there is no key") == 1
    assert logger._wandb_init["settings"].finish_timeout == 30
    wandb_logger(tmp_path, name="x", mode="offline")
    assert not capsys.readouterr().err


def test_a_key_that_cannot_be_read_is_none(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login user password x")
    monkeypatch.setenv("NETRC", str(netrc))
    assert module.has_wandb_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8443")
    assert not module.has_wandb_key()  # that one is of another server
    monkeypatch.delenv("WANDB_BASE_URL")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    assert not module.has_wandb_key()


@pytest.mark.parametrize(
    ("base", "proxies", "expected"),
    [
        (None, {}, ("api.wandb.ai", 443)),
        ("http://localhost:8080", {}, ("localhost", 8080)),
        ("https://wandb.example.org/", {}, ("wandb.example.org", 443)),
        ("http://wandb.example.org", {"https": "http://proxy:3128"}, ("wandb.example.org", 80)),
        (None, {"https": "http://proxy:3128"}, ("proxy", 3128)),
        (None, {"https": "proxy:3128"}, ("proxy", 3128)),
    ],
)
def test_the_server_or_its_proxy_is_asked(base, proxies, expected, monkeypatch):
    asked = []

    def connect(address, timeout):
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr("socket.create_connection", connect)
    monkeypatch.setattr(module, "getproxies", lambda: proxies)
    monkeypatch.setattr(module, "proxy_bypass", lambda host: False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    if base:
        monkeypatch.setenv("WANDB_BASE_URL", base)
    assert not module.reaches_wandb()
    assert asked == [expected]


def test_off_is_off(tmp_path):
    assert wandb_logger(tmp_path, name="x", mode="off") is None


def test_circumstances(tmp_path, monkeypatch):
    found = circumstances()
    assert found["versions"]["torch"].split(".")[0].isdigit()
    assert found["argv"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_revision() is None
    (tmp_path / "a.txt").write_text("one")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for line in (["init", "-q"], ["add", "a.txt"], [*identity, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *line], check=True)
    revision = git_revision()
    assert len(revision["commit"]) == 40
    assert not revision["changed"]
    (tmp_path / "a.txt").write_text("two")
    assert git_revision()["changed"]


def test_run_folders_count_up_and_further_processes_share_one(tmp_path, monkeypatch):
    monkeypatch.delenv("HYBRIDGEN_RUN_FOLDER", raising=False)
    assert next_run_folder(tmp_path, "a") == tmp_path / "a" / "0"
    first = next_run_folder(tmp_path, "a")
    assert first == tmp_path / "a" / "1"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert next_run_folder(tmp_path, "a") == first
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert next_run_folder(tmp_path, "a") == tmp_path / "a" / "2"
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="give another place by --runs"):
        next_run_folder(tmp_path / "file", "a")
