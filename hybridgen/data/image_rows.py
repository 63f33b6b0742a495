"""Images for training and evaluation under Lightning, as sequences of rows."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pytorch_lightning import LightningDataModule

from hybridgen.closest import name_the_closest
from hybridgen.codecs import CodecError, ImageRowsCodec
from hybridgen.codecs.image_rows import read_grey
from hybridgen.data.elements import ElementSequences
from hybridgen.data.errors import DataError, check_count, check_fraction
from hybridgen.data.files import data_folders
from hybridgen.data.idx_files import find_idx, read_idx
from hybridgen.data.sequence_data import must_be_there

PARTS = ("train", "valid", "test")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
#: Levels of the digits that scikit-learn brings along: counts of dark pixels in blocks of 4 x 4.
_DIGIT_LEVELS = 17


class Images(NamedTuple):
    """One part of a set.

    Attributes:
        elements: `(H, W)` float32 each, from 0 to 1.
        labels: The class of each, or None.
        names: Where each comes from, for messages and reports.
    """

    elements: list[np.ndarray]
    labels: list[int] | None
    names: list[str]


class _Found(NamedTuple):
    """What a source has, as numbers from 0 to 1, before it is divided; a part of None is for dividing."""

    images: np.ndarray  # (N, H, W) float
    classes: list[str] | None
    parts: list[str | None]
    names: list[str]


class ImageRowsData(LightningDataModule):
    """Grey images of one size, row after row from the top, in batches; :class:`hybridgen.data.ElementBatch`.

    Args:
        source: ``digits`` (1,797 handwritten ones of 8 x 8 pixels, which scikit-learn brings along), ``mnist`` (its
            idx files in ``$HYBRIDGEN_DATA/mnist``; what there is of training and test), a folder with such files, an
            idx file of images (labels beside it are found by their name), or a folder of png files. Folders in that
            are the classes; folders train, valid and test in it are the parts.
        levels: How many values a pixel can have; 2 makes black and white. Default: 17 for ``digits``, 256 for others.
        labels: Whether images have classes.
        invert: Whether dark becomes bright: ink on paper for white on black.
        valid_fraction: Part of the training images that is for validation, 0 to 1, where the source does not say.
        test_fraction: Part of the images that is for testing, 0 to 1, where the source does not say.
        batch_size: Images in a batch of each process.
        evaluation_batch_size: Likewise in validation and testing.
        seed: Of the order and of dealing images to parts.

    Raises:
        DataError: An option cannot be. Whether images can be read shows when they are first used.
    """

    def __init__(
        self,
        *,
        source: str = "digits",
        levels: int | None = None,
        labels: bool = True,
        invert: bool = False,
        valid_fraction: float = 0.1,
        test_fraction: float = 0.2,
        batch_size: int = 32,
        evaluation_batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_fraction(valid_fraction, "valid_fraction")
        check_fraction(test_fraction, "test_fraction")
        if valid_fraction + test_fraction >= 1:
            raise DataError(
                f"valid_fraction={valid_fraction} and test_fraction={test_fraction} leave nothing to train on: "
                "lower them to less than 1 together"
            )
        if levels is not None and (type(levels) is not int or not 2 <= levels <= 256):
            raise DataError(f"levels={levels!r} must be a whole number from 2 to 256")
        self.batch_size = check_count(batch_size, "batch_size")
        self.evaluation_batch_size = check_count(evaluation_batch_size, "evaluation_batch_size")
        self.seed = check_count(seed, "seed", 0)
        self.source, self.has_labels, self.invert = source, labels, invert
        self.valid_fraction, self.test_fraction = valid_fraction, test_fraction
        self.levels = levels or (_DIGIT_LEVELS if source == "digits" else 256)
        known = ["digits", "mnist"]
        if source not in known and not Path(source).expanduser().exists():
            raise DataError(
                f"there is no file or folder {Path(source).expanduser()} and no source of that name: "
                f"{name_the_closest(source, known)}"
            )

    @cached_property
    def codec(self) -> ImageRowsCodec:
        """What turns images into rows and back; it knows the classes.

        Raises:
            DataError: The images cannot be read.
        """
        return self._read[1]

    @property
    def parts(self) -> dict[str, Images]:
        """The images by part: ``train``, ``valid``, ``test``, where there are some for it."""
        return self._read[0]

    def prepare_data(self) -> None:
        """Read the images once, so that what is wrong with them shows before training starts."""
        _ = self._read

    def train_dataloader(self) -> ElementSequences:
        """Return this process's batches of the training images."""
        return self._loader("train", self.batch_size, shuffle=True)

    def val_dataloader(self) -> list[ElementSequences]:
        """Return this process's batches of the validation images, or nothing if there are none.

        Raises:
            DataError: There are none, and to validate is what the trainer was started for.
        """
        return self._evaluation("valid")

    def test_dataloader(self) -> list[ElementSequences]:
        """Return this process's batches of the test images, or nothing if there are none.

        Raises:
            DataError: There are none, and to test is what the trainer was started for.
        """
        return self._evaluation("test")

    def _evaluation(self, part: str) -> list[ElementSequences]:
        if part not in self.parts and not must_be_there(self, part):
            return []
        return [self._loader(part, self.evaluation_batch_size, shuffle=False)]

    def _loader(self, part: str, batch_size: int, *, shuffle: bool) -> ElementSequences:
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        if part not in self.parts:
            there = " and ".join(self.parts)
            fraction = "" if getattr(self, f"{part}_fraction") else f"set {part}_fraction above 0, or "
            raise DataError(f"there is no {part} part, only {there}: {fraction}give images for {part} in {self.source}")
        images = self.parts[part]
        return ElementSequences(
            images.elements, labels=images.labels, batch_size=batch_size, rank=rank, world_size=world_size,
            shuffle=shuffle, seed=self.seed,
        )  # fmt: skip

    @cached_property
    def _read(self) -> tuple[dict[str, Images], ImageRowsCodec]:
        found = self._find()
        if self.has_labels and found.classes is None:
            raise DataError(f"labels=True: the images of {self.source} have no classes: set labels to false")
        names = sorted(set(found.classes), key=_in_order) if self.has_labels else []
        codec = ImageRowsCodec(
            height=found.images.shape[1], width=found.images.shape[2], levels=self.levels, labels=names
        )
        values = codec.quantise(1 - found.images if self.invert else found.images)
        numbers = {name: number for number, name in enumerate(names)}
        parts = {}
        for part, rows in self._divide(found).items():
            labels = [numbers[found.classes[row]] for row in rows] if self.has_labels else None
            parts[part] = Images([values[row] for row in rows], labels, [found.names[row] for row in rows])
        return parts, codec

    def _divide(self, found: _Found) -> dict[str, list[int]]:
        """The rows of each part; those without one are dealt at random, and validation is taken out of training."""
        rows = {part: [n for n, of in enumerate(found.parts) if of == part] for part in PARTS}
        rest = [n for n, of in enumerate(found.parts) if of is None]
        generator = np.random.default_rng(self.seed)
        total = len(rest) + len(rows["train"])
        for part, fraction, pool in (
            ("test", self.test_fraction, rest),
            ("valid", self.valid_fraction, rest or rows["train"]),
        ):
            if rows[part] or not fraction or not pool:
                continue
            number = max(1, round(fraction * total))
            taken = set(generator.permutation(len(pool))[:number].tolist())
            rows[part] = [row for place, row in enumerate(pool) if place in taken]
            pool[:] = [row for place, row in enumerate(pool) if place not in taken]
        rows["train"] += rest
        if not rows["train"]:
            raise DataError(f"{self.source} has {len(found.images)} images, too few to divide into parts: give more")
        return {part: chosen for part, chosen in rows.items() if chosen}

    def _find(self) -> _Found:
        if self.source == "digits":
            from sklearn.datasets import load_digits

            digits = load_digits()
            names = [f"digit {number}" for number in range(len(digits.images))]
            return _Found(digits.images / 16, [str(label) for label in digits.target], [None] * len(names), names)
        if self.source == "mnist":
            folder = next((f / "mnist" for f in data_folders() if find_idx(f / "mnist")), None)
            if folder is None:
                raise DataError(
                    "the set 'mnist' is not on this machine: set HYBRIDGEN_DATA to a folder that holds its idx files, "
                    "such as mnist/train-images-idx3-ubyte.gz"
                )
            return self._of_idx(find_idx(folder))
        path = Path(self.source).expanduser()
        if path.is_file():
            labels = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
            return self._of_idx({None: (path, labels if labels != path and labels.is_file() else None)})
        idx = find_idx(path)
        return self._of_idx(idx) if idx else self._of_folder(path)

    def _of_idx(self, files: dict) -> _Found:
        images, classes, parts, names = [], [], [], []
        for part, (path, label_path) in files.items():
            read = read_idx(path, 3)
            if not len(read) or 0 in read.shape:
                raise DataError(f"{path} has no images: give a file that has")
            if images and read.shape[1:] != images[0].shape[1:]:
                raise DataError(f"{path} has images of another size than the other part: give parts of one size")
            labels = None if label_path is None else read_idx(label_path, 1)
            if labels is not None and len(labels) != len(read):
                raise DataError(f"{label_path} has {len(labels)} labels for {len(read)} images: get both of one set")
            images.append(read)
            classes.append(None if labels is None else [str(label) for label in labels])
            parts += [part if len(files) > 1 else None] * len(read)  # one part alone is divided
            names += [f"{path.name}: image {number}" for number in range(len(read))]
        labelled = all(of_part is not None for of_part in classes)
        joined = [name for of_part in classes for name in of_part] if labelled else None
        return _Found(np.concatenate(images) / 255, joined, parts, names)

    def _of_folder(self, folder: Path) -> _Found:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not paths:
            raise DataError(f"the folder {folder} has no images (.png, .jpg...) and no idx files: give one that has")
        divided = (folder / "train").is_dir()
        images, classes, parts, names = [], [], [], []
        for path in paths:
            below = path.relative_to(folder).parts
            if divided and below[0] not in PARTS:
                continue
            try:
                image = read_grey(path)
            except CodecError as error:
                raise DataError(str(error)) from None
            if images and image.shape != images[0].shape:
                raise DataError(
                    f"{path} is {image.shape[1]} x {image.shape[0]} pixels but others are {images[0].shape[1]} x "
                    f"{images[0].shape[0]}: bring all images to one size"
                )
            images.append(image)
            classes.append(below[-2] if len(below) > 1 + divided else "")
            parts.append(below[0] if divided else None)
            names.append(str(path))
        if not images:
            raise DataError(f"the folders train, valid and test in {folder} have no images: put some in them")
        several = len(set(classes)) > 1 and "" not in classes
        return _Found(np.stack(images) / 255, classes if several else None, parts, names)


def _in_order(name: str) -> tuple[int, int, str]:
    """Numbers by their value, before words."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
