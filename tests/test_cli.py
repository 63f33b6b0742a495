"""What `hybridgen` makes of errors that no command has put into words, and of how it was started."""

import errno
import io
import sys

import pytest

from hybridgen.cli import main


def refused(number, name="a/b.txt"):
    return OSError(number, "as the system says", name)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (refused(errno.ENOSPC), "a/b.txt cannot be written (as the system says): make room"),
        (refused(errno.EACCES), "a/b.txt cannot be opened (as the system says): check the path and its permissions"),
        (refused(errno.ENOTDIR), "a/b.txt cannot be opened (as the system says)"),
        (refused(errno.EISDIR), "a/b.txt cannot be opened (as the system says)"),
        (refused(errno.ENAMETOOLONG, b"a"), "a cannot be opened (as the system says)"),
        (refused(errno.ENOENT), "there is no file or folder a/b.txt: check the path"),
        (FileNotFoundError("the experiments are missing"), "the experiments are missing"),
        (ValueError("--k is 0"), "--k is 0"),
        (MemoryError(), "memory ran out: ask for less at a time"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory ran out: ask for less"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "memory ran out: ask for less"),
    ],
)
def test_errors_of_the_system_are_one_sentence(error, sentence, monkeypatch, capsys):
    def run(arguments):
        raise error

    monkeypatch.setattr("hybridgen.commands.runs.run", run)
    assert main(["runs"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"hybridgen: error: {sentence}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no file is named"), RuntimeError("of ours"), KeyError("x")])
def test_errors_of_ours_are_not_hidden(error, monkeypatch):
    def run(arguments):
        raise error

    monkeypatch.setattr("hybridgen.commands.runs.run", run)
    with pytest.raises(type(error)):
        main(["runs"])


def test_any_character_can_be_written_whatever_the_stream_claims(monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="cp1252") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setattr("hybridgen.commands.runs.run", lambda arguments: print("漢 ħ \udc80") or 0)
    assert main(["runs"]) == 0
    streams[0].flush()
    assert streams[0].buffer.getvalue().decode() == "漢 ħ \\udc80\n"
    assert streams[1].encoding == "utf-8"


def test_a_stream_that_speaks_utf8_is_left_alone(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="UTF8", errors="ignore")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["--version"]) == 0
    assert (stream.encoding, stream.errors) == ("UTF8", "ignore")
