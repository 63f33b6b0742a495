"""The command `hybridgen`.

Nothing heavy is imported before it is known what is wanted: help, version and typing errors answer at once.
"""

import sys
from collections.abc import Sequence

from hybridgen.closest import did_you_mean

COMMANDS = {
    "fit": "train a model: hybridgen fit --config experiments/language_model/embedded.yaml",
    "validate": "evaluate on the validation data",
    "test": "evaluate on the test data, by every protocol of the data",
    "predict": "run a model over data",
    "sample": "write new text: hybridgen sample --ckpt RUN/checkpoints/best.ckpt --prompt 'Once'",
    "score": "nats and bits of a text under a model: hybridgen score --ckpt CKPT FILE",
    "data": "get a public data set: hybridgen data ptb [--from DIR]",
}

HELP = "\n".join(
    [
        "usage: hybridgen COMMAND [options]          hybridgen COMMAND --help says more",
        "",
        *(f"  {name:10}{text}" for name, text in COMMANDS.items()),
        "",
        "  --version   print the version",
    ]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0, or 2 for a user's mistake, told in one sentence)."""
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
    except (ValueError, FileNotFoundError) as error:
        # Every error of a user's making is one of these, its message one sentence; anything else is ours.
        from hybridgen.commands.options import one_sentence

        return _complain(one_sentence(str(error)))
    except BrokenPipeError:
        return 0


def _run(command: str, rest: list[str]) -> int:
    if command == "data":
        from hybridgen.commands.data import run
    elif command == "sample":
        from hybridgen.commands.sample import run
    elif command == "score":
        from hybridgen.commands.score import run
    else:
        from hybridgen.commands.training import run

        return run([command, *rest])
    return run(rest)


def _complain(message: str) -> int:
    print(f"hybridgen: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
