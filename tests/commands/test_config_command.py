"""`hybridgen config`, and configurations by name."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hybridgen import experiments
from hybridgen.cli import main
from hybridgen.commands.explaining import with_named_configs

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "experiments" / "language_model" / "embedded.yaml"


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """The command in an empty folder: its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYBRIDGEN_DATA", str(tmp_path / "nowhere"))

    def run(*arguments):
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as leaving:
            code = leaving.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_ls_names_every_configuration_and_says_what_it_is(call):
    code, out, _ = call("config", "ls")
    assert code == 0
    files = {
        path.relative_to(ROOT / "experiments").with_suffix("").as_posix()
        for path in EMBEDDED.parents[1].glob("*/**/*.yaml")
        if path.parent.name != experiments.SPACES
    }
    assert len(files) >= 19
    assert {line.split()[0] for line in out.splitlines()} == files
    assert "English text that comes with Python" in out
    # "et al." ends no sentence.
    assert "published 115.9 on test" in next(line for line in out.splitlines() if "Zaremba et al." in line)


def test_cat_prints_the_file(call):
    code, out, _ = call("config", "cat", "language_model/embedded")
    assert (code, out) == (0, EMBEDDED.read_text())


def refuse(path):
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def test_cp_copies_and_never_replaces_by_itself(call, tmp_path, monkeypatch):
    code, _, err = call("config", "cp", "tinyshakespeare")
    assert code == 0
    assert "hybridgen fit --config tinyshakespeare.yaml" in err
    (tmp_path / "mine.yaml").write_text("mine")
    code, _, err = call("config", "cp", "tinyshakespeare", "mine.yaml")
    assert code == 2
    assert "mine.yaml exists" in err
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    assert call("config", "cp", "tinyshakespeare", "mine.yaml", "--force")[0] == 0
    assert (tmp_path / "mine.yaml").read_text() == (tmp_path / "tinyshakespeare.yaml").read_text()
    assert "there is no folder no" in call("config", "cp", "tinyshakespeare", "no/where.yaml")[2]
    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, _, err = call("config", "cp", "mine.yaml", "other.yaml")
    assert code == 2
    assert "mine.yaml cannot be opened (Permission denied)" in err
    assert "DEST" not in err
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("embedded", "text_vae/embedded, variational_rnn/embedded: say which one"),
        ("tinyshakspeare", "did you mean 'tinyshakespeare'"),
        ("language_model/tinyshakspeare", "did you mean 'language_model/tinyshakespeare'"),
        ("xyzzy", "`hybridgen config ls` lists them"),
        (".", "is a folder"),
    ],
)
def test_a_name_that_is_none_or_several(call, name, sentence):
    for command in (["config", "cat"], ["fit", "--config"]):
        code, _, err = call(*command, name)
        assert code == 2
        assert sentence in err
        assert len(err.strip().splitlines()) == 1


def test_an_existing_file_wins_and_names_find_files(call, tmp_path):
    known = experiments.experiments_folder()
    for name in ("jsb_lstm", "variational_rnn/jsb_lstm", "experiments/variational_rnn/jsb_lstm.yaml", "jsb_lstm.yaml"):
        assert experiments.find(name) == known / "variational_rnn" / "jsb_lstm.yaml"
    (tmp_path / "jsb_lstm").write_text("model: null")
    assert experiments.find("jsb_lstm") == Path("jsb_lstm")
    line = ["fit", "--config", "jsb_lstm", "--config=jsb_gru", "-c", "fsdd", "--name", "jsb_gru", "--config", "{a: 1}"]
    found = with_named_configs(line)
    assert found[2] == "jsb_lstm"
    assert found[3] == f"--config={known / 'variational_rnn' / 'jsb_gru.yaml'}"
    assert found[5] == str(known / "sequence_gan" / "fsdd.yaml")
    assert found[6:] == line[6:]


def test_every_shipped_configuration_is_valid(call):
    names = experiments.names()
    code, out, _ = call("config", "validate", *names)
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert set(lines) == set(names)
    # It goes on from a checkpoint of another experiment, which must be there to say whether the rest fits.
    needs = {name for name in names if "vae_checkpoint:" in experiments.find(name).read_text()}
    assert all("there is no checkpoint" in lines.pop(name) for name in needs)
    assert code == (2 if needs else 0)
    assert lines
    assert {name: line for name, line in lines.items() if not line.startswith("OK")} == {}
    assert "not on this machine" in lines["language_model/ptb"]
    assert lines["language_model/embedded"] == "OK"


WRONG = [
    ("model:", "modle:", "did you mean 'model'"),
    ("learning_rate", "learning_rat", "did you mean 'learning_rate'"),
    ("max_epochs", "max_epoch", "did you mean 'trainer.max_epochs'"),
    ("LanguageModel", "LanguageModle", "did you mean 'LanguageModel'"),
    ("hybridgen.models", "hybridgem.models", "there is no module 'hybridgem.models'"),
    ("hidden_size", "hiden_size", "did you mean 'hidden_size'"),
    ("source:", "sorce:", "did you mean 'source'"),
    ("init_args", "init_arg", "did you mean 'init_args'"),
    ("cell: lstm", "cell: lstmm", "did you mean 'lstm'"),
    ("bptt: 64", "bptt: -1", "bptt"),
    ("bptt: 64", "bptt: many", "bptt is many: give a whole number"),
    ("max_epochs: 12", "max_epochs: many", "trainer.max_epochs is many: give a whole number"),
]


def test_what_is_wrong_is_named_and_the_rest_is_still_looked_at(call, tmp_path):
    text = EMBEDDED.read_text()
    for number, (old, new, _) in enumerate(WRONG):
        assert old in text
        (tmp_path / f"{number}.yaml").write_text(text.replace(old, new))
    files = [f"{number}.yaml" for number in range(len(WRONG))]
    code, out, err = call("config", "validate", *files, "language_model/embedded")
    assert code == 2
    *lines, last = out.splitlines()
    assert last == "language_model/embedded: OK"
    for file, line, (_, _, sentence) in zip(files, lines, WRONG, strict=True):
        assert line.startswith(f"{file}: ")
        assert sentence in line
    assert "Traceback" not in err


def test_fit_says_the_same(call, tmp_path):
    (tmp_path / "wrong.yaml").write_text(EMBEDDED.read_text().replace("learning_rate", "learning_rat"))
    code, _, err = call("fit", "--config", "wrong.yaml")
    assert code == 2
    assert err == "hybridgen: error: there is no option 'learning_rat': did you mean 'learning_rate'?\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"hello", "holds a str"),
        (b"model: [", "is not YAML at line 1"),
        (b"\xff\xfe\x00", "is not UTF-8 at byte 0"),
    ],
)
def test_what_is_no_configuration(call, tmp_path, content, sentence):
    (tmp_path / "odd.yaml").write_bytes(content)
    for command in (["config", "validate"], ["fit", "--config"]):
        code, out, err = call(*command, "odd.yaml")
        assert code == 2
        assert sentence in out + err


def test_the_saved_configuration_serves_every_command(call, tmp_path):
    config = yaml.safe_load(EMBEDDED.read_text())
    config["model"]["init_args"] |= {"stack": {"cell": "gru", "hidden_size": 8, "num_layers": 1}, "embedding_size": 8}
    config["data"]["init_args"] |= {"source": str(tmp_path / "text.txt"), "batch_size": 2, "bptt": 16}
    config["trainer"] |= {"max_epochs": 1, "enable_progress_bar": False}
    (tmp_path / "text.txt").write_text("A line of a text that is learned.\n" * 60)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    code, _, err = call("fit", "--config", "small.yaml", "--wandb", "off")
    assert code == 0, err
    saved, ckpt = "runs/small/0/config.yaml", "runs/small/0/checkpoints/best.ckpt"
    assert call("config", "validate", saved)[:2] == (0, f"{saved}: OK\n")
    for command in ("validate", "test", "predict"):
        code, _, err = call(command, "--config", saved, "--ckpt_path", ckpt)
        assert code == 0, err
    figures = json.loads((tmp_path / "runs" / "small" / "0" / "test.json").read_text())
    assert figures["checkpoint"] == "best.ckpt"
    assert figures["metrics"]["test/nats_carried"] > 0
    code, out, err = call("score", "--ckpt", ckpt, "--config", saved)
    assert code == 0, err
    code, out, err = call("runs", "--json")
    (row,) = json.loads(out)
    assert (row["name"], row["state"], row["epochs"], row["model"]) == ("small/0", "finished", 1, "LanguageModel")
    assert row["parameters"] > 0
    assert row["monitor"] == "val/loss"


def test_the_installed_package_has_the_experiments(tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools 77 or newer")
    line = [
        sys.executable,
        "setup.py",
        "-q",
        "build",
        "--build-base",
        str(tmp_path / "b"),
        "--build-lib",
        str(tmp_path / "lib"),
    ]
    built = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    shipped = tmp_path / "lib" / "hybridgen" / "_experiments"
    for path in (ROOT / "experiments").glob("**/*.yaml"):
        assert (shipped / path.relative_to(ROOT / "experiments")).read_bytes() == path.read_bytes()
    assert (shipped / "published.json").is_file()
    code = "from hybridgen import experiments as e; print(e.experiments_folder()); print(e.find('jsb_gru'))"
    asked = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "lib")},
        capture_output=True,
        text=True,
    )
    assert asked.stdout.splitlines() == [str(shipped), str(shipped / "variational_rnn" / "jsb_gru.yaml")], asked.stderr


def test_what_fit_would_refuse_of_the_trainer_is_refused(call, tmp_path):
    config = yaml.safe_load(EMBEDDED.read_text())
    (tmp_path / "alone.yaml").write_text(yaml.safe_dump({"model": config["model"]}))
    gan = yaml.safe_load(experiments.find("sequence_gan/fsdd").read_text())
    gan.setdefault("trainer", {})["accumulate_grad_batches"] = 4
    (tmp_path / "gan.yaml").write_text(yaml.safe_dump(gan))
    config["trainer"] |= {"accelerator": "gpu", "devices": 2}
    (tmp_path / "gpu.yaml").write_text(yaml.safe_dump(config))
    code, out, _ = call("config", "validate", "alone.yaml", "gan.yaml", "gpu.yaml")
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert code == 2
    assert "there is no data" in lines["alone.yaml"]
    assert "trainer.accumulate_grad_batches is not for SequenceGAN" in lines["gan.yaml"]
    assert lines["gpu.yaml"] == "OK"  # the machine is not for this one to say
