"""Whatever a checkpoint file turns into, it is told in one sentence, and nothing in it is ever run."""

import functools
import json
import pickle
import shutil
import struct
import subprocess
import sys
import time
import zipfile

import pytest
import torch
import yaml
from command_line import hybridgen
from small_command import fit, mistake

from hybridgen.commands import resuming
from hybridgen.models import LanguageModel
from hybridgen.reliability.atomic import save
from hybridgen.reliability.checkpoint_io import SafeCheckpointIO
from hybridgen.reliability.verify import CheckpointError, manifest_of, newest_valid, read, verify


class Evil:
    """Makes a file where it is unpickled by anyone who runs what a file says."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return subprocess.call, (["touch", str(self.mark)],)


def spoil(path, how, folder):
    """Turn a whole checkpoint into something else."""
    whole = path.read_bytes()
    if how == "flipped bit":
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda member: member.file_size)
        names = struct.unpack("<HH", whole[largest.header_offset + 26 : largest.header_offset + 30])
        middle = largest.header_offset + 30 + sum(names) + largest.file_size // 2  # of the largest tensor
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif how == "html":
        path.write_text("<!DOCTYPE html><html><body>404</body></html>")
    elif how == "foreign archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "not a model")
    elif how == "evil pickle":
        torch.save({"hybridgen_model": "LanguageModel", "state_dict": Evil(folder / "mark")}, path)
    elif how == "evil old pickle":
        path.write_bytes(pickle.dumps(Evil(folder / "mark")))
    elif how == "other tensors":
        torch.save({"weights": torch.ones(3)}, path)
    elif how == "marker alone":
        torch.save({"hybridgen_model": "LanguageModel"}, path)
    else:
        path.write_bytes(whole[: how if how >= 0 else len(whole) + how])


WAYS = [
    0,
    1024,
    -1,
    "half",
    "flipped bit",
    "html",
    "foreign archive",
    "evil pickle",
    "evil old pickle",
    "other tensors",
    "marker alone",
]


@pytest.mark.parametrize("manifest", [True, False], ids=["with checksum", "alone"])
@pytest.mark.parametrize("how", WAYS)
def test_every_damage_is_found(how, manifest, trained, tmp_path):
    source = trained / "runs" / "small" / "0" / "checkpoints" / "last.ckpt"
    path = tmp_path / "last.ckpt"
    shutil.copy(source, path)
    if manifest:
        shutil.copy(manifest_of(source), manifest_of(path))
    assert verify(path) == ("sha256" if manifest else "crc32")
    spoil(path, path.stat().st_size // 2 if how == "half" else how, tmp_path)
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert caught.value.__cause__ is None  # nor is torch's advice in the traceback
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not (tmp_path / "mark").exists()
    with pytest.raises(CheckpointError):
        SafeCheckpointIO().load_checkpoint(path, weights_only=False)
    assert not (tmp_path / "mark").exists()


def test_every_command_tells_it_in_one_sentence(trained, tmp_path):
    config = trained / "small.yaml"
    commands = [
        ("fit", "--config", config, "--wandb", "off", "--ckpt_path"),
        ("fit", "--config", config, "--wandb", "off", "--resume"),
        *((name, "--config", config, "--ckpt_path") for name in ("validate", "test", "predict")),
        ("sample", "--ckpt"),
        ("score", trained / "test.txt", "--ckpt"),
        ("checkpoint", "show"),
        ("checkpoint", "verify"),
    ]
    path = tmp_path / "last.ckpt"
    whole = (trained / "runs" / "small" / "0" / "checkpoints" / "last.ckpt").read_bytes()
    for number, command in enumerate(commands):
        path.write_bytes(whole)
        spoil(path, ["flipped bit", "evil pickle", 1024, "html"][number % 4], tmp_path)
        assert str(path) in mistake(hybridgen(*command, path, cwd=tmp_path)), command
        assert not (tmp_path / "mark").exists()
    assert not (tmp_path / "runs").exists()  # nothing was begun
    assert "there is no checkpoint at" in mistake(hybridgen(*commands[0], tmp_path / "none.ckpt", cwd=tmp_path))
    assert "give the path of a .ckpt file" in mistake(hybridgen(*commands[0], "last", cwd=tmp_path))
    assert "not read from the network" in mistake(hybridgen(*commands[2], "https://example.org/a.ckpt", cwd=tmp_path))


def test_what_builds_a_model_is_not_for_a_file_to_say(trained, tmp_path):
    contents = torch.load(trained / "runs" / "small" / "0" / "checkpoints" / "last.ckpt", weights_only=True)
    contents["hyper_parameters"] |= {"_instantiator": "os.system", "_class_path": "antigravity.Model"}
    path = tmp_path / "odd.ckpt"
    torch.save(contents, path)
    assert hybridgen("test", "--config", trained / "small.yaml", "--ckpt_path", path, cwd=tmp_path).returncode == 0
    assert "antigravity" not in sys.modules
    contents["hybridgen_model"] = "Oracle"
    torch.save(contents, path)
    found = mistake(hybridgen("test", "--config", trained / "small.yaml", "--ckpt_path", path, cwd=tmp_path))
    assert "holds a Oracle, which is no model of hybridgen" in found


@pytest.mark.parametrize("part", ["options", "codec", "hyper_parameters"])
@pytest.mark.parametrize("written", ["mapping", "json", "yaml", "escaped"])
def test_a_class_to_build_is_never_built(part, written, trained, tmp_path):
    mark = tmp_path / "mark"
    spec = {"class_path": "subprocess.Popen", "init_args": {"args": f"touch {mark}", "shell": True}}
    value = {
        "mapping": spec,
        "json": json.dumps(spec),
        "yaml": yaml.safe_dump({"inside": [spec]}),
        "escaped": json.dumps(spec).replace("class_path", "class\\u005fpath"),
    }[written]
    contents = torch.load(trained / "runs" / "small" / "0" / "checkpoints" / "last.ckpt", weights_only=True)
    contents[part] |= {"stack": {"cell": [value], "hidden_size": 6}}
    path = tmp_path / "hostile.ckpt"
    torch.save(contents, path)
    found = mistake(hybridgen("test", "--config", trained / "small.yaml", "--ckpt_path", path, cwd=tmp_path))
    assert f"its {part} names a class to build" in found
    time.sleep(0.05)
    assert not mark.exists()


def test_the_parser_builds_nothing_that_options_hold(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(resuming, "names_a_class", lambda value: False)
    mark = tmp_path / "mark"
    spec = {"class_path": "pathlib.Path.touch", "init_args": {"self": str(mark)}}
    popen = {"class_path": "subprocess.Popen", "init_args": {"args": f"touch {mark}", "shell": True}}
    contents = torch.load(trained / "runs" / "small" / "0" / "checkpoints" / "last.ckpt", weights_only=True)
    for number, each in enumerate((spec, popen, json.dumps(popen))):
        contents["options"]["stack"] = {"cell": each}
        torch.save(contents, tmp_path / f"{number}.ckpt")
        command = ("test", "--config", trained / "small.yaml", "--ckpt_path", tmp_path / f"{number}.ckpt")
        assert hybridgen(*command, cwd=tmp_path).returncode != 0
    time.sleep(0.05)
    assert not mark.exists()


def test_text_that_only_mentions_a_class_is_none():
    assert not resuming.names_a_class({"words": ["class_path", "a: b", "{", "class_path.", ":", "{x: [1, 2]}"]})
    assert resuming.names_a_class(["a", {"b": ({"class_path": "x"},)}])


def test_what_is_typed_holds_in_evaluation(trained, tmp_path, monkeypatch):
    built = []
    plain = LanguageModel.__init__

    @functools.wraps(plain)
    def watch(self, *arguments, **options):
        built.append((options["learning_rate"], options["stack"]["output_dropout"]))
        plain(self, *arguments, **options)

    monkeypatch.setattr(LanguageModel, "__init__", watch)
    path = trained / "runs" / "small" / "0" / "checkpoints" / "last.ckpt"
    command = ("test", "--config", trained / "small.yaml", "--ckpt_path", path)
    for given, expected in (
        ((), (0.003, 0.2)),
        (("--model.init_args.learning_rate", "0.5"), (0.5, 0.2)),
        (("--model.learning_rate=0.25",), (0.25, 0.2)),
        (("--model.stack.output_dropout", "0.4"), (0.003, 0.4)),
    ):
        finished = hybridgen(*command, *given, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
        assert built[-1] == expected
    assert mistake(hybridgen(*command, "--model.embedding_size", 5, cwd=tmp_path))


def test_the_newest_whole_checkpoint_is_found(trained, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(trained / "runs" / "small" / "0" / "checkpoints", folder)
    assert newest_valid(folder) == (folder / "last.ckpt", {})
    spoil(folder / "last.ckpt", "flipped bit", tmp_path)
    found, damaged = newest_valid(folder)
    assert found == folder / "previous.ckpt"
    assert [*damaged] == [folder / "last.ckpt"]
    spoil(folder / "previous.ckpt", 0, tmp_path)
    assert newest_valid(folder)[0] == folder / "best.ckpt"
    spoil(folder / "best.ckpt", "html", tmp_path)
    assert newest_valid(folder)[0] is None


def test_a_broken_last_falls_back_with_a_warning_and_is_not_kept_as_a_good_one(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "copy")
    folder = tmp_path / "copy"
    checkpoints = folder / "runs" / "small" / "0" / "checkpoints"
    spoil(checkpoints / "last.ckpt", "flipped bit", tmp_path)
    broken = (checkpoints / "last.ckpt").read_bytes()
    finished = fit("--resume", "auto", "--trainer.max_epochs", 4, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    (warning,) = [
        line for line in finished.stderr.splitlines() if "warning: runs/small/0/checkpoints/last.ckpt" in line
    ]
    assert "is damaged" in warning
    assert warning.endswith("going on from runs/small/0/checkpoints/previous.ckpt")
    assert (checkpoints / "last.ckpt.damaged").read_bytes() == broken
    assert verify(checkpoints / "last.ckpt") == verify(checkpoints / "previous.ckpt") == "sha256"
    for path in checkpoints.glob("*.ckpt"):
        spoil(path, 100, tmp_path)
    assert "no checkpoint in" in mistake(fit("--resume", "auto", "--trainer.max_epochs", 5, cwd=folder))


def test_show_and_verify(trained, tmp_path):
    run = trained / "runs" / "small" / "0"
    found = hybridgen("checkpoint", "verify", run, cwd=tmp_path)
    assert found.returncode == 0
    assert found.stdout.count("whole (sha256, ") == 3
    shown = hybridgen("checkpoint", "show", run / "checkpoints" / "last.ckpt", cwd=tmp_path).stdout
    for part in ("LanguageModel", "characters", "epoch ending", '"hidden_size": 6', "val/loss"):
        assert part in shown
    checked = subprocess.run(["sha256sum", "-c", "last.ckpt.sha256"], cwd=run / "checkpoints", capture_output=True)
    assert checked.returncode == 0


def test_tensors_of_one_memory_are_counted_once(tmp_path):
    weight = torch.ones(1000)
    parts = {"hybridgen_model": "x", "options": {}, "codec": {}}
    save(parts | {"state_dict": {"a": weight, "b": weight}}, tmp_path / "a.ckpt")
    loaded = read(tmp_path / "a.ckpt")["state_dict"]
    assert loaded["a"].data_ptr() == loaded["b"].data_ptr()
