"""An argument parser whose errors are one sentence that names the closest option."""

import argparse
import difflib
import re
import sys
from pathlib import Path
from typing import NoReturn

#: Samples, or steps of an interpolation, that one command makes: what is above is a slip of the hand.
MOST = 1_000_000


def check_number(name: str, value: int, least: int, *, most: int = MOST, why: str = "") -> None:
    """Refuse a count that is too small, or so large that no memory holds what is asked for.

    Args:
        name: of the option, for messages.
        value: what was given.
        least: the smallest that makes sense.
        most: the largest.
        why: what the smallest is, for messages.

    Raises:
        ValueError: if it is not between the two.
    """
    if value < least:
        raise ValueError(f"{name} is {value}: give at least {least}{why}")
    if value > most:
        raise ValueError(f"{name} is {value}: give at most {most}")


def at_home(path: str | Path, option: str) -> Path:
    """A path whose ``~``, which a shell leaves alone in ``--out=~/x``, is the user's own folder.

    Raises:
        ValueError: if nobody is called what stands after ``~``.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{option}: {path} is in the folder of a user whom this machine does not know") from None


def read_text(path: str, option: str) -> str:
    """What a UTF-8 file of text holds, without a byte-order mark.

    Raises:
        ValueError: if there is no such file, or it is not UTF-8.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{option}: there is no file {path}")
    try:
        return file.read_text(encoding="utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{option}: {path} is not UTF-8 at byte {error.start}: convert it first") from None


def check_out_folder(out: str | None) -> None:
    """Refuse a folder that cannot be made, because a file is in its place, before anything is computed.

    Raises:
        ValueError: naming the file.
    """
    if out is None:
        return
    folder = at_home(out, "--out")
    file = next((place for place in (folder, *folder.parents) if place.is_file()), None)
    if file is not None:
        raise ValueError(f"--out: {file} is a file: give a folder")


def check_out_file(out: str | None, option: str = "--out") -> None:
    """Refuse a file that could not be written before anything is computed.

    Raises:
        ValueError: if its folder does not exist, or it is a folder itself.
    """
    if out is None:
        return
    file = at_home(out, option)
    if file.is_dir():
        raise ValueError(f"{option}: {out} is a folder: give the path of a file")
    check_folder_above(file, option)


def check_folder_above(path: Path, option: str = "--out") -> None:
    """Refuse a file or folder to write whose own folder there is not.

    Raises:
        ValueError: if there is no such folder.
    """
    if not path.resolve().parent.is_dir():
        raise ValueError(f"{option}: there is no folder {path.parent}: make it first")


def one_sentence(message: str) -> str:
    """The sentence that says what is wrong, out of a message that also tells how it was found.

    jsonargparse wraps the error of a class in a list of everything it tried, and prints the whole configuration.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if "Given value type" in message:
        whole: list[str] = []
        for line in lines:
            if whole and whole[-1].startswith("- ") and whole[-1].endswith(":"):
                whole[-1] += f" {line.removeprefix('- ')}"  # what was tried, and what came of it
            else:
                whole.append(line)
        tried = [
            line[2:] for line in whole if line.startswith("- ") and not line.startswith("- Expected a <class 'None")
        ]
        lines = tried[-1:] or lines[:1]
    return re.sub(r'^Parser key "[^"]*": ', "", " ".join(lines))


class Parser(argparse.ArgumentParser):
    """Errors are one sentence, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print one sentence and leave."""
        unknown = message.partition("unrecognized arguments: ")[2].split()
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            close = difflib.get_close_matches(unknown[0].split("=")[0], known, 1)
            message = f"there is no option {unknown[0]!r}" + (f": did you mean {close[0]!r}?" if close else "")
        print(f"hybridgen: error: {message}", file=sys.stderr)
        raise SystemExit(2)
