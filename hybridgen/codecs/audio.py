"""Audio codecs: a waveform to frames of features and back."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from hybridgen.codecs.checks import check_count
from hybridgen.codecs.columns import FeatureGroup
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.labels import check_labels, find_label
from hybridgen.codecs.saving import SavedCodec


class AudioCodec(SavedCodec):
    """What every audio codec can do: a mono waveform `(N,)` in -1 to 1 becomes frames `(T, F)`, and back.

    Args:
        sample_rate: Samples in a second.
        labels: The names of the classes, in the order of their numbers.

    Attributes:
        sample_rate: Samples in a second.
        labels: The names of the classes.
    """

    #: What a feature is; see :class:`FeatureGroup`.
    kind: ClassVar[Literal["unit", "symmetric"]]

    def __init__(self, *, sample_rate: int, labels: Sequence[str]) -> None:
        self.sample_rate = check_count(sample_rate, "sample_rate", 1)
        self.labels = check_labels(labels)

    @property
    @abstractmethod
    def num_features(self) -> int:
        """F: the features of a frame."""

    @abstractmethod
    def num_frames(self, num_samples: int) -> int:
        """Return T for a waveform of ``num_samples`` samples."""

    @abstractmethod
    def num_samples(self, num_frames: int) -> int:
        """Return N of the waveform that ``num_frames`` frames give."""

    @abstractmethod
    def analyse(self, waveform: Tensor) -> Tensor:
        """Return the frames `(T, F)` of a checked waveform `(N,)`, not scaled yet."""

    @abstractmethod
    def _synthesise(self, frames: Tensor) -> Tensor:
        """Return the waveform `(N,)` of frames `(T, F)`."""

    def scale(self, frames: Tensor) -> Tensor:
        """Return analysed frames `(..., F)` as features."""
        return frames

    def fitted(self, loudest: float) -> AudioCodec:
        """Return the codec for sounds of which ``loudest`` is the largest value that :meth:`analyse` gave."""
        del loudest
        return self

    def encode(self, waveform: Tensor) -> Tensor:
        """Turn a waveform `(N,)` into frames `(T, F)`, float32.

        Raises:
            CodecError: It is not one-dimensional, empty, or not finite.
        """
        return self.scale(self.analyse(check_waveform(waveform)))

    def decode(self, values: Tensor, *, lengths: Tensor | None = None) -> list[Tensor]:
        """Turn frames into waveforms `(N,)`, float32, on the CPU.

        Args:
            values: `(B, T, F)`.
            lengths: `(B,)`, the frames of each. Default: T.

        Raises:
            CodecError: A shape that does not fit, or numbers that are not finite.
        """
        if values.dim() != 3 or values.shape[2] != self.num_features:
            raise CodecError(
                f"values of shape {tuple(values.shape)} cannot be decoded: give (B, T, F) with F={self.num_features}"
            )
        ends = [values.shape[1]] * len(values) if lengths is None else lengths.tolist()
        sounds = []
        for index, (frames, length) in enumerate(zip(values.detach().float().cpu(), ends, strict=True)):
            if length < 1 or not frames[:length].isfinite().all():
                raise CodecError(f"sound {index} has no frame, or values that are not finite: it cannot be written")
            sounds.append(self._synthesise(frames[:length]))
        return sounds

    @property
    def groups(self) -> list[FeatureGroup]:
        """What the F features are: one group."""
        return [FeatureGroup("frame", self.kind, 0, self.num_features)]

    @property
    def neutral(self) -> Tensor:
        """What silence is nearest to, `(F,)` float32: zeros; no feature of a sound is ever missing."""
        return torch.zeros(self.num_features)

    @property
    def num_labels(self) -> int:
        """The number of classes; 0 without labels."""
        return len(self.labels)

    @property
    def num_attributes(self) -> int:
        """0: a sound has none."""
        return 0

    @property
    def num_conditions(self) -> int:
        """0: a sound has none."""
        return 0

    def label_index(self, label: object) -> int:
        """Return the number of a class.

        Raises:
            CodecError: There is none of that name.
        """
        return find_label(self.labels, label)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(sample_rate={self.sample_rate}, num_features={self.num_features})"


class FramedCodec(AudioCodec):
    """Overlapping pieces of the waveform itself; the round trip is exact.

    Frame t is samples ``t * hop_length`` to ``t * hop_length + frame_length``, zeros beyond the end. Decoding adds the
    frames up under a raised cosine and divides by the sum of the cosines, so that frames which agree where they overlap
    give their samples back, and frames which do not are faded into each other.

    Args:
        sample_rate: Samples in a second.
        frame_length: Samples in a frame, F.
        hop_length: Samples from the start of a frame to the start of the next, at most ``frame_length``.
        labels: The names of the classes.

    Raises:
        CodecError: An option is not as described.
    """

    name = "framed"
    kind = "symmetric"

    def __init__(
        self, *, sample_rate: int, frame_length: int = 128, hop_length: int = 64, labels: Sequence[str] = ()
    ) -> None:
        super().__init__(sample_rate=sample_rate, labels=labels)
        self.frame_length = check_count(frame_length, "frame_length", 1)
        self.hop_length = check_count(hop_length, "hop_length", 1)
        if hop_length > frame_length:
            raise CodecError(
                f"hop_length={hop_length} leaves gaps between frames of frame_length={frame_length}: lower hop_length"
            )

    @property
    def num_features(self) -> int:
        return self.frame_length

    def num_frames(self, num_samples: int) -> int:
        return max(0, -(-(num_samples - self.frame_length) // self.hop_length)) + 1

    def num_samples(self, num_frames: int) -> int:
        return (num_frames - 1) * self.hop_length + self.frame_length

    def analyse(self, waveform: Tensor) -> Tensor:
        whole = self.num_samples(self.num_frames(len(waveform)))
        padded = torch.nn.functional.pad(waveform, (0, whole - len(waveform)))
        return padded.unfold(0, self.frame_length, self.hop_length).contiguous()  # (T, F)

    def _synthesise(self, frames: Tensor) -> Tensor:
        window = torch.sin(math.pi * (torch.arange(self.frame_length, dtype=torch.float64) + 0.5) / self.frame_length)
        window = window.square()  # (F,), above 0 everywhere
        places = torch.arange(len(frames))[:, None] * self.hop_length + torch.arange(self.frame_length)  # (T, F)
        total = torch.zeros(self.num_samples(len(frames)), dtype=torch.float64)
        weight = total.clone()
        total.index_add_(0, places.flatten(), (frames.double() * window).flatten())
        weight.index_add_(0, places.flatten(), window.expand(len(frames), -1).flatten())
        return (total / weight).float()

    def _options(self) -> dict[str, Any]:
        return {
            "sample_rate": self.sample_rate,
            "frame_length": self.frame_length,
            "hop_length": self.hop_length,
            "labels": self.labels,
        }


class MuLawCodec(AudioCodec):
    """Samples on the logarithmic levels of ITU-T G.711, frame by frame: fine near silence, coarse where it is loud.

    A level ``0 .. levels - 1`` stands in a feature as ``2 * level / (levels - 1) - 1``. A model of levels as classes
    takes :meth:`levels_of` and :meth:`from_levels`.

    Args:
        sample_rate: Samples in a second.
        frame_length: Samples in a frame, F; frames do not overlap, and zeros fill the last.
        levels: How many.
        labels: The names of the classes.

    Raises:
        CodecError: An option is not as described.
    """

    name = "mu_law"
    kind = "symmetric"

    def __init__(
        self, *, sample_rate: int, frame_length: int = 64, levels: int = 256, labels: Sequence[str] = ()
    ) -> None:
        super().__init__(sample_rate=sample_rate, labels=labels)
        self.frame_length = check_count(frame_length, "frame_length", 1)
        self.levels = check_count(levels, "levels", 2)

    @property
    def num_features(self) -> int:
        return self.frame_length

    def num_frames(self, num_samples: int) -> int:
        return max(1, -(-num_samples // self.frame_length))

    def num_samples(self, num_frames: int) -> int:
        return num_frames * self.frame_length

    def levels_of(self, waveform: Tensor) -> Tensor:
        """Return the level of each sample, `(N,)` int64.

        Raises:
            CodecError: As for :meth:`encode`.
        """
        from torchaudio.functional import mu_law_encoding

        return mu_law_encoding(check_waveform(waveform).clamp(-1, 1), self.levels)

    def from_levels(self, levels: Tensor) -> Tensor:
        """Return the waveform of levels `(N,)`."""
        from torchaudio.functional import mu_law_decoding

        return mu_law_decoding(levels, self.levels)

    def analyse(self, waveform: Tensor) -> Tensor:
        whole = self.num_samples(self.num_frames(len(waveform)))
        levels = self.levels_of(torch.nn.functional.pad(waveform, (0, whole - len(waveform))))
        return (2 * levels.float() / (self.levels - 1) - 1).reshape(-1, self.frame_length)  # (T, F)

    def _synthesise(self, frames: Tensor) -> Tensor:
        levels = ((frames.flatten().clamp(-1, 1) + 1) / 2 * (self.levels - 1)).round().long()
        return self.from_levels(levels)

    def _options(self) -> dict[str, Any]:
        return {
            "sample_rate": self.sample_rate,
            "frame_length": self.frame_length,
            "levels": self.levels,
            "labels": self.labels,
        }


def check_waveform(waveform: Tensor) -> Tensor:
    """Return a waveform ``(samples,)`` as float32 on the CPU.

    Raises:
        CodecError: It is not one-dimensional, empty, or not finite.
    """
    if waveform.dim() != 1 or not len(waveform):
        raise CodecError(
            f"a waveform of shape {tuple(waveform.shape)} cannot be encoded: give the samples of one channel, (N,)"
        )
    waveform = waveform.detach().float().cpu()
    if not waveform.isfinite().all():
        raise CodecError(f"sample {int((~waveform.isfinite()).int().argmax())} of the waveform is not finite")
    return waveform
