"""Saving: what was there stays whatever happens, and what cannot be saved is told."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from small_command import fit, write_config

from hybridgen.models import LanguageModel
from hybridgen.reliability import atomic
from hybridgen.reliability.random_state import random_states, restore_random_states
from hybridgen.reliability.saving import KeepBest, KeepLast
from hybridgen.reliability.settings import apply_changes, settings_of
from hybridgen.reliability.termination import Signals
from hybridgen.reliability.verify import CheckpointError, read, sha256, verify

ROOT = Path(__file__).parents[2]


def checkpoint(value=0.0, size=1000):
    weights = {"weight": torch.full((size,), float(value))}
    return {"hybridgen_model": "x", "options": {}, "codec": {}, "state_dict": weights}


def value_of(path):
    return float(read(path)["state_dict"]["weight"][0])


def test_the_file_before_the_last_is_kept(tmp_path):
    path = tmp_path / "last.ckpt"
    for value in range(4):
        digest = atomic.save(checkpoint(value), path, rotate=True)
        assert sha256(path) == digest
        assert value_of(path) == value
        if value:
            assert value_of(tmp_path / "previous.ckpt") == value - 1
    assert verify(path) == verify(tmp_path / "previous.ckpt") == "sha256"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "last.ckpt",
        "last.ckpt.sha256",
        "previous.ckpt",
        "previous.ckpt.sha256",
    ]


@pytest.mark.parametrize("call", range(1, 14))
def test_a_save_that_is_cut_off_anywhere_leaves_whole_files(call, tmp_path, monkeypatch):
    """Every step that changes a name on the disk may be the last one of the process."""
    path = tmp_path / "last.ckpt"
    for value in range(2):
        atomic.save(checkpoint(value), path, rotate=True)
    count = 0

    class Killed(BaseException):
        pass

    def counting(function):
        def counted(*arguments, **options):
            nonlocal count
            count += 1
            if count >= call:
                raise Killed
            return function(*arguments, **options)

        return counted

    for module, name in ((os, "replace"), (os, "link"), (os, "fsync"), (torch, "save")):
        monkeypatch.setattr(module, name, counting(getattr(module, name)))
    monkeypatch.setattr(Path, "unlink", lambda *arguments, **options: None)  # a killed process tidies nothing up
    finished = False
    try:
        atomic.save(checkpoint(2), path, rotate=True)
        finished = True
    except Killed:
        pass
    monkeypatch.undo()
    assert verify(path) == "sha256"
    assert value_of(path) in ((2,) if finished else (1, 2))
    assert verify(tmp_path / "previous.ckpt") == "sha256"
    assert value_of(tmp_path / "previous.ckpt") in (0, 1)
    atomic.remove_leftovers(tmp_path)
    assert not [*tmp_path.glob(".*")]
    atomic.save(checkpoint(3), path, rotate=True)
    assert (value_of(path), value_of(tmp_path / "previous.ckpt") in (1, 2)) == (3, True)


@pytest.mark.slow
def test_a_process_killed_while_it_saves(tmp_path):
    program = f"""
import os, sys, threading, time, torch
sys.path.insert(0, {str(ROOT)!r})
from hybridgen.reliability.atomic import save
path = __import__("pathlib").Path("last.ckpt")
value = 0
while True:
    parts = {{"hybridgen_model": "x", "options": {{}}, "codec": {{}}}}
    save(parts | {{"state_dict": {{"weight": torch.full((2_000_000,), float(value))}}}}, path, rotate=True)
    value += 1
    print(value, flush=True)
"""
    path = tmp_path / "last.ckpt"
    for delay in range(3):
        process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(3 + delay):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert verify(path) == verify(tmp_path / "previous.ckpt") == "sha256"
        assert value_of(path) - value_of(tmp_path / "previous.ckpt") in (0, 1)


def test_too_little_space_is_told_before_anything_is_written(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    atomic.save(checkpoint(1), path)
    usage = type("usage", (), {"free": 2_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(CheckpointError, match=r"it needs 5.0 MB but .* has 2.0 MB left; .* is kept as it was"):
        atomic.save(checkpoint(2, size=1_000_000), path)
    assert value_of(path) == 1


def test_a_disk_that_fills_while_it_is_written_to(tmp_path):
    """By the largest size that a file of this process may have, which fails like a full disk does."""
    path = tmp_path / "last.ckpt"
    atomic.save(checkpoint(1), path, rotate=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(CheckpointError, match=r"there is no space left in .* is kept as it was"):
            atomic.save(checkpoint(2, size=1_000_000), path, rotate=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert value_of(path) == 1
    assert verify(path) == "sha256"
    assert not [*tmp_path.glob(".*")]


def test_a_full_disk_does_not_end_training_but_its_end_is_told(tmp_path, monkeypatch):
    write_config(tmp_path)
    checkpoints = tmp_path / "runs" / "small" / "0" / "checkpoints"
    plain, full = atomic.shutil.disk_usage, type("usage", (), {"free": 10})

    def usage(folder):
        return full if (checkpoints / "last.ckpt").exists() else plain(folder)

    monkeypatch.setattr("shutil.disk_usage", usage)
    with pytest.warns(UserWarning, match=r"last.ckpt was not saved: it needs .*; training goes on and tries again"):
        finished = fit("--save_every_batches", 3, cwd=tmp_path)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    assert "last.ckpt was not saved: it needs" in finished.stderr.splitlines()[-1]
    assert read(checkpoints / "last.ckpt")["global_step"] == 3  # the one before the disk was full
    rows = (tmp_path / "runs" / "small" / "0" / "metrics.csv").read_text().splitlines()
    assert len(rows) > 20  # all of the training


def test_what_could_not_be_read_again_is_told_at_the_first_save(tmp_path, monkeypatch):
    write_config(tmp_path)
    plain = LanguageModel.on_save_checkpoint

    def on_save_checkpoint(self, checkpoint):
        plain(self, checkpoint)
        checkpoint["where"] = Path("somewhere")

    monkeypatch.setattr(LanguageModel, "on_save_checkpoint", on_save_checkpoint)
    finished = fit("--save_every_batches", 2, cwd=tmp_path)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    last = finished.stderr.splitlines()[-1]
    assert "was written but cannot be used: it holds something" in last
    assert "asks for pathlib.PosixPath to be run" in last
    assert len((tmp_path / "runs" / "small" / "0" / "metrics.csv").read_text().splitlines()) == 2


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"last.ckpt was not saved: .* cannot be written to .*: give another"):
        atomic.save(checkpoint(), tmp_path / "file" / "last.ckpt")


def test_the_best_is_known_where_a_run_folder_was_moved():
    one, other = (KeepBest(dirpath=place, filename="best", monitor="val/loss") for place in ("/a/x", "/b/y"))
    one.best_k_models = {"/a/x/best.ckpt": torch.tensor(2.0)}
    one.best_model_path = one.kth_best_model_path = "/a/x/best.ckpt"
    one.best_model_score = one.kth_value = torch.tensor(2.0)
    other.load_state_dict(one.state_dict())
    assert other.best_k_models == {"/b/y/best.ckpt": torch.tensor(2.0)}
    assert other.best_model_path == other.kth_best_model_path == "/b/y/best.ckpt"
    assert float(other.best_model_score) == 2.0


@pytest.mark.parametrize(("name", "value"), [("minutes", -1.0), ("batches", -1), ("minutes", float("nan"))])
def test_options_that_cannot_be(name, value, tmp_path):
    with pytest.raises(ValueError, match=rf"save_every_{name} is .*: give 0 or more"):
        KeepLast(tmp_path, **{name: value})


def test_random_states_come_back():
    import random

    import numpy as np

    pl.seed_everything(3, verbose=False)
    random.gauss(0, 1), np.random.normal(), torch.randn(3)  # noqa: NPY002
    states = random_states()
    draw = lambda: (random.random(), random.gauss(0, 1), np.random.normal(size=3).tolist(), torch.randn(3).tolist())  # noqa: E731, NPY002
    expected = draw()
    assert draw() != expected
    restore_random_states(states)
    assert draw() == expected


def test_settings_that_were_changed_hold_and_others_stay():
    def made(rate, decay, factor):
        weight = torch.nn.Parameter(torch.ones(2))
        optimizer = torch.optim.SGD([weight], lr=rate, weight_decay=decay, momentum=0.9)
        return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=factor)

    optimizer, schedule = made(1.0, 0.1, 0.5)
    then = settings_of([optimizer])
    for _ in range(2):
        optimizer.step()
        schedule.step()
    saved = optimizer.state_dict(), schedule.state_dict()

    again, schedule = made(3.0, 0.1, 0.5)
    now = settings_of([again])
    again.load_state_dict(saved[0])
    schedule.load_state_dict(saved[1])
    assert again.param_groups[0]["lr"] == 0.25  # what is asked for now would be lost
    apply_changes([again], [schedule], then, then)
    assert again.param_groups[0]["lr"] == 0.25
    apply_changes([again], [schedule], then, now)
    assert again.param_groups[0]["lr"] == 0.75
    again.step()
    schedule.step()
    assert again.param_groups[0]["lr"] == 0.375


def test_what_is_set_aside_replaces_nothing(tmp_path):
    last = tmp_path / "last.ckpt"
    atomic.save(checkpoint(1.0), tmp_path / "last-1.ckpt")  # number 0 has been deleted
    for value, place in ((2.0, "last-0.ckpt"), (3.0, "last-2.ckpt")):
        atomic.save(checkpoint(value), last)
        assert atomic.set_aside(last, damaged=False) == tmp_path / place
    assert [value_of(tmp_path / f"last-{number}.ckpt") for number in range(3)] == [2.0, 1.0, 3.0]


def test_signals_of_one_moment_are_one(monkeypatch):
    ended = []
    monkeypatch.setattr("os._exit", ended.append)
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    signals = Signals()
    signals._handle(15, None)
    now[0] += 0.01
    signals._handle(2, None)
    assert signals.received == 15
    assert not ended
    now[0] += 5.0
    signals._handle(2, None)
    assert ended == [130]
