"""Log-mel spectrograms, and back by non-negative least squares and Griffin-Lim.

D. Griffin, J. Lim, "Signal estimation from modified short-time Fourier transform", IEEE TASSP 32 (1984); with the
momentum of N. Perraudin, P. Balazs, P. Søndergaard, "A fast Griffin-Lim algorithm", WASPAA 2013.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hybridgen.codecs.audio import AudioCodec
from hybridgen.codecs.checks import check_count
from hybridgen.codecs.errors import CodecError

_LEAST_SQUARES_STEPS = 100


class LogMelCodec(AudioCodec):
    """The logarithm of mel spectra, scaled to 0 to 1; phases are found again when decoding.

    A feature is ``(decibels - loudest) / dynamic_range + 1``, not below 0: 1 is the loudest band of the training
    sounds, 0 is ``dynamic_range`` below it and everything quieter. Decoding finds the non-negative spectrum whose mel
    spectrum is nearest, and then by Griffin-Lim a waveform with such spectra: the sound is close, not equal.

    Args:
        sample_rate: Samples in a second.
        fft_length: Samples of a spectrum. Default: the power of two nearest to 50 ms.
        hop_length: Samples from one spectrum to the next. Default: a quarter of ``fft_length``.
        num_mels: Bands, F.
        low_frequency: Of the lowest band, in Hz.
        high_frequency: Of the highest band, in Hz. Default: half the sample rate.
        loudest: In decibels, where a full-scale sine is about 0.
        dynamic_range: In decibels.
        iterations: Of Griffin-Lim.
        labels: The names of the classes.

    Raises:
        CodecError: An option is not as described, or there are more bands than ``fft_length`` can tell apart.
    """

    name = "log_mel"
    kind = "unit"

    def __init__(
        self,
        *,
        sample_rate: int,
        fft_length: int | None = None,
        hop_length: int | None = None,
        num_mels: int = 64,
        low_frequency: float = 20.0,
        high_frequency: float | None = None,
        loudest: float = 0.0,
        dynamic_range: float = 80.0,
        iterations: int = 60,
        labels: Sequence[str] = (),
    ) -> None:
        super().__init__(sample_rate=sample_rate, labels=labels)
        nearest = 2 ** max(4, round(math.log2(0.05 * self.sample_rate)))
        self.fft_length = check_count(nearest if fft_length is None else fft_length, "fft_length", 16)
        self.hop_length = check_count(self.fft_length // 4 if hop_length is None else hop_length, "hop_length", 1)
        self.num_mels = check_count(num_mels, "num_mels", 1)
        self.iterations = check_count(iterations, "iterations", 1)
        self.low_frequency = low_frequency
        self.high_frequency = sample_rate / 2 if high_frequency is None else high_frequency
        self.loudest = loudest
        self.dynamic_range = dynamic_range
        for option in ("low_frequency", "high_frequency", "loudest", "dynamic_range"):
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise CodecError(f"{option}={value!r} must be a number: give such a number")
        if not 0 <= self.low_frequency < self.high_frequency <= sample_rate / 2:
            raise CodecError(
                f"low_frequency={low_frequency!r} and high_frequency={self.high_frequency!r} must lie in 0 to "
                f"{sample_rate / 2:g} Hz, half of sample_rate, the lower one first"
            )
        if dynamic_range <= 0:
            raise CodecError(f"dynamic_range={dynamic_range!r} must be above 0 decibels")
        if hop_length is not None and hop_length > self.fft_length // 2:
            raise CodecError(
                f"hop_length={hop_length} is more than half of fft_length={self.fft_length}: the waveform cannot be "
                "found again, lower it"
            )
        if (self._filters.sum(dim=0) == 0).any():
            raise CodecError(
                f"num_mels={num_mels} bands are more than fft_length={self.fft_length} can tell apart at sample_rate="
                f"{sample_rate}: lower num_mels, or raise fft_length"
            )

    @property
    def num_features(self) -> int:
        return self.num_mels

    def num_frames(self, num_samples: int) -> int:
        return num_samples // self.hop_length + 1

    def num_samples(self, num_frames: int) -> int:
        return max(1, num_frames - 1) * self.hop_length

    def analyse(self, waveform: Tensor) -> Tensor:
        """Return log-mel spectra `(T, F)` in decibels of a waveform `(N,)`."""
        spectra = torch.stft(
            waveform,
            self.fft_length,
            self.hop_length,
            window=self._window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        ).abs()  # (frequencies, T)
        mels = spectra.T / self._full_scale @ self._filters  # (T, F)
        return 20 * mels.clamp(min=1e-10).log10()

    def scale(self, frames: Tensor) -> Tensor:
        return ((frames - self.loudest) / self.dynamic_range + 1).clamp(min=0)

    def fitted(self, loudest: float) -> LogMelCodec:
        return LogMelCodec(**{**self._options(), "loudest": float(loudest)})

    def _synthesise(self, frames: Tensor) -> Tensor:
        from torchaudio.functional import griffinlim

        decibels = (frames.clamp(min=0) - 1) * self.dynamic_range + self.loudest
        mels = torch.where(frames > 0, 10 ** (decibels / 20), 0.0)  # (T, F): the floor is silence
        spectra = self._invert(mels).T * self._full_scale  # (frequencies, T)
        # Griffin-Lim mirrors the ends and needs so many samples to do so.
        needed = self.fft_length // (2 * self.hop_length) + 2
        short = needed - spectra.shape[1]
        spectra = torch.nn.functional.pad(spectra, (0, max(0, short)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the phases that it starts from: the same sound every time
            waveform = griffinlim(
                spectra,
                window=self._window,
                n_fft=self.fft_length,
                hop_length=self.hop_length,
                win_length=self.fft_length,
                power=1.0,
                n_iter=self.iterations,
                momentum=0.99,
                length=None,
                rand_init=True,
            )
        return waveform[: self.num_samples(len(frames))]

    def _invert(self, mels: Tensor) -> Tensor:
        """Return the spectra `(T, frequencies)`, not negative, whose mel spectra are nearest to ``mels``, `(T, F)`.

        By the multiplicative steps of Lee and Seung (2001): the filters are not of full rank in general, so that their
        inverse is not at hand.
        """
        spectra = (mels @ torch.linalg.pinv(self._filters)).clamp(min=1e-8)
        target, gram = mels @ self._filters.T, self._filters @ self._filters.T
        for _ in range(_LEAST_SQUARES_STEPS):
            spectra = spectra * target / (spectra @ gram).clamp(min=1e-12)
        return spectra

    @cached_property
    def _window(self) -> Tensor:
        return torch.hann_window(self.fft_length)

    @cached_property
    def _full_scale(self) -> Tensor:
        """The magnitude of a full-scale sine in the middle of a band."""
        return self._window.sum() / 2

    @cached_property
    def _filters(self) -> Tensor:
        """`(frequencies, F)`: triangles of height 1."""
        import warnings

        from torchaudio.functional import melscale_fbanks

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of filters that are all zero: an error here
            return melscale_fbanks(
                self.fft_length // 2 + 1,
                float(self.low_frequency),
                float(self.high_frequency),
                self.num_mels,
                self.sample_rate,
            )

    def _options(self) -> dict[str, Any]:
        return {
            "sample_rate": self.sample_rate,
            "fft_length": self.fft_length,
            "hop_length": self.hop_length,
            "num_mels": self.num_mels,
            "low_frequency": self.low_frequency,
            "high_frequency": self.high_frequency,
            "loudest": self.loudest,
            "dynamic_range": self.dynamic_range,
            "iterations": self.iterations,
            "labels": self.labels,
        }
