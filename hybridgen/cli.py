"""The command `hybridgen`.

Nothing heavy is imported before it is known what is wanted: help, version and typing errors answer at once.
"""

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from hybridgen.closest import did_you_mean

#: What `hybridgen --help` lists. A new command is a line here and `run(arguments) -> exit code` in the module
#: `hybridgen/commands/NAME.py`, which imports what is heavy only after it has parsed its arguments.
COMMANDS = {
    "fit": "train a model: hybridgen fit --config experiments/language_model/embedded.yaml",
    "validate": "evaluate on the validation data",
    "test": "evaluate on the test data, by every protocol of the data",
    "predict": "write nats and perplexity of each row of a test text",
    "sample": "new text, series, sounds or music: hybridgen sample --ckpt RUN/checkpoints/best.ckpt --prompt 'Once'",
    "score": "nats and bits of a text under a model: hybridgen score --ckpt CKPT FILE",
    "evaluate": "generated series beside real ones: hybridgen evaluate --ckpt CKPT --out FOLDER",
    "reconstruct": "sentences through a text VAE's latent and back: hybridgen reconstruct --ckpt CKPT FILE",
    "interpolate": "the sentences between two: hybridgen interpolate --ckpt CKPT 'one sentence' 'another' --steps 8",
    "arithmetic": "change an attribute: hybridgen arithmetic --ckpt CKPT --plus FILE --minus FILE --on FILE",
    "nearest": "the most similar sentences: hybridgen nearest --ckpt CKPT --corpus FILE 'a sentence' --k 5",
    "play": "a page in the browser to play with models: hybridgen play --ckpt CKPT [CKPT ...]",
    "report": "one HTML file about runs: hybridgen report RUN [RUN ...] --out report.html",
    "runs": "list the runs on this disk",
    "config": "configurations: hybridgen config ls | cat NAME | cp NAME DEST | validate FILE",
    "export": "other forms: hybridgen export --ckpt CKPT --format onnx|torch|safetensors|int8 --out FOLDER",
    "tune": "try options of a configuration: hybridgen tune --space tuning/hidden_size",
    "checkpoint": "is a file whole, and what is in it: hybridgen checkpoint verify|show FILE",
    "data": "get a public data set: hybridgen data ptb [--from DIR]",
    "doctor": "does this installation work, on this machine",
}

#: What the system says where a disk is full, or cannot be written to at all.
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

LIGHTNING_COMMANDS = ("fit", "validate", "test", "predict")

HELP = "\n".join(
    [
        "usage: hybridgen COMMAND [options]          hybridgen COMMAND --help says more",
        "",
        *(f"  {name:13}{text}" for name, text in COMMANDS.items()),
        "",
        "  --version   print the version",
    ]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0, or 2 for a user's mistake, told in one sentence)."""
    _speak_utf8()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    command, rest = arguments[0], arguments[1:]
    if command in ("--version", "version"):
        from hybridgen import __version__

        print(f"hybridgen {__version__}")
        return 0
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS, f"choose one of {', '.join(COMMANDS)}")
        return _complain(f"there is no command {command!r}: {hint}")
    try:
        return _run(command, rest)
    except ValueError as error:
        # Every error of a user's making is one, its message one sentence, or is about a file; anything else is ours.
        from hybridgen.commands.options import one_sentence

        return _complain(one_sentence(str(error)))
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("hybridgen: stopped", file=sys.stderr)
        return 130
    except (OSError, MemoryError, RuntimeError) as error:
        sentence = _of_a_file(error) if isinstance(error, OSError) else _of_memory(error)
        if sentence is None:
            raise
        return _complain(sentence)


def _run(command: str, rest: list[str]) -> int:
    """Lightning's commands are one module; any other command is the module of its name in `hybridgen/commands/`."""
    if command in LIGHTNING_COMMANDS:
        if not {"-h", "--help"}.isdisjoint(rest):
            from hybridgen.commands.training_help import short_help

            print(short_help(command), end="")
            return 0
        rest = ["--help" if argument == "--help_all" else argument for argument in rest]
    from hybridgen.plugins import load_plugins

    load_plugins()
    if command in LIGHTNING_COMMANDS:
        return import_module("hybridgen.commands.training").run([command, *rest])
    return import_module(f"hybridgen.commands.{command}").run(rest)


def _speak_utf8() -> None:
    """Write UTF-8 whatever the terminal or the pipe claims: a sample may hold any character, and must not end here."""
    for stream in (sys.stdout, sys.stderr):
        encoding = str(getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-")
        if encoding not in ("utf-8", "utf8") and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _of_a_file(error: OSError) -> str | None:
    """What a user can do about a file that the system refuses; None where it is about something else."""
    if error.errno in CANNOT_WRITE:
        what = f"{error.filename or 'a file'} cannot be written ({error.strerror})"
        return f"{what}: make room, or give another place for the output"
    if error.filename is None:
        # Our own words, say that the installation is not whole.
        return str(error) if isinstance(error, FileNotFoundError) else None
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    if isinstance(error, FileNotFoundError):
        return f"there is no file or folder {name}: check the path"
    # The error does not tell whether the file was to be read or written.
    return f"{name} cannot be opened ({error.strerror or error}): check the path and its permissions, or give another"


def _of_memory(error: MemoryError | RuntimeError) -> str | None:
    """What a user can do where memory ran out; None where it is another error."""
    said = str(error)  # torch tells of it by a RuntimeError
    if not isinstance(error, MemoryError) and "allocate memory" not in said and "out of memory" not in said:
        return None
    return "memory ran out: ask for less at a time (fewer samples or steps, shorter sequences, a smaller batch_size)"


def _complain(message: str) -> int:
    print(f"hybridgen: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
