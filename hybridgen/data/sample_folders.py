"""Folders that samples are written to, each to a file of its own."""

from __future__ import annotations

import re
from pathlib import Path

from hybridgen.data.errors import DataError

_SAMPLE = re.compile(r"sample-\d+\.\w+")


def sample_paths(folder: Path, number: int, suffix: str) -> list[Path]:
    """Make a folder and return where its samples go: ``sample-0`` and so on.

    Samples of the same names are replaced. Others would stand among the new ones as if they were of them; since they
    may be all that somebody has of a model, they are not removed.

    Args:
        folder: Made where it is not there.
        number: Of samples.
        suffix: Of each, such as ``.png``.

    Raises:
        DataError: The folder cannot be made, or holds other samples.
    """
    paths = [folder / f"sample-{place}{suffix}" for place in range(number)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted(path for path in folder.iterdir() if _SAMPLE.fullmatch(path.name) and path not in set(paths))
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be made ({error.strerror or error}): choose another") from None
    if others:
        raise DataError(
            f"{folder} holds {others[0].name}, an older sample that is none of the {number} to be written: choose a "
            "new folder, or remove it"
        )
    return paths
