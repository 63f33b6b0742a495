"""The idx format, in which MNIST and its relatives are published; gzipped or not.

A file is a magic number (two zeros, the type of its numbers, how many dimensions), each dimension as four bytes, big
end first, and then the numbers. Images are unsigned bytes in three dimensions, labels in one.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from hybridgen.data.errors import DataError

_UNSIGNED_BYTES = 8
_MOST = 1 << 31  # bytes: a damaged head can claim anything


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an idx file of unsigned bytes.

    Args:
        path: The file.
        dimensions: How many it must have: 3 for images, 1 for labels.

    Returns:
        uint8, of the shape that the file says.

    Raises:
        DataError: It is no such file, or cut short.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): give an idx file") from None
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise DataError(f"{path} is a damaged gzip file: get another copy") from None
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{path} is no idx file: give one such as train-images-idx3-ubyte.gz")
    kind, found = content[2], content[3]
    if kind != _UNSIGNED_BYTES or found != dimensions:
        what = "images (three dimensions)" if dimensions == 3 else "labels (one dimension)"
        raise DataError(f"{path} has {found} dimensions of type {kind}: {what} of unsigned bytes (8) are read")
    head = 4 + 4 * found
    if len(content) < head:
        raise DataError(f"{path} is cut short in its head: get another copy")
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=found, offset=4))
    size = math.prod(shape)
    if size > _MOST or len(content) - head != size:
        raise DataError(f"{path} says {size} bytes but has {len(content) - head}: get another copy")
    return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(shape)


def find_idx(folder: Path) -> dict[str, tuple[Path, Path | None]]:
    """Find the images, and labels where there are some, of the parts ``train`` and ``test`` in a folder.

    Names are those of MNIST: ``train-images-idx3-ubyte`` and ``t10k-images-idx3-ubyte`` with ``labels-idx1`` beside
    them, a dot instead of the second dash, and ``.gz`` or not.
    """
    found = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = _first(folder, prefix, "images", "idx3")
        if images is not None:
            found[part] = (images, _first(folder, prefix, "labels", "idx1"))
    return found


def _first(folder: Path, prefix: str, what: str, kind: str) -> Path | None:
    for dot in ("-", "."):
        for end in ("", ".gz"):
            path = folder / f"{prefix}-{what}{dot}{kind}-ubyte{end}"
            if path.is_file():
                return path
    return None
