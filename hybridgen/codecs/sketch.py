"""The codec of sketches: moves of a pen to elements of a model and back.

The files of Sketch-RNN (Ha & Eck 2017, arXiv:1704.03477) hold a sketch as "stroke-3": ``(dx, dy, lifted)`` for each
point, where the pen goes by (dx, dy) from the point before and is then lifted (1) or stays down (0). A model reads
"stroke-5", ``(dx, dy, p1, p2, p3)``: it draws on (p1), it is lifted after this point (p2), the sketch has ended (p3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybridgen.codecs.checks import check_count
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.labels import check_labels
from hybridgen.codecs.saving import SavedCodec


class SketchCodec(SavedCodec):
    """Sketches as elements ``(N + 1, 5)``, the last of which says that it has ended.

    Args:
        scale: What moves are divided by: their standard deviation in training, so that those of a model have 1.
        max_length: Elements of the longest sketch in training, its end included: where samples stop at the latest.
        labels: The names of the classes, in the order of their numbers.

    Raises:
        CodecError: An argument is not as described.
    """

    name = "sketch"

    def __init__(self, *, scale: float = 1.0, max_length: int = 251, labels: Sequence[str] = ()) -> None:
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
            raise CodecError(f"scale={scale!r} must be a number above 0: give the moves' standard deviation")
        self.scale = float(scale)
        self.max_length = check_count(max_length, "max_length", 2)
        self.labels = check_labels(labels)

    @property
    def num_features(self) -> int:
        """Width of an element."""
        return 5

    @property
    def usual_length(self) -> int:
        """How many elements a sample has at most, where nobody says."""
        return self.max_length

    def encode(self, strokes: np.ndarray) -> Tensor:
        """Turn moves of the pen into elements.

        Args:
            strokes: ``(N, 3)``, N at least 1.

        Returns:
            ``(N + 1, 5)`` float32.

        Raises:
            CodecError: The shape does not fit, a move is not finite, or a pen is neither lifted nor down.
        """
        array = check_strokes(strokes, "the sketch")
        elements = np.zeros((len(array) + 1, 5), dtype=np.float32)
        elements[:-1, :2] = array[:, :2] / self.scale
        elements[:-1, 2], elements[:-1, 3] = 1 - array[:, 2], array[:, 2]
        elements[-1, 4] = 1
        return torch.from_numpy(elements)

    def decode(self, elements: Tensor | np.ndarray) -> np.ndarray:
        """Turn elements into moves of the pen, up to where the sketch ends.

        Args:
            elements: ``(T, 5)``, on any device; of the pen's states the largest counts.

        Returns:
            ``(N, 3)`` float32: none for a sketch that ends at once.

        Raises:
            CodecError: The shape does not fit, or a number is not finite.
        """
        array = elements.detach().float().cpu().numpy() if isinstance(elements, Tensor) else np.asarray(elements)
        if array.ndim != 2 or array.shape[1] != 5:
            raise CodecError(f"a sketch has the shape (T, 5) but this one {array.shape}: give one at a time")
        if not np.isfinite(array).all():
            raise CodecError("the sketch has numbers that are not finite: it cannot be drawn")
        states = array[:, 2:].argmax(1)
        ends = np.flatnonzero(states == 2)
        length = int(ends[0]) if len(ends) else len(array)
        return np.column_stack([array[:length, :2] * self.scale, states[:length] == 1]).astype(np.float32)

    def lines(self, elements: Tensor | np.ndarray) -> list[np.ndarray]:
        """The lines that the pen draws, each as its points ``(P, 2)``, P at least 1; y goes down, as on a screen."""
        strokes = self.decode(elements)
        if not len(strokes):
            return []
        points = strokes[:, :2].cumsum(0)
        last = np.flatnonzero(strokes[:, 2] > 0.5) + 1
        return [line for line in np.split(points, last) if len(line)]

    def _options(self) -> dict[str, Any]:
        return {"scale": self.scale, "max_length": self.max_length, "labels": list(self.labels)}

    def __repr__(self) -> str:
        return f"SketchCodec(scale={self.scale:.4g}, max_length={self.max_length}, num_labels={len(self.labels)})"


def check_strokes(strokes: object, name: str) -> np.ndarray:
    """Return moves of the pen as float64 ``(N, 3)``.

    Raises:
        CodecError: They are none; the message begins with the name.
    """
    array = np.asarray(strokes)
    if array.ndim != 2 or array.shape[1] != 3 or not len(array) or array.dtype.kind not in "biuf":
        raise CodecError(f"{name} has the shape {array.shape}, not (points, 3) with dx, dy and lifted: use another one")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise CodecError(f"{name} has a move that is not finite: use another one")
    if not np.isin(array[:, 2], (0, 1)).all():
        raise CodecError(f"{name} has a pen that is neither lifted (1) nor down (0): use another one")
    return array
