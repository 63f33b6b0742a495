"""Sketches for training and evaluation under Lightning: moves of a pen, read, scaled and batched."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pytorch_lightning import LightningDataModule

from hybridgen.closest import name_the_closest
from hybridgen.codecs import CodecError, SketchCodec
from hybridgen.codecs.sketch import check_strokes
from hybridgen.data.elements import ElementSequences
from hybridgen.data.errors import DataError, check_count, check_drawn, check_fraction
from hybridgen.data.files import data_folders
from hybridgen.data.object_arrays import read_object_arrays
from hybridgen.data.sequence_data import must_be_there
from hybridgen.data.synthetic_sketches import SHAPES, synthetic_sketches

PARTS = ("train", "valid", "test")
#: Public sets by name: files of ``$HYBRIDGEN_DATA/sketches``.
PUBLIC_SKETCHES = {"sheep": "aaron_sheep.npz"}
_SHAPE_POINTS = 25  # of a shape that is drawn here, at most
_LARGEST_MOVE = 1000.0  # as Sketch-RNN's loader: longer ones are slips


class Sketches(NamedTuple):
    """One part of a set.

    Attributes:
        elements: `(N + 1, 5)` float32 each, scaled.
        labels: The class of each, or None.
        names: Where each comes from, for messages and reports.
    """

    elements: list[np.ndarray]
    labels: list[int] | None
    names: list[str]


class SketchData(LightningDataModule):
    """Sketches as elements ``(dx, dy, p1, p2, p3)``, in batches of whole ones; :class:`hybridgen.data.ElementBatch`.

    The moves' standard deviation in training becomes 1 (both directions by one number). A sketch ends with an element
    that says so.

    Args:
        source: ``shapes`` (circles, squares, triangles and stars, drawn here; need no file), ``sheep`` (Aaron Koblin's,
            as published with Sketch-RNN, after ``hybridgen data sketches``), an npz file in that format (arrays of
            moves ``(N, 3)`` under train, valid and test), or a folder of such files.
        labels: Whether sketches have classes: the shape, or the file of a folder that they are in.
        max_points: Leave out sketches of more points than this.
        scale_augment: Stretch every training sketch anew in each epoch, each direction by up to this part of itself
            (0.15 in the paper). 0: as it is.
        num_sketches: How many shapes are drawn for training; a tenth as many for each of the other parts.
        batch_size: Sketches in a batch of each process.
        evaluation_batch_size: Likewise in validation and testing.
        data_seed: Of the shapes that are drawn.
        seed: Of the order and of stretching.

    Raises:
        DataError: An option cannot be, or there is no such file. Whether it can be read shows when it is first used.
    """

    def __init__(
        self,
        *,
        source: str = "shapes",
        labels: bool = False,
        max_points: int = 250,
        scale_augment: float = 0.0,
        num_sketches: int = 1000,
        batch_size: int = 64,
        evaluation_batch_size: int = 128,
        data_seed: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.max_points = check_count(max_points, "max_points", 1)
        self.scale_augment = check_fraction(scale_augment, "scale_augment")
        self.num_sketches = check_count(num_sketches, "num_sketches", 10)
        check_drawn("num_sketches", num_sketches, _SHAPE_POINTS, 3)
        self.batch_size = check_count(batch_size, "batch_size")
        self.evaluation_batch_size = check_count(evaluation_batch_size, "evaluation_batch_size")
        self.data_seed, self.seed = check_count(data_seed, "data_seed", 0), check_count(seed, "seed", 0)
        self.source, self.has_labels = source, labels
        known = ["shapes", *PUBLIC_SKETCHES]
        path = Path(source).expanduser()
        if source not in known and not path.exists():
            raise DataError(
                f"there is no file or folder {path} and no source of that name: {name_the_closest(source, known)}"
            )
        if labels and source != "shapes" and (source in known or path.is_file()):
            raise DataError(f"labels=True: the sketches of {source} have no classes, leave it out")

    @cached_property
    def codec(self) -> SketchCodec:
        """What turns moves into elements and back, built on the training part.

        Raises:
            DataError: The sketches cannot be read.
        """
        raw, names = self._raw
        moves = np.concatenate([strokes[:, :2] for strokes, _, _ in raw["train"]])
        scale = float(moves.std())
        if not scale > 0:
            raise DataError(f"no pen moves in the training sketches of {self.source}: use another file")
        longest = max(len(strokes) for strokes, _, _ in raw["train"]) + 1
        return SketchCodec(scale=scale, max_length=longest, labels=names if self.has_labels else [])

    @cached_property
    def parts(self) -> dict[str, Sketches]:
        """The sketches by part: ``train``, ``valid``, ``test``, where there are some for it."""
        return {
            part: Sketches(
                [self.codec.encode(strokes).numpy() for strokes, _, _ in found],
                [label for _, label, _ in found] if self.has_labels else None,
                [name for _, _, name in found],
            )
            for part, found in self._raw[0].items()
        }

    def prepare_data(self) -> None:
        """Read the sketches once, so that what is wrong with them shows before training starts."""
        _ = self.parts

    def train_dataloader(self) -> ElementSequences:
        """Return this process's batches of the training sketches."""
        augment = self._stretched if self.scale_augment else None
        return self._loader("train", self.batch_size, shuffle=True, augment=augment)

    def val_dataloader(self) -> list[ElementSequences]:
        """Return this process's batches of the validation sketches, or nothing if there are none.

        Raises:
            DataError: There are none, and to validate is what the trainer was started for.
        """
        return self._evaluation("valid")

    def test_dataloader(self) -> list[ElementSequences]:
        """Return this process's batches of the test sketches, or nothing if there are none.

        Raises:
            DataError: There are none, and to test is what the trainer was started for.
        """
        return self._evaluation("test")

    def _evaluation(self, part: str) -> list[ElementSequences]:
        if part not in self.parts and not must_be_there(self, part):
            return []
        return [self._loader(part, self.evaluation_batch_size, shuffle=False)]

    def _loader(self, part: str, batch_size: int, **options: object) -> ElementSequences:
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        if part not in self.parts:
            raise DataError(
                f"there is no {part} part, only {' and '.join(self.parts)}: give sketches of at most max_points="
                f"{self.max_points} points under {part!r} in {self.source}"
            )
        sketches = self.parts[part]
        return ElementSequences(
            sketches.elements, labels=sketches.labels, batch_size=batch_size, rank=rank, world_size=world_size,
            seed=self.seed, **options,
        )  # fmt: skip

    def _stretched(self, elements: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        stretched = elements.copy()
        stretched[:, :2] *= 1 + self.scale_augment * generator.uniform(-1, 1, size=2)
        return stretched

    @cached_property
    def _raw(self) -> tuple[dict[str, list[tuple[np.ndarray, int, str]]], list[str]]:
        """Moves, class and name of the sketches of each part, and the names of the classes."""
        if self.source == "shapes":
            sizes = {"train": self.num_sketches, "valid": self.num_sketches // 10, "test": self.num_sketches // 10}
            return {
                part: [
                    (strokes, label, f"{part} {number}")
                    for number, (strokes, label) in enumerate(synthetic_sketches(size, (self.data_seed, place)))
                ]
                for place, (part, size) in enumerate(sizes.items())
            }, list(SHAPES)
        path = self._located()
        files = [path] if path.is_file() else sorted(path.glob("*.npz"))
        if not files:
            raise DataError(f"the folder {path} has no npz files: give one with files of sketches")
        if self.has_labels and len(files) < 2:
            raise DataError(f"labels=True: the folder {path} has one file, put one for each class in it")
        parts: dict[str, list[tuple[np.ndarray, int, str]]] = {}
        for label, file in enumerate(files):
            members = read_object_arrays(file)
            if "train" not in members:
                raise DataError(f"{file} has no sketches under 'train' (only {', '.join(members) or 'nothing'})")
            for part in PARTS:
                for number, strokes in enumerate(members.get(part, [])):
                    name = f"sketch {number} of {part!r} in {file}"
                    # What has another shape has no number of points, and is refused by the check.
                    if strokes.ndim != 2 or len(strokes) <= self.max_points:
                        parts.setdefault(part, []).append((_checked(strokes, name), label, name))
        if not parts.get("train"):
            raise DataError(f"{path} has no training sketch of at most {self.max_points} points: raise max_points")
        return parts, [file.stem for file in files]

    def _located(self) -> Path:
        if self.source not in PUBLIC_SKETCHES:
            return Path(self.source).expanduser()
        for folder in data_folders():
            path = folder / "sketches" / PUBLIC_SKETCHES[self.source]
            if path.is_file():
                return path
        raise DataError(
            f"the set {self.source!r} is not on this machine: run `hybridgen data sketches`, or set HYBRIDGEN_DATA to "
            f"the folder that holds sketches/{PUBLIC_SKETCHES[self.source]}"
        )


def _checked(strokes: np.ndarray, name: str) -> np.ndarray:
    try:
        array = check_strokes(strokes, name)
    except CodecError as error:
        raise DataError(str(error)) from None
    array[:, :2] = array[:, :2].clip(-_LARGEST_MOVE, _LARGEST_MOVE)
    return array
