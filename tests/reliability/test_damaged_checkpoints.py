"""Whatever a checkpoint file turns into, it is told in one sentence, and nothing in it is ever run."""

import errno
import functools
import json
import pickle
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from command_line import hybridgen
from small_command import fit, mistake

from hybridgen.codecs import CharacterCodec, PianoRollCodec
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


# What has the right parts, with something else in them ------------------------------------------------------------


def malformed(path, **parts):
    """A checkpoint of a small language model, some parts of which are others."""
    codec = CharacterCodec.train(["abc"]).to_config()
    model = LanguageModel(stack={"cell": "gru", "hidden_size": 4}, embedding_size=4, codec=codec)
    contents = {"hybridgen_model": "LanguageModel", "options": dict(model.options), "codec": codec}
    contents |= {"state_dict": model.state_dict(), **parts}
    torch.save(contents, path)
    return path


ROLLS = PianoRollCodec().to_config()
MISFITS = {
    "codec": ({"codec": 5}, "its codec is a int: give a file that hybridgen fit wrote"),
    "options": ({"options": ["a"]}, "its options is a list"),
    "weights": ({"state_dict": ["a"]}, "its state_dict is a list"),
    "resume": ({"hybridgen_resume": ["a"]}, "its hybridgen_resume is a list"),
    "codec of another kind": ({"codec": ROLLS}, "does not fit this version of hybridgen's LanguageModel: "),
    "no such codec": ({"codec": {"codec": "morse", "version": 1}}, "there is no codec 'morse'"),
    "other option": ({"options": {"stacks": 3}}, "unexpected keyword argument 'stacks'"),
    "fewer weights": ({"state_dict": {}}, "LanguageModel: embedding.weight is not in the checkpoint"),
    "other sizes": ({"state_dict": "larger"}, "embedding.weight is (9, 4) in the checkpoint and (3, 4) in the model"),
    "no weights": ({"state_dict": "numbers"}, "some of its weights are no tensors"),
}


@pytest.mark.parametrize(("parts", "said"), MISFITS.values(), ids=MISFITS)
def test_parts_that_do_not_fit_are_named(parts, said, tmp_path):
    path = malformed(tmp_path / "odd.ckpt")
    weights = read(path)["state_dict"]
    states = {"larger": weights | {"embedding.weight": torch.ones(9, 4)}, "numbers": dict.fromkeys(weights, 1.0)}
    state = parts.get("state_dict")
    malformed(path, **(parts | {"state_dict": states[state]} if isinstance(state, str) else parts))
    for command in (["sample", "--ckpt", path], ["score", "--ckpt", path, __file__]):
        sentence = mistake(hybridgen(*command, cwd=tmp_path))
        assert f"{path} " in sentence
        assert said in sentence
        assert not sentence.endswith(":")


def test_show_tells_of_every_file_whatever_the_others_are(tmp_path):
    good = malformed(tmp_path / "good.ckpt")
    metrics = {"val/loss": torch.tensor(float("nan")), "val/other": torch.tensor([1.0, 2.0])}
    odd = malformed(
        tmp_path / "odd.ckpt",
        options={"weights": torch.ones(2), "scale": float("inf"), 3: {"a": (1, 2)}},
        hybridgen_resume={"metrics": metrics, "ranks": 5},
        state_dict={"a": 5, "b": torch.ones(3)},
    )
    broken = [malformed(tmp_path / f"{name}.ckpt", **parts) for name, (parts, _) in list(MISFITS.items())[:4]]
    (tmp_path / "empty").mkdir()
    files = [tmp_path / "empty", "x" * 300, *broken, odd, tmp_path / "none.ckpt", good]
    shown = hybridgen("checkpoint", "show", *files, cwd=tmp_path)
    assert shown.returncode == 2
    assert shown.stdout.count("LanguageModel") == 2
    told = shown.stderr.splitlines()
    assert len(told) == len(files) - 2
    assert all(line.startswith("hybridgen: error: ") for line in told)
    assert "there is no checkpoint in" in told[0]
    assert "File name too long" in told[1]

    as_json = hybridgen("checkpoint", "show", *files, "--json", cwd=tmp_path)
    rows = [json.loads(line, parse_constant=pytest.fail) for line in as_json.stdout.splitlines()]
    assert [row["file"] for row in rows] == list(map(str, files))
    found = rows[-3]
    assert found["metrics"] == {"val/loss": None, "val/other": "a Tensor"}
    assert found["options"] == {"weights": "a Tensor", "scale": None, "3": {"a": [1, 2]}}
    assert (found["weights"], found["tensors"], found["processes"]) == (3, 1, 1)


def test_a_file_that_cannot_be_read_is_not_taken_for_another_kind(tmp_path, monkeypatch):
    path, plain = malformed(tmp_path / "secret.ckpt"), Path.open

    def refuse(self, *arguments, **options):
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return plain(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    sentence = mistake(hybridgen("sample", "--ckpt", path, cwd=tmp_path))
    assert f"{path} cannot be read (Permission denied): check the path and its permissions" in sentence
