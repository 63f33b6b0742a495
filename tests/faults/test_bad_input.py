"""The table of bad input: every row is a file or an option with something wrong in it, and what the command says.

Through the real command, in this process. Readers have tests of their own beside them; here it is the sentence and the
exit code that count, and that nothing is left behind. What is only strange must work.
"""

import io
import os
import socket
from types import SimpleNamespace

import mido
import numpy as np
import pytest
from command_line import hybridgen

from . import inputs
from .inputs import LINES, PROSE, ROLLS, SENTENCE, SERIES, SOUNDS, TEXT, numbers, table, tone, wav_bytes, write


def command(folder, *arguments):
    """The command in this process, in a folder: exit code and what it said."""
    found = hybridgen(*arguments, cwd=folder)
    return SimpleNamespace(code=found.returncode, out=found.stdout, err=found.stderr)


def fit(folder, config, *options, source="in"):
    write(folder / "small.yaml", config.replace("SOURCE", source))
    return command(folder, "fit", "--config", "small.yaml", "--wandb", "off", *options)


def said(finished):
    """The one sentence of exit code 2."""
    assert finished.code == 2, finished.err
    assert "Traceback" not in finished.err
    last = finished.err.strip().splitlines()[-1]
    assert last.startswith("hybridgen: error: ")
    return last


# Text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        (PROSE.encode("utf-16"), "in.txt is not UTF-8 text: byte 0xFF at offset 0"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "in.txt is not UTF-8 text: byte 0x89 at offset 0"),
        (PROSE.encode() + b"\xe6\xbc", "in.txt is not UTF-8 text: "),
        (b"   \n\n \n", "in.txt of 7 bytes is too short to divide"),
    ],
    ids=["utf-16", "picture", "cut within a character", "blank"],
)
def test_texts(contents, sentence, tmp_path):
    write(tmp_path / "in.txt", contents)
    assert sentence in said(fit(tmp_path, TEXT, source="in.txt"))


def test_texts_in_a_folder(tmp_path):
    write(tmp_path / "in" / "notes.md", PROSE)
    assert "no file that matches pattern='*.txt': set pattern" in said(fit(tmp_path, TEXT))
    for part in ("train", "valid", "test"):
        write(tmp_path / "in" / f"{part}.txt", PROSE + ("漢\n" if part == "valid" else ""))
    assert "valid.txt cannot be encoded: " in said(fit(tmp_path, TEXT))
    write(tmp_path / "in" / "valid.txt", PROSE)
    assert "0 lines of at most max_length=5 tokens" in said(fit(tmp_path, LINES, "--data.max_length", 5))


STRANGE_TEXTS = {
    "byte order mark and CRLF": b"\xef\xbb\xbf" + PROSE.replace("\n", "\r\n").encode(),
    "zero bytes": PROSE.encode() + b"\0\0\0" + PROSE.encode(),
    "one long line": b"word " * 40_000,
}


@pytest.mark.parametrize("contents", STRANGE_TEXTS.values(), ids=STRANGE_TEXTS)
def test_texts_that_are_only_strange(contents, tmp_path):
    write(tmp_path / "in.txt", contents)
    finished = fit(tmp_path, TEXT, source="in.txt")
    assert finished.code == 0, finished.err


def test_lines_that_are_empty(tmp_path):
    write(tmp_path / "in.txt", (SENTENCE + "\n\n") * 30)
    assert fit(tmp_path, LINES, source="in.txt").code == 0


# Tables -----------------------------------------------------------------------------------------------------------

TABLES = {
    "long row": (table(numbers()) + "1,2,3\n", "in.csv, line 62: it has 3 cells but the table has 2 columns"),
    "short row": (table(numbers()) + "1\n", "in.csv, line 62: it has 1 cells but the table has 2 columns"),
    "infinite": (table([*numbers(), ["inf", "1"]]), "in.csv, line 62, column 'a': 'inf' is not finite"),
    "word": (table([*numbers(), ["high", "1"]]), "in.csv, line 62, column 'a': 'high' is not a number"),
    "header alone": ("a,b\n", "in.csv has a header but no rows"),
    "empty": ("", "in.csv is empty"),
    "three rows": (table(numbers(3)), "window=4 is longer than the train part of any series"),
    "double name": (table(numbers(), header=("a", "a")), "in.csv, line 1: the header has 'a' twice"),
    "semicolons": (table(numbers()).replace(",", ";"), "set delimiter to ';'"),
    "utf-16": (table(numbers()).encode("utf-16"), "in.csv, line 1, cell 1: byte 0xFF is not UTF-8 text"),
}


@pytest.mark.parametrize(("contents", "sentence"), TABLES.values(), ids=TABLES)
def test_tables(contents, sentence, tmp_path):
    write(tmp_path / "in.csv", contents)
    assert sentence in said(fit(tmp_path, SERIES, source="in.csv"))


@pytest.mark.parametrize(
    "rows", [[[a, "3"] for a, _ in numbers()], [*numbers()[:9], ["nan", "1"], ["", "1"], *numbers()[9:]]],
    ids=["constant column", "missing cells"],
)  # fmt: skip
def test_tables_that_are_only_strange(rows, tmp_path):
    write(tmp_path / "in.csv", table(rows))
    finished = fit(tmp_path, SERIES, source="in.csv")
    assert finished.code == 0, finished.err


# Sounds -----------------------------------------------------------------------------------------------------------

BROKEN = tone()
BROKEN[8] = np.nan
WAVS = {
    "no frames": (inputs.wav_of_no_frames(), "odd.wav has no samples"),
    "cut short": (wav_bytes(tone())[:3000], "odd.wav is cut short (5044 bytes fewer than its header says)"),
    "no number": (wav_bytes(BROKEN, subtype="FLOAT"), "odd.wav has a sample that is not finite, at 0.001 s"),
    "text": (b"this is no sound", "odd.wav cannot be read as a sound"),
    "empty": (b"", "odd.wav is empty"),
}


@pytest.mark.parametrize(("contents", "sentence"), WAVS.values(), ids=WAVS)
def test_sounds(contents, sentence, tmp_path):
    inputs.sounds(tmp_path / "in", 3)
    write(tmp_path / "in" / "odd.wav", contents)
    assert sentence in said(fit(tmp_path, SOUNDS))


def test_sounds_that_are_only_strange(tmp_path):
    """Two channels, another rate, eight bits, silence, a click; and so few that one is left for validation."""
    inputs.sounds(tmp_path / "in", 3)
    strange = {
        "stereo": wav_bytes(np.stack([tone(), tone()], 1)),
        "rate": wav_bytes(tone(rate=16000), 16000),
        "bits": wav_bytes(tone(), subtype="PCM_U8"),
        "silent": wav_bytes(np.zeros(4000)),
        "click": wav_bytes(tone(0.001)),
    }
    for name, contents in strange.items():
        write(tmp_path / "in" / f"{name}.wav", contents)
    finished = fit(tmp_path, SOUNDS)
    assert finished.code == 0, finished.err
    assert (tmp_path / "runs" / "small" / "0" / "checkpoints" / "last.ckpt").is_file()


# Music ------------------------------------------------------------------------------------------------------------


def silent_tune():
    file, out = mido.MidiFile(), io.BytesIO()
    file.tracks.append(mido.MidiTrack())
    file.save(file=out)
    return out.getvalue()


TUNES = {
    "text": (b"no music", "odd.mid is no MIDI file, or damaged"),
    "empty": (b"", "odd.mid is no MIDI file, or damaged"),
    "no notes": (silent_tune(), "odd.mid has no notes between keys 21 and 108"),
}


@pytest.mark.parametrize(("contents", "sentence"), TUNES.values(), ids=TUNES)
def test_tunes(contents, sentence, tmp_path):
    inputs.tunes(tmp_path / "in", 3)
    write(tmp_path / "in" / "odd.mid", contents)
    assert sentence in said(fit(tmp_path, ROLLS))


def test_tunes_that_are_cut_short_or_out_of_range(tmp_path):
    inputs.tunes(tmp_path / "in", 6)
    whole = (tmp_path / "in" / "0.mid").read_bytes()
    write(tmp_path / "in" / "odd.mid", whole[:60])
    assert "odd.mid is no MIDI file, or damaged (it ends too soon)" in said(fit(tmp_path, ROLLS))
    inputs.tunes(tmp_path / "in", 6, key=110)
    write(tmp_path / "in" / "odd.mid", whole)
    assert "has no notes between keys 21 and 108" in said(fit(tmp_path, ROLLS))
    inputs.tunes(tmp_path / "one", 1)
    assert "too few to divide" in said(fit(tmp_path, ROLLS, source="one"))


# Configurations ---------------------------------------------------------------------------------------------------

MODEL = "model:\n  class_path: hybridgen.models.LanguageModel\n"
CONFIGS = {
    "bracket": ("model: {a: [1\n", "small.yaml is not YAML at line 2"),
    "list": ("- a\n- b\n", "small.yaml holds a list, not options"),
    "word": ("hello\n", "small.yaml holds a str, not options"),
    "tab": ("model:\n\tclass_path: x\n", "small.yaml is not YAML at line 2, column 1"),
    "empty": ("\n", "small.yaml is empty"),
    "binary": ("\0\1\2", "small.yaml is not YAML"),
    "class": ("model:\n  class_path: hybridgen.models.LanguageModle\n", "did you mean 'LanguageModel'"),
    "module": ("model:\n  class_path: nowhere.Model\n", "there is no module 'nowhere'"),
    "no data": (MODEL, "there is no data: give a configuration with data"),
}


@pytest.mark.parametrize(("config", "sentence"), CONFIGS.values(), ids=CONFIGS)
def test_configurations(config, sentence, tmp_path):
    assert sentence in said(fit(tmp_path, config))
    assert {p.name for p in tmp_path.iterdir()} == {"small.yaml"}


# The trainer and the machine ---------------------------------------------------------------------------------------

OPTIONS = {
    "no such GPU": (TEXT, ["--trainer.accelerator", "gpu"], "trainer.accelerator is gpu, but torch sees no GPU"),
    "no device": (TEXT, ["--trainer.devices", "0"], "trainer.devices is 0: give"),
    "steps": (TEXT, ["--trainer.max_steps", "-5"], "`max_steps` must be a non-negative integer or -1"),
    "nodes": (TEXT, ["--trainer.num_nodes", "2"], "nothing has started the other nodes"),
    "runs": (TEXT, ["--runs", "/proc/runs"], "the run folder /proc/runs/small/0 cannot be made"),
    "fsdp": (TEXT, ["--trainer.strategy", "fsdp"], "trainer.strategy is fsdp, which needs GPUs: use ddp"),
    "rate": (TEXT, ["--model.learning_rate", "nan"], "learning_rate is nan"),
    "accumulation": (
        SERIES,
        ["--trainer.accumulate_grad_batches", "2"],
        "trainer.accumulate_grad_batches is not for SequenceGAN, which steps its optimisers itself: use "
        "model.accumulate_batches",
    ),
    "clipping": (SERIES, ["--trainer.gradient_clip_val", "2"], "use model.gradient_clip_val"),
}


@pytest.mark.parametrize(("config", "options", "sentence"), OPTIONS.values(), ids=OPTIONS)
def test_options(config, options, sentence, tmp_path):
    write(tmp_path / "in.txt", PROSE)
    write(tmp_path / "in.csv", table(numbers()))
    source = "in.csv" if config is SERIES else "in.txt"
    if sentence.startswith("trainer.accelerator") and _has_gpu():
        pytest.skip("this machine has a GPU")
    assert sentence in said(fit(tmp_path, config, *options, source=source))


def _has_gpu():
    import torch

    return torch.cuda.is_available()


def test_a_port_that_is_taken(tmp_path, monkeypatch):
    write(tmp_path / "in.txt", PROSE)
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        monkeypatch.setenv("MASTER_PORT", str(other.getsockname()[1]))
        sentence = said(fit(tmp_path, TEXT, "--trainer.devices", "2", source="in.txt"))
    assert f"MASTER_PORT is {os.environ['MASTER_PORT']}, which is taken" in sentence
    monkeypatch.setenv("MASTER_PORT", "many")
    assert "MASTER_PORT is 'many'" in said(fit(tmp_path, TEXT, "--trainer.devices", "2", source="in.txt"))


def test_no_network(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    sentence = said(command(tmp_path, "data", "ptb", "--to", "here"))
    assert "cannot be reached" in sentence
    assert "hybridgen data ptb --from DIR" in sentence
    assert not list(tmp_path.rglob("*.txt"))


def test_numbers_that_overflow_end_the_run_and_leave_no_checkpoint_of_them(tmp_path):
    write(tmp_path / "in.txt", PROSE)
    huge = ["--model.learning_rate", "1e38", "--model.optimizer", "sgd", "--model.warmup_steps", "0"]
    sentence = said(fit(tmp_path, TEXT, *huge, "--trainer.max_steps", "40", source="in.txt"))
    assert "training diverged: the weights of " in sentence
    assert "lower learning_rate" in sentence
    assert not list((tmp_path / "runs").rglob("*.ckpt"))
