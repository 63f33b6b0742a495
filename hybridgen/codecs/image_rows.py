"""The codec of images: grey pictures of one size to sequences of rows, from top to bottom, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybridgen.codecs.checks import check_count
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.labels import check_labels
from hybridgen.codecs.saving import SavedCodec


class ImageRowsCodec(SavedCodec):
    """Images as rows ``(H, W)`` of numbers from 0 (black) to 1 (white), on equidistant levels.

    Args:
        height: H, rows of an image: elements of a sequence.
        width: W, pixels of a row: features of an element.
        levels: how many values a pixel can have: 2 is black and white, 256 is all of an 8-bit image.
        labels: The names of the classes, in the order of their numbers.

    Raises:
        CodecError: An argument is not as described.
    """

    name = "image_rows"

    def __init__(self, *, height: int, width: int, levels: int = 256, labels: Sequence[str] = ()) -> None:
        self.height = check_count(height, "height", 1)
        self.width = check_count(width, "width", 1)
        self.levels = check_count(levels, "levels", 2)
        if levels > 256:
            raise CodecError(f"levels={levels} is more than an 8-bit image has: give at most 256")
        self.labels = check_labels(labels)

    @property
    def num_features(self) -> int:
        """Width of a row."""
        return self.width

    @property
    def usual_length(self) -> int:
        """How many elements a sample has, where nobody says: the rows of an image."""
        return self.height

    def quantise(self, values: np.ndarray) -> np.ndarray:
        """Numbers in 0 to 1, any shape, at the nearest level; float32."""
        top = self.levels - 1
        return (np.floor(np.clip(values, 0, 1) * top + 0.5) / top).astype(np.float32)

    def encode(self, image: str | Path | np.ndarray) -> Tensor:
        """Turn an image into rows.

        Args:
            image: The path of an image file, colours of which become grey, or an array ``(H, W)``: uint8 from 0 to
                255, or floats from 0 to 1.

        Returns:
            ``(H, W)`` float32.

        Raises:
            CodecError: The file is not there, is no image or damaged, or the size is another.
        """
        name = f"the image {image}" if isinstance(image, str | Path) else "the image"
        array = read_grey(Path(image)) if isinstance(image, str | Path) else np.asarray(image)
        if array.shape != (self.height, self.width):
            size = f"{array.shape[1]} x {array.shape[0]}" if array.ndim == 2 else f"of shape {array.shape}"
            raise CodecError(f"{name} is {size}, not {self.width} x {self.height} pixels: resize it")
        scaled = array / 255 if array.dtype == np.uint8 else array
        return torch.from_numpy(self.quantise(np.asarray(scaled, dtype=np.float64)))

    def decode(self, rows: Tensor | np.ndarray) -> np.ndarray:
        """Turn rows into an image.

        Args:
            rows: ``(T, W)``, on any device; any number of rows.

        Returns:
            ``(T, W)`` uint8, from 0 to 255.

        Raises:
            CodecError: The shape does not fit, or a number is not finite.
        """
        array = rows.detach().float().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
        if array.ndim != 2 or array.shape[1] != self.width or not len(array):
            raise CodecError(f"an image has the shape (T, {self.width}) but this one {array.shape}: give one at a time")
        if not np.isfinite(array).all():
            raise CodecError("the image has numbers that are not finite: it cannot be written")
        return np.floor(self.quantise(array) * 255 + 0.5).astype(np.uint8)

    def _options(self) -> dict[str, Any]:
        return {"height": self.height, "width": self.width, "levels": self.levels, "labels": list(self.labels)}

    def __repr__(self) -> str:
        return (
            f"ImageRowsCodec({self.height} rows of {self.width}, levels={self.levels}, num_labels={len(self.labels)})"
        )


def read_grey(path: Path) -> np.ndarray:
    """Read an image file as ``(H, W)`` uint8; what is transparent is black, of 16 bits the upper 8 are taken.

    Raises:
        CodecError: There is no such file, it is no image, or its pixels have more than 16 bits.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):
                deep = np.asarray(image)
                return np.where(deep == image.info.get("transparency", -1), 0, deep >> 8).astype(np.uint8)
            if image.mode in ("I", "F"):
                raise CodecError(f"{path} has pixels of 32 bits (mode {image.mode}): save it with 8 or 16 bits")
            if image.has_transparency_data or "A" in image.getbands():
                black = Image.new("RGBA", image.size, (0, 0, 0, 255))
                image = Image.alpha_composite(black, image.convert("RGBA"))
            return np.asarray(image.convert("L"))
    except CodecError:
        raise
    except FileNotFoundError:
        raise CodecError(f"there is no image {path}: give the path of one") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise CodecError(f"{path} is no image, or damaged ({reason}): use another copy") from None
