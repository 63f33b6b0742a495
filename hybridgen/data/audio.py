"""Sounds for training and evaluation under Lightning: found, brought to one form, coded and batched."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybridgen import codecs
from hybridgen.codecs.audio import AudioCodec, FramedCodec, MuLawCodec
from hybridgen.codecs.checks import check_options
from hybridgen.codecs.columns import sort_categories
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.log_mel import LogMelCodec
from hybridgen.data.audio_files import (
    check_rate,
    fit_length,
    read_rate,
    read_sound,
    seconds_to_samples,
    trim_silence,
)
from hybridgen.data.audio_sources import PARTS, Sound, choose_labels, find_sounds
from hybridgen.data.errors import DataError, check_choice, check_count, check_drawn, check_fraction
from hybridgen.data.sequence_data import SequenceDataModule
from hybridgen.data.series_batches import Sequences
from hybridgen.data.synthetic_notes import Note, make_notes

_CODECS = {"log_mel": LogMelCodec, "framed": FramedCodec, "mu_law": MuLawCodec}
_NOTE_LABELS = ("instrument", "pitch", "both", "none")


class _Piece(NamedTuple):
    """A sound, or the part of one that starts after ``number`` times the length."""

    sound: Sound
    number: int


class AudioData(SequenceDataModule):
    """Sounds from anywhere, as batches of frames for a sequence GAN.

    Every sound becomes one channel (the mean of those that it has) at one sample rate. Batches are
    :class:`hybridgen.data.SeriesBatch`, its values the frames that the codec makes.

    Args:
        source: ``notes`` (plucked strings and struck bars, drawn here; need no file), ``fsdd`` (spoken digits, after
            ``hybridgen data fsdd``; recordings 0 to 4 are its official test part), ``speechcommands``, ``yesno``,
            ``ljspeech`` (as torchaudio lays them out, below HYBRIDGEN_DATA), or a folder of wav and flac files. Folders
            train, valid and test in it are the parts.
        pattern: Which files of a folder are sounds. Default: all wav and flac files, folders within included.
        label_pattern: Regular expression with a group ``label`` that finds the class in a file's name, such as
            ``(?P<label>[0-9])_``. Default: the folder that a file lies in is its class.
        labelled: Whether sounds have classes.
        labels: Use only the sounds of these classes.
        sample_rate: In Hz; others are resampled. Default: that of a saved codec or of the files, which must all agree;
            8000 for notes.
        trim: Leave out the quiet at both ends, so many decibels below the loudest 20 ms. Default: nothing is left out.
        normalise: Whether the loudest sample of each sound becomes 1.
        length: Seconds of each sound: longer ones are cut at the end, shorter ones followed by silence. Default: each
            has its own.
        pieces: Cut a longer sound into as many pieces as it fills, instead of leaving out the rest.
        codec: ``log_mel`` (spectra; decoded by Griffin-Lim), ``framed`` (overlapping pieces of the waveform),
            ``mu_law`` (256 levels), or a saved codec, as a mapping.
        codec_options: Options of that codec, such as ``{num_mels: 80}``.
        valid_fraction: Part of the sounds that is for validation, 0 to 1, where the source does not say.
        test_fraction: Part of the sounds that is for testing, 0 to 1, where the source does not say.
        batch_size: Sounds of each process.
        evaluation_batch_size: Likewise in validation and testing.
        num_notes: How many notes are drawn.
        lowest_pitch: Of the notes, as a MIDI number, from 48 (C3).
        highest_pitch: Of the notes, as a MIDI number, to 84 (C6).
        note_labels: What the class of a note is: its ``instrument``, its ``pitch``, ``both`` or ``none``.
        note_seconds: How long each note is.
        data_seed: Of the notes.
        seed: Of the order of batches and of dealing sounds to parts.

    Raises:
        DataError: An option cannot be, or there is no such sound. Whether a file can be read shows when it is first
            used.
    """

    def __init__(
        self,
        *,
        source: str = "notes",
        pattern: str | None = None,
        label_pattern: str | None = None,
        labelled: bool = True,
        labels: list[str] | None = None,
        sample_rate: int | None = None,
        trim: float | None = None,
        normalise: bool = True,
        length: float | None = None,
        pieces: bool = False,
        codec: str | dict[str, Any] = "log_mel",
        codec_options: dict[str, Any] | None = None,
        valid_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int = 64,
        evaluation_batch_size: int = 256,
        num_notes: int = 480,
        lowest_pitch: int = 57,
        highest_pitch: int = 68,
        note_labels: Literal["instrument", "pitch", "both", "none"] = "instrument",
        note_seconds: float = 0.5,
        data_seed: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice(note_labels, "note_labels", _NOTE_LABELS)
        check_fraction(valid_fraction, "valid_fraction")
        check_fraction(test_fraction, "test_fraction")
        if valid_fraction + test_fraction >= 1:
            raise DataError(
                f"valid_fraction={valid_fraction} and test_fraction={test_fraction} leave nothing to train on: lower "
                "them to less than 1 together"
            )
        check_count(batch_size, "batch_size")
        check_count(evaluation_batch_size, "evaluation_batch_size")
        check_count(seed, "seed", 0)
        if sample_rate is not None:
            check_rate(sample_rate, "sample_rate", 1000)
        if trim is not None and (isinstance(trim, bool) or not trim > 0):
            raise DataError(f"trim={trim!r} must be above 0 decibels, such as 40")
        if pieces and length is None:
            raise DataError("pieces needs length: say how many seconds each piece has")
        if isinstance(codec, str):
            check_choice(codec, "codec", _CODECS)
            if "sample_rate" in (codec_options or {}):
                raise DataError("codec_options names sample_rate, which the data decide: set data.sample_rate instead")
            try:
                check_options(codec_options or {}, _CODECS[codec].__init__, codec)
            except CodecError as error:
                raise DataError(f"codec_options: {error}") from None
        elif codec_options:
            raise DataError(f"codec_options={codec_options!r} cannot change a saved codec: leave them out")
        elif sample_rate is not None and codec.get("sample_rate", sample_rate) != sample_rate:
            raise DataError(
                f"sample_rate={sample_rate} is not that of the given codec, {codec['sample_rate']}: set it to "
                f"{codec['sample_rate']}, to which sounds are then resampled"
            )
        if source == "notes":
            notes = make_notes(num_notes, lowest=lowest_pitch, highest=highest_pitch, seed=data_seed)
            sounds = [Sound(note, _note_label(note, note_labels)) for note in notes]
            samples = seconds_to_samples(note_seconds, "note_seconds", sample_rate or 8000)
            check_drawn("num_notes, note_seconds and sample_rate", num_notes, samples or 1)
        else:
            sounds = find_sounds(source, pattern=pattern, label_pattern=label_pattern, labelled=labelled)
        self.source = source
        self.trim = trim
        self.normalise = normalise
        self.pieces = pieces
        self.batch_size = batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.note_seconds = note_seconds
        self.seed = seed
        self._sample_rate = sample_rate
        self._length = length
        seconds_to_samples(length, "length", 8000)
        self._codec_choice = codec
        self._codec_options = dict(codec_options or {})
        self._sounds = _divide(choose_labels(sounds, labels, source), source, valid_fraction, test_fraction, seed)
        self._frames: dict[str, tuple[list[np.ndarray], list[_Piece]]] = {}
        self._sequences: dict[str, Sequences] = {}

    @cached_property
    def sample_rate(self) -> int:
        """Samples in a second: as chosen, or that of the first file.

        Raises:
            DataError: The file cannot be read, or no sound has such a rate.
        """
        if self._sample_rate is not None:
            return self._sample_rate
        if isinstance(self._codec_choice, dict) and isinstance(self._codec_choice.get("sample_rate"), int):
            return check_rate(self._codec_choice["sample_rate"], "the codec's sample_rate")
        place = next(sound.place for sounds in self._sounds.values() for sound in sounds)
        return check_rate(read_rate(place), f"the sample rate of {place}") if isinstance(place, Path) else 8000

    @cached_property
    def codec(self) -> AudioCodec:
        """What turns waveforms into frames and back; scaled to the training sounds when first asked for.

        Raises:
            DataError: A sound cannot be read, or an option of the codec cannot be.
        """
        if isinstance(self._codec_choice, dict) or "loudest" in self._codec_options:
            return self._unscaled
        return self._unscaled.fitted(max(float(frames.max()) for frames in self._analyse("train")[0]))

    @property
    def num_features(self) -> int:
        """F: the features of a frame."""
        return self._unscaled.num_features

    @property
    def counts(self) -> dict[str, int]:
        """How many sequences each part has."""
        return {part: len(self.sequences(part)) for part in self._sounds}

    def sequences(self, part: str) -> Sequences:
        """Return ``train``, ``valid`` or ``test`` as frames.

        Raises:
            DataError: There is no such part, or a sound in it cannot be read.
        """
        if part not in self._sequences:
            frames, pieces = self._analyse(part)
            lengths = np.array([len(one) for one in frames], dtype=np.int64)
            labels = [piece.sound.label for piece in pieces]
            values = self.codec.scale(torch.from_numpy(np.concatenate(frames))).numpy()
            self._sequences[part] = Sequences(
                values=values,
                starts=lengths.cumsum() - lengths,
                lengths=lengths,
                labels=np.array([self.codec.label_index(label) for label in labels]) if self.codec.labels else None,
            )
            self._frames[part] = ([], pieces)  # the unscaled frames are not needed any more
        return self._sequences[part]

    def waveforms(self, part: str, indices: np.ndarray | None = None) -> list[Tensor]:
        """Return the sounds of a part, by default all, as the codec got them: `(N,)`, float32.

        Args:
            part: ``train``, ``valid`` or ``test``.
            indices: `(B,)`, the numbers that ``SeriesBatch.indices`` holds.
        """
        self.sequences(part)
        pieces = self._frames[part][1]
        chosen = pieces if indices is None else [pieces[index] for index in np.asarray(indices).tolist()]
        return [torch.from_numpy(self._cut(self._prepare(sound), number)) for sound, number in chosen]

    @property
    def parts(self) -> Iterable[str]:
        return self._sounds

    @cached_property
    def _unscaled(self) -> AudioCodec:
        if isinstance(self._codec_choice, dict):
            codec = codecs.from_config(self._codec_choice)
            if not isinstance(codec, AudioCodec):
                raise DataError(f"codec is a {codec.name!r} codec, not one of sounds: give one that AudioData made")
            return codec
        labels = {sound.label for sounds in self._sounds.values() for sound in sounds if sound.label is not None}
        options = {"labels": sort_categories(labels), **self._codec_options, "sample_rate": self.sample_rate}
        return _CODECS[self._codec_choice](**options)

    def _analyse(self, part: str) -> tuple[list[np.ndarray], list[_Piece]]:
        """Return the frames `(T, F)` of each sequence of a part, not scaled, and what each is of."""
        if part not in self._sounds:
            divided = any(sound.part == "train" for sound in self._sounds["train"])  # then no fraction is taken
            remedy = f"give it sounds for {part}" if divided else f"set {part}_fraction above 0"
            raise DataError(f"{self.source}: there is no {part} part, only {' and '.join(self._sounds)}: {remedy}")
        if part not in self._frames:
            frames, pieces = [], []
            for sound in self._sounds[part]:
                samples = self._prepare(sound)
                for number in range(self._count_pieces(len(samples))):
                    waveform = torch.from_numpy(self._cut(samples, number))
                    frames.append(self._unscaled.analyse(waveform).numpy())
                    pieces.append(_Piece(sound, number))
            self._frames[part] = (frames, pieces)
        return self._frames[part]

    def _prepare(self, sound: Sound) -> np.ndarray:
        """Return a sound in one channel at one rate, trimmed and at full level, `(N,)` float32."""
        place = sound.place
        if isinstance(place, Note):
            samples = place.play(self.sample_rate, self.note_seconds)
        else:
            samples, rate = read_sound(place, sample_rate=self._sample_rate)
            if rate != self.sample_rate:
                raise DataError(
                    f"{place} has {rate} samples in a second but others have {self.sample_rate}: set sample_rate, to "
                    "which all are then resampled"
                )
        if self.trim is not None:
            samples = trim_silence(samples, self.sample_rate, self.trim)
            if not len(samples):
                raise DataError(f"{place} is silent throughout: remove it, or leave out trim")
        peak = float(np.abs(samples).max())
        return samples / np.float32(peak) if self.normalise and peak > 0 else samples

    def _count_pieces(self, num_samples: int) -> int:
        length = seconds_to_samples(self._length, "length", self.sample_rate)
        return 1 if length is None or not self.pieces else -(-num_samples // length)

    def _cut(self, samples: np.ndarray, number: int) -> np.ndarray:
        length = seconds_to_samples(self._length, "length", self.sample_rate)
        return samples if length is None else fit_length(samples[number * length :], length)


def _divide(
    sounds: list[Sound], source: str, valid_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[Sound]]:
    """Deal sounds to parts: as their set says, and at random where it does not."""
    parts: dict[str, list[Sound]] = {part: [sound for sound in sounds if sound.part == part] for part in PARTS}
    rest = [sound for sound in sounds if sound.part is None]
    wanted = {
        "valid": 0 if parts["valid"] or parts["train"] else valid_fraction,
        "test": 0 if parts["test"] or parts["train"] else test_fraction,
    }
    order = np.random.default_rng(seed).permutation(len(rest)).tolist()
    for part, fraction in wanted.items():
        number = max(1, round(fraction * len(rest))) if fraction and rest else 0
        parts[part] += [rest[index] for index in sorted(order[:number])]
        order = order[number:]
    parts["train"] += [rest[index] for index in sorted(order)]
    if not parts["train"]:
        raise DataError(
            f"{source} has {len(sounds)} sounds, too few to divide into train, valid and test: give more, or set "
            "valid_fraction and test_fraction to 0"
        )
    return {part: found for part, found in parts.items() if found}


def _note_label(note: Note, kind: str) -> str | None:
    return {"instrument": note.instrument, "pitch": note.name, "both": f"{note.instrument} {note.name}"}.get(kind)
