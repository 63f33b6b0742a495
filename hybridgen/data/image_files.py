"""Images of a model in files: single pictures, and grids of many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hybridgen.data.errors import DataError
from hybridgen.data.files import whole_file
from hybridgen.data.sample_folders import sample_paths

if TYPE_CHECKING:
    from torch import Tensor

    from hybridgen.codecs import ImageRowsCodec

#: Pixels that the height of a small image is enlarged to in a grid, about.
_CELL = 64


def write_image(array: np.ndarray, path: str | Path) -> None:
    """Write a grey image ``(H, W)`` uint8 as png, whole or not at all.

    Raises:
        DataError: The file cannot be written.
    """
    from PIL import Image

    path = Path(path)
    try:
        with whole_file(path) as (handle, _):
            Image.fromarray(array).save(handle, format="PNG")
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}): choose another folder") from None


def image_grid(images: Sequence[np.ndarray], *, columns: int | None = None) -> np.ndarray:
    """Images side by side and below each other, small ones enlarged.

    Args:
        images: ``(H, W)`` uint8 each, of one width; shorter ones are filled up.
        columns: How many stand side by side. Default: about as many as rows.

    Returns:
        ``(height, width)`` uint8, with grey lines between the images.

    Raises:
        DataError: There is no image.
    """
    if not images:
        raise DataError("there is no image to draw: give at least one")
    columns = columns or max(1, round(len(images) ** 0.5))
    height, width = max(len(image) for image in images), images[0].shape[1]
    scale = max(1, _CELL // max(height, width))
    gap = 2
    rows = -(-len(images) // columns)
    step_down, step_right = height * scale + gap, width * scale + gap
    grid = np.full((rows * step_down + gap, columns * step_right + gap), 96, dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = gap + number // columns * step_down, gap + number % columns * step_right
        large = image.repeat(scale, 0).repeat(scale, 1)
        grid[top : top + len(large), left : left + large.shape[1]] = large
    return grid


def write_images(
    images: Sequence[Tensor | np.ndarray], out: str | Path, codec: ImageRowsCodec, *, columns: int | None = None
) -> list[Path]:
    """Write rows of images for people: what ``hybridgen sample`` does with the samples of a model of images.

    Args:
        images: `(T, W)` each.
        out: ``NAME.png``, which gets one image as it is or a grid of several, or a folder, which gets
            ``sample-0.png``... and the grid ``samples.png``.
        codec: Knows the levels.
        columns: Of the grid.

    Returns:
        The files that were written.

    Raises:
        DataError: A file cannot be written, the folder holds other samples, or its suffix is of another kind.
    """
    out = Path(out).expanduser()
    arrays = [codec.decode(rows) for rows in images]
    if out.suffix.lower() == ".png":
        write_image(arrays[0] if len(arrays) == 1 else image_grid(arrays, columns=columns), out)
        return [out]
    if out.suffix:
        raise DataError(f"{out} has the suffix {out.suffix!r}: images are written to .png or a folder")
    paths = sample_paths(out, len(arrays), ".png")
    for array, path in zip(arrays, paths, strict=True):
        write_image(array, path)
    write_image(image_grid(arrays, columns=columns), out / "samples.png")
    return [*paths, out / "samples.png"]
