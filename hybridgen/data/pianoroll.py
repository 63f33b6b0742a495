"""Piano rolls for training and evaluation under Lightning."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pytorch_lightning import LightningDataModule

from hybridgen.closest import name_the_closest
from hybridgen.codecs import PianoRollCodec
from hybridgen.data.elements import ElementSequences
from hybridgen.data.errors import DataError, check_count, check_fraction
from hybridgen.data.pianoroll_embedded import MODES, embedded_rolls
from hybridgen.data.pianoroll_files import PARTS, PUBLIC_ROLLS, find_midi, locate_public, read_mat
from hybridgen.data.sequence_data import must_be_there


class Rolls(NamedTuple):
    """One part of a set.

    Attributes:
        rolls: `(T, num_keys)` uint8 each.
        labels: The class of each, or None.
        names: Where each comes from, for messages and reports.
    """

    rolls: list[np.ndarray]
    labels: list[int] | None
    names: list[str]


class PianoRollData(LightningDataModule):
    """Polyphonic music as frames of keys, in batches of whole pieces; :class:`hybridgen.data.ElementBatch`.

    Args:
        source: ``embedded`` (four-part harmony composed by rule, which needs no file), ``jsb``, ``nottingham``,
            ``piano_midi`` or ``musedata`` (after ``hybridgen data polymusic``), a ``.mat`` file in their format, a
            folder with MIDI files in train, valid and test, or any other folder of MIDI files, which are dealt to the
            three at random, each always to the same one.
        frames_per_beat: Frames in a quarter note, for MIDI.
        lowest_key: MIDI number of the first key.
        num_keys: How many keys.
        tempo: Quarter notes in a minute of the MIDI files that models write.
        program: General MIDI instrument of those.
        labels: Whether pieces have classes: the mode for ``embedded``, for MIDI the folder that a file is in, below
            the source or its part.
        transpose: Shift every training piece anew in each epoch by up to this many semitones up or down (as far as
            its notes stay on the keys). 0: as it is. Not for music that was transposed to one key, such as ``jsb``.
        valid_fraction: Part of an undivided folder that is for validation, 0 to 1.
        test_fraction: Part of an undivided folder that is for testing, 0 to 1.
        batch_size: Pieces in a batch of each process.
        valid_batch_size: Likewise in validation.
        test_batch_size: Likewise for testing.
        max_length: Cut longer training pieces into parts of at most so many frames, each of which begins afresh. Pieces
            for validation and testing are never cut.
        seed: Of the order and of transposition.

    Raises:
        DataError: An option cannot be. Whether music can be read shows when it is first used.
    """

    def __init__(
        self,
        *,
        source: str = "embedded",
        frames_per_beat: float = 1.0,
        lowest_key: int = 21,
        num_keys: int = 88,
        tempo: float = 90.0,
        program: int = 0,
        labels: bool = False,
        transpose: int = 0,
        valid_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int = 16,
        valid_batch_size: int = 32,
        test_batch_size: int = 32,
        max_length: int | None = None,
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
        for name, value in (("batch_size", batch_size), ("valid_batch_size", valid_batch_size)):
            check_count(value, name)
        check_count(test_batch_size, "test_batch_size")
        self.transpose = check_count(transpose, "transpose", 0)
        self.seed = check_count(seed, "seed", 0)
        self.max_length = None if max_length is None else check_count(max_length, "max_length", 1)
        self.source = source
        self.batch_size, self.valid_batch_size, self.test_batch_size = batch_size, valid_batch_size, test_batch_size
        self.valid_fraction, self.test_fraction = valid_fraction, test_fraction
        self.has_labels = labels
        self._codec_options = {
            "lowest_key": lowest_key,
            "num_keys": num_keys,
            "frames_per_beat": frames_per_beat,
            "tempo": tempo,
            "program": program,
        }
        self._plain_codec = PianoRollCodec(**self._codec_options)
        known = ["embedded", *PUBLIC_ROLLS]
        path = Path(source).expanduser()
        if source not in known and not path.exists():
            raise DataError(
                f"there is no file or folder {path} and no source of that name: {name_the_closest(source, known)}"
            )
        if source not in known and path.is_file() and path.suffix.lower() != ".mat":
            raise DataError(f"the file {path} is no .mat set: give one, or a folder of MIDI files")
        if labels and (source in PUBLIC_ROLLS or path.suffix.lower() == ".mat"):
            raise DataError(f"labels=True: the pieces of {source} have no classes, leave it out")
        if source == "embedded" and (lowest_key, num_keys) != (21, 88):
            raise DataError(f"the embedded music is on 88 keys from 21: leave lowest_key={lowest_key} and num_keys out")

    @cached_property
    def codec(self) -> PianoRollCodec:
        """What turns MIDI into frames and back; it knows the classes.

        Raises:
            DataError: The music cannot be read.
        """
        return PianoRollCodec(**self._codec_options, labels=self._label_names)

    @property
    def parts(self) -> dict[str, Rolls]:
        """The music by part: ``train``, ``valid``, ``test``, where there are pieces for it."""
        return self._read[0]

    @property
    def _label_names(self) -> list[str]:
        return self._read[1] if self.has_labels else []

    @cached_property
    def _read(self) -> tuple[dict[str, Rolls], list[str]]:
        if self.source == "embedded":
            found = {
                part: Rolls(rolls, labels if self.has_labels else None, [f"{part} {n}" for n in range(len(rolls))])
                for part, (rolls, labels) in embedded_rolls().items()
            }
            return found, list(MODES)
        path = locate_public(self.source) if self.source in PUBLIC_ROLLS else Path(self.source).expanduser()
        if path.is_dir():
            return self._read_folder(path)
        rolls = read_mat(path, self._codec_options["num_keys"])
        return {
            part: Rolls(r, None, [f"{path.name}: {part} {n}" for n in range(len(r))]) for part, r in rolls.items()
        }, []

    def _read_folder(self, folder: Path) -> tuple[dict[str, Rolls], list[str]]:
        divided = (folder / "train").is_dir()
        if divided:
            files = {part: find_midi(folder / part) for part in PARTS if (folder / part).is_dir()}
        else:
            files = self._divide(find_midi(folder), folder)
        classes = self._classes(files, folder, divided) if self.has_labels else {}
        names = sorted(set(classes.values()))
        found = {}
        for part, paths in files.items():
            rolls = [self._plain_codec.encode(path).numpy() for path in paths]
            labels = [names.index(classes[path]) for path in paths] if self.has_labels else None
            found[part] = Rolls(rolls, labels, [str(path) for path in paths])
        return found, names

    def _classes(self, files: dict[str, list[Path]], folder: Path, divided: bool) -> dict[Path, str]:
        """The class of each file: the folder that it lies in, below ``folder`` or that of its part."""
        classes, without = {}, []
        for part, paths in files.items():
            for path in paths:
                above = path.relative_to(folder / part if divided else folder).parts[:-1]
                classes[path] = above[-1] if above else ""
                if not above:
                    without.append(path)
        if len(set(classes.values())) < 2:
            where = "one folder of each part" if divided else "one folder"
            raise DataError(f"labels=True: all MIDI files of {folder} are in {where}, make one for each class")
        if without:
            raise DataError(
                f"labels=True: {without[0]} is in no folder of its own class, as others are: move it into one, or set "
                "labels to false"
            )
        return classes

    def _divide(self, paths: list[Path], folder: Path) -> dict[str, list[Path]]:
        """Deal the files to train, valid and test at random, always alike; at least one to each that is wanted."""
        valid = max(1, round(self.valid_fraction * len(paths))) if self.valid_fraction else 0
        test = max(1, round(self.test_fraction * len(paths))) if self.test_fraction else 0
        train = len(paths) - valid - test
        if train < 1:
            raise DataError(
                f"the folder {folder} has {len(paths)} MIDI files, too few to divide into train, valid and test: add "
                "files, or make folders train, valid and test in it"
            )
        # Files of one class often lie together: an order at random gives every part some of each.
        order = np.random.default_rng(0).permutation(len(paths))
        shuffled = [paths[k] for k in order]
        parts = {"train": shuffled[:train], "valid": shuffled[train : train + valid], "test": shuffled[train + valid :]}
        return {part: sorted(chosen) for part, chosen in parts.items() if chosen}

    def train_dataloader(self) -> ElementSequences:
        """Return this process's batches of the training music."""
        return self._loader(
            "train",
            batch_size=self.batch_size,
            shuffle=True,
            max_length=self.max_length,
            augment=self._transposed if self.transpose else None,
        )

    def val_dataloader(self) -> list[ElementSequences]:
        """Return this process's batches of the validation music, or nothing if there is none.

        Raises:
            DataError: There is none, and to validate is what the trainer was started for.
        """
        if "valid" not in self.parts and not must_be_there(self, "valid"):
            return []
        return [self._loader("valid", batch_size=self.valid_batch_size, shuffle=False)]

    def test_dataloader(self) -> list[ElementSequences]:
        """Return this process's batches of the test music.

        Raises:
            DataError: There is none.
        """
        return [self._loader("test", batch_size=self.test_batch_size, shuffle=False)]

    def _loader(self, part: str, **options: object) -> ElementSequences:
        if part not in self.parts:
            fraction = "" if getattr(self, f"{part}_fraction", True) else f", or set {part}_fraction above 0"
            raise DataError(f"there is no {part} music, only {' and '.join(self.parts)}: give some{fraction}")
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        rolls, labels, _ = self.parts[part]
        return ElementSequences(rolls, labels=labels, rank=rank, world_size=world_size, seed=self.seed, **options)

    def _transposed(self, roll: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The piece some semitones higher or lower."""
        sounding = np.flatnonzero(roll.any(0))
        if not len(sounding):
            return roll
        lowest = -min(self.transpose, int(sounding[0]))
        highest = min(self.transpose, roll.shape[1] - 1 - int(sounding[-1]))
        return np.roll(roll, int(generator.integers(lowest, highest + 1)), axis=1)
