"""Notes that need no file: plucked strings and struck bars, at every pitch of a few octaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from hybridgen.data.errors import DataError, check_count, check_drawn

INSTRUMENTS = ("plucked", "struck")
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
#: Frequencies of a bar's modes over the lowest, free at both ends: Fletcher and Rossing, "The physics of musical
#: instruments", section 2.15.
_BAR_MODES = (1.0, 2.756, 5.404, 8.933)
_LOWEST, _HIGHEST = 48, 84  # MIDI numbers: C3 to C6, above which the partials leave the band of 8 kHz


@dataclass(frozen=True)
class Note:
    """One note.

    Attributes:
        instrument: ``"plucked"`` or ``"struck"``.
        pitch: MIDI number; 69 is A4, 440 Hz.
        seed: Of what differs from one note to another of the same pitch.
    """

    instrument: str
    pitch: int
    seed: int

    @property
    def name(self) -> str:
        """The pitch by name, such as ``"A4"``."""
        return f"{PITCHES[self.pitch % 12]}{self.pitch // 12 - 1}"

    @property
    def frequency(self) -> float:
        """In Hz."""
        return 440.0 * 2 ** ((self.pitch - 69) / 12)

    def play(self, sample_rate: int, seconds: float) -> np.ndarray:
        """Return the waveform `(N,)`, float32, its peak at 1."""
        generator = np.random.default_rng((self.seed, self.pitch, INSTRUMENTS.index(self.instrument)))
        samples = max(2, round(sample_rate * seconds))
        sound = pluck if self.instrument == "plucked" else strike
        waveform = sound(self.frequency, samples, sample_rate, generator)
        return (waveform / np.abs(waveform).max()).astype(np.float32)


def pluck(frequency: float, samples: int, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """Return a plucked string `(samples,)`: noise in a delay line that loses its high partials first.

    K. Karplus, A. Strong, "Digital synthesis of plucked-string and drum timbres", Computer Music Journal 7 (1983),
    tuned by the all-pass filter of D. Jaffe, J. Smith, "Extensions of the Karplus-Strong plucked-string algorithm",
    in the same issue.
    """
    period = sample_rate / frequency
    delay = int(period - 0.5 - 0.1)  # half a sample is the average's, the rest (0.1 to 1.1) the all-pass filter's
    rest = period - 0.5 - delay
    allpass = (1 - rest) / (1 + rest)
    loss = 10 ** (-3 * period / sample_rate / generator.uniform(0.8, 2.0))  # per period: -60 dB in so many seconds
    # y = x + loss * z^-delay * (1 + z^-1) / 2 * (c + z^-1) / (1 + c z^-1) * y
    loop = 0.5 * loss * np.convolve([1.0, 1.0], [allpass, 1.0])
    denominator = np.zeros(delay + 3)
    denominator[:2] = 1.0, allpass
    denominator[delay:] -= loop
    excitation = np.zeros(samples)
    burst = generator.uniform(-1, 1, delay)
    burst -= burst.mean()  # a constant would ring as long as the note
    excitation[: min(delay, samples)] = burst[:samples]
    shift = max(1, round(generator.uniform(0.1, 0.4) * delay))  # where the string is plucked: a comb
    excitation[shift:] -= excitation[:-shift].copy()
    return lfilter([1.0, allpass], denominator, excitation)


def strike(frequency: float, samples: int, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """Return a struck bar `(samples,)`: a few inharmonic modes, the higher the sooner gone."""
    time = np.arange(samples) / sample_rate
    decay = generator.uniform(0.25, 0.5)  # seconds in which the lowest mode falls to 1/e
    waveform = np.zeros(samples)
    for mode, ratio in enumerate(_BAR_MODES):
        if frequency * ratio < sample_rate / 2:
            level = generator.uniform(0.6, 1.0) * 0.45**mode
            waveform += level * np.exp(-time * ratio / decay) * np.sin(2 * np.pi * frequency * ratio * time)
    attack = np.minimum(1, time / 0.002)  # two milliseconds: no click
    return waveform * attack


def make_notes(number: int, *, lowest: int, highest: int, seed: int) -> list[Note]:
    """Return ``number`` notes, every instrument and pitch in turn, each with a character of its own.

    Raises:
        DataError: An option is not as described.
    """
    check_count(number, "num_notes")
    check_drawn("num_notes", number)
    check_count(seed, "data_seed", 0)
    if not _LOWEST <= lowest <= highest <= _HIGHEST:
        raise DataError(
            f"lowest_pitch={lowest!r} and highest_pitch={highest!r} must be MIDI numbers of {_LOWEST} (C3) to "
            f"{_HIGHEST} (C6), the lower one first"
        )
    kinds = [(instrument, pitch) for pitch in range(lowest, highest + 1) for instrument in INSTRUMENTS]
    return [
        Note(*kinds[number % len(kinds)], seed=int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))
        for number in range(number)
    ]
