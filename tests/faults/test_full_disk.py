"""A disk that is full, or may not be written to: one sentence, and nothing half-written.

By the largest size that a file of this process may have, which fails as a full disk does. Checkpoints have tests of
their own, in tests/reliability.
"""

import contextlib
import resource

import pytest

from .inputs import PROSE, TEXT, write
from .test_bad_input import command, fit, said


@contextlib.contextmanager
def files_of_at_most(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a text, a small model of it, and a run."""
    folder = tmp_path_factory.mktemp("full")
    write(folder / "in.txt", PROSE * 3)
    finished = fit(folder, TEXT, source="in.txt")
    assert finished.code == 0, finished.err
    return folder


def test_token_files(tmp_path):
    write(tmp_path / "in.txt", PROSE)
    write(tmp_path / "small.yaml", TEXT.replace("SOURCE", "in.txt"))
    with files_of_at_most(500):
        finished = command(tmp_path, "fit", "--config", "small.yaml", "--wandb", "off")
    assert "the cache folder cache cannot be written (File too large): set cache_dir" in said(finished)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of a checkpoint that could not be saved, while training goes on
@pytest.mark.parametrize("size", [100, 3000], ids=["at the start", "while it trains"])
def test_run_folders(trained, size):
    often = ["--trainer.log_every_n_steps", "1", "--trainer.max_steps", "60"]
    with files_of_at_most(size):
        finished = command(trained, "fit", "--config", "small.yaml", "--wandb", "off", "--name", "full", *often)
    assert "(File too large)" in said(finished)
    assert not list((trained / "runs" / "full").rglob("*.ckpt"))


def outputs(trained):
    return {p.name for p in trained.iterdir()} - {"in.txt", "small.yaml", "cache", "runs"}


@pytest.mark.parametrize("name", ["sample", "score", "predict"])
def test_outputs(name, trained, tmp_path, monkeypatch):
    ckpt = trained / "runs" / "small" / "0" / "checkpoints" / "last.ckpt"
    arguments = {
        "sample": ["--ckpt", ckpt, "--max_new_tokens", "40", "--out", "out.jsonl"],
        "score": ["--ckpt", ckpt, "--config", "small.yaml", "--out", "out.jsonl"],
        "predict": ["--config", "small.yaml", "--ckpt_path", ckpt, "--predictions", "out.jsonl"],
    }[name]
    with files_of_at_most(20):
        sentence = said(command(trained, name, *arguments))
    assert "cannot be written (File too large): make room" in sentence
    assert outputs(trained) == set()


def test_a_device_is_written_into(trained):
    ckpt = trained / "runs" / "small" / "0" / "checkpoints" / "last.ckpt"
    options = ["--ckpt", ckpt, "--max_new_tokens", "5"]
    assert command(trained, "sample", *options, "--out", "/dev/null").code == 0
    sentence = said(command(trained, "sample", *options, "--out", "/proc/out.jsonl"))
    assert "/proc/out.jsonl cannot be written" in sentence
