"""Sketches in files: drawings as svg and png."""

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

    from hybridgen.codecs import SketchCodec

#: Side of the square that a sketch is drawn into, in the units of the svg.
_CELL = 200.0
_MARGIN = 0.08


def _placed(lines: list[np.ndarray]) -> list[np.ndarray]:
    """Lines scaled to fill the middle of a square of one cell, the longer side deciding."""
    if not lines:
        return []
    points = np.concatenate(lines)
    low, high = points.min(0), points.max(0)
    scale = _CELL * (1 - 2 * _MARGIN) / max(float((high - low).max()), 1e-6)
    return [(line - (low + high) / 2) * scale + _CELL / 2 for line in lines]


def sketch_svg(sketches: Sequence[Tensor | np.ndarray], codec: SketchCodec, *, columns: int | None = None) -> str:
    """Sketches as one svg drawing, several of them in a grid.

    Args:
        sketches: elements `(T, 5)` each.
        codec: Knows their scale.
        columns: How many stand side by side. Default: about as many as rows.

    Raises:
        DataError: There is none.
    """
    if not len(sketches):
        raise DataError("there is no sketch to draw: give at least one")
    columns = columns or max(1, round(len(sketches) ** 0.5))
    rows = -(-len(sketches) // columns)
    width, height = _CELL * min(columns, len(sketches)), _CELL * rows
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}">',
        f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
    ]
    for number, sketch in enumerate(sketches):
        shift = np.array([number % columns, number // columns]) * _CELL
        # A line of one point is a dot: a line to itself with round ends.
        path = " ".join(
            "M" + " L".join(f"{x:.2f},{y:.2f}" for x, y in (line if len(line) > 1 else np.repeat(line, 2, 0)) + shift)
            for line in _placed(codec.lines(sketch))
        )
        parts.append(
            f'<path d="{path}" fill="none" stroke="black" stroke-width="2" stroke-linecap="round" '
            'stroke-linejoin="round"/>'
        )
    return "\n".join([*parts, "</svg>", ""])


def write_svg(
    sketches: Sequence[Tensor | np.ndarray], path: str | Path, codec: SketchCodec, *, columns: int | None = None
) -> None:
    """Write :func:`sketch_svg` to a file, whole or not at all.

    Raises:
        DataError: There is no sketch, or the file cannot be written.
    """
    drawing, path = sketch_svg(sketches, codec, columns=columns), Path(path)
    try:
        with whole_file(path) as (handle, _):
            handle.write(drawing.encode("utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}): choose another folder") from None


def write_picture(
    sketches: Sequence[Tensor | np.ndarray], path: str | Path, codec: SketchCodec, *, columns: int | None = None
) -> None:
    """Draw sketches, ``(T, features)`` each as ``codec`` encodes them, in a grid as ``.png``.

    Raises:
        DataError: There is no sketch, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    if not len(sketches):
        raise DataError("there is no sketch to draw: give at least one")
    columns = columns or max(1, round(len(sketches) ** 0.5))
    rows = -(-len(sketches) // columns)
    figure = Figure(figsize=(1.6 * columns, 1.6 * rows))
    axes = figure.add_axes((0, 0, 1, 1))
    for number, sketch in enumerate(sketches):
        shift = np.array([number % columns, number // columns]) * _CELL
        for line in _placed(codec.lines(sketch)):
            axes.plot(*(line + shift).T, color="black", linewidth=1.2, marker="." if len(line) == 1 else None)
    axes.set_xlim(0, _CELL * columns)
    axes.set_ylim(_CELL * rows, 0)
    axes.axis("off")
    path = Path(path)
    try:
        with whole_file(path) as (handle, _):
            figure.savefig(handle, format="png", dpi=110, facecolor="white")
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}): choose another folder") from None


def write_sketches(
    sketches: Sequence[Tensor | np.ndarray], out: str | Path, codec: SketchCodec, *, columns: int | None = None
) -> list[Path]:
    """Write sketches for people: what ``hybridgen sample`` does with the samples of a model of sketches.

    Args:
        sketches: elements `(T, 5)` each.
        out: ``NAME.svg`` or ``NAME.png`` (all of them in a grid), ``NAME.npz`` (moves of the pen in the format of
            Sketch-RNN's data, under ``train``), or a folder, which gets ``sample-0.svg``... and ``samples.png``.
        codec: Knows their scale.
        columns: Of a grid.

    Returns:
        The files that were written.

    Raises:
        DataError: A file cannot be written, the folder holds other samples, or its suffix is of another kind.
    """
    out = Path(out).expanduser()
    suffix = out.suffix.lower()
    if suffix in (".svg", ".png"):
        (write_svg if suffix == ".svg" else write_picture)(sketches, out, codec, columns=columns)
        return [out]
    if suffix == ".npz":
        strokes = np.empty(len(sketches), dtype=object)
        strokes[:] = [codec.decode(sketch) for sketch in sketches]
        try:
            with whole_file(out) as (handle, _):
                np.savez_compressed(handle, train=strokes)
        except OSError as error:
            raise DataError(f"{out} cannot be written ({error.strerror or error}): choose another folder") from None
        return [out]
    if suffix:
        raise DataError(f"{out} has the suffix {suffix!r}: sketches are written to .svg, .png, .npz or a folder")
    paths = sample_paths(out, len(sketches), ".svg")
    for sketch, path in zip(sketches, paths, strict=True):
        write_svg([sketch], path, codec)
    write_picture(sketches, out / "samples.png", codec, columns=columns)
    return [*paths, out / "samples.png"]
