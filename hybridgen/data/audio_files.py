"""Reading sounds from wav and flac files, whole and finite, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from hybridgen.data.errors import DataError

SUFFIXES = (".wav", ".flac")
_FASTEST = 768_000  # samples in a second, of the fastest recorders: more is a slip, or a damaged header
_LONGEST = 3600.0  # seconds: a sequence of frames that long trains nothing
_UNKNOWN_SIZE = 0xFFFFFFFF  # of a wav that was written to a pipe


def read_sound(path: Path, *, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Read a file as one channel, the mean of those that it has.

    Args:
        path: A wav or flac file.
        sample_rate: To resample to. Default: that of the file.

    Returns:
        Samples `(N,)`, float32, and the sample rate.

    Raises:
        DataError: It is no such file, it is cut short, or it has no samples or samples that are not finite.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate, announced = file.samplerate, file.frames
            samples = file.read(dtype="float32", always_2d=True)  # (N, channels)
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError, TypeError) as error:
        if not path.is_file():
            raise DataError(f"there is no file {path}: check the path") from None
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty: remove it, or get another copy") from None
        reason = getattr(error, "error_string", None) or str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as a sound ({reason.rstrip('.')}): give wav or flac files") from None
    _check_whole(path, announced, len(samples))
    if not len(samples):
        raise DataError(f"{path} has no samples: remove it, or get another copy")
    if not np.isfinite(samples).all():
        place = int((~np.isfinite(samples).all(axis=1)).argmax())
        raise DataError(f"{path} has a sample that is not finite, at {place / rate:.3f} s: repair it, or remove it")
    mono = samples.mean(axis=1)
    if sample_rate is not None and sample_rate != rate:
        mono = resample(mono, rate, sample_rate)
    return mono, sample_rate or rate


def read_rate(path: Path) -> int:
    """Return the sample rate of a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return soundfile.info(path).samplerate
    except (soundfile.LibsndfileError, OSError, RuntimeError):
        return read_sound(path)[1]  # raises, and says what is wrong


def check_rate(rate: int, name: str, least: int = 1) -> int:
    """Return a sample rate that a sound can have.

    Args:
        rate: Samples in a second.
        name: What messages call it.
        least: What it must be.

    Raises:
        DataError: It is no whole number, too low or too high.
    """
    if type(rate) is not int or not least <= rate <= _FASTEST:
        raise DataError(f"{name}={rate!r} must be a whole number of at least {least} and at most {_FASTEST}, in Hz")
    return rate


def resample(samples: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """Return samples `(N,)` at another rate, low-pass filtered."""
    from torchaudio.functional import resample as resample_tensor

    return resample_tensor(torch.from_numpy(samples), rate, sample_rate).numpy()


def trim_silence(samples: np.ndarray, sample_rate: int, threshold: float) -> np.ndarray:
    """Return samples `(N,)` without the quiet at both ends.

    Args:
        samples: `(N,)`.
        sample_rate: Samples in a second.
        threshold: In decibels below the loudest 20 ms, above 0: what is quieter, over 20 ms, is quiet.

    Returns:
        At least one sample of what is there; nothing of a sound that is silent throughout.
    """
    size = max(1, round(0.02 * sample_rate))
    number = -(-len(samples) // size)
    padded = np.pad(samples.astype(np.float64), (0, number * size - len(samples)))
    levels = np.sqrt((padded.reshape(number, size) ** 2).mean(axis=1))  # (pieces,)
    if not levels.max() > 0:
        return samples[:0]
    loud = np.flatnonzero(levels >= levels.max() * 10 ** (-threshold / 20))
    return samples[loud[0] * size : (loud[-1] + 1) * size]


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """Return samples `(length,)`: cut at the end, or followed by silence."""
    return samples[:length] if len(samples) >= length else np.pad(samples, (0, length - len(samples)))


def _check_whole(path: Path, announced: int, read: int) -> None:
    """Raise if the file ends before its header says: soundfile reads such a file short, without an error."""
    if read < announced:
        raise DataError(f"{path} is cut short ({read} of {announced} samples are there): get another copy")
    missing = _missing_bytes(path)
    if missing:
        raise DataError(f"{path} is cut short ({missing} bytes fewer than its header says): get another copy")


def _missing_bytes(path: Path) -> int:
    """Return how many bytes a wav file lacks of the sound data that its header announces; 0 for other files."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RIFX") or head[8:] != b"WAVE":
            return 0
        order = "little" if head[:4] == b"RIFF" else "big"
        place = 12
        while place + 8 <= size:
            file.seek(place)
            name, length = file.read(4), int.from_bytes(file.read(4), order)  # type: ignore[arg-type]
            if name == b"data":
                unknown = length in (0, _UNKNOWN_SIZE)
                return 0 if unknown else max(0, place + 8 + length - size)
            place += 8 + length + length % 2
    return 0


def seconds_to_samples(seconds: float | None, option: str, sample_rate: int) -> int | None:
    """Return a time as a number of samples, at least one.

    Raises:
        DataError: It is no number above 0, or longer than an hour.
    """
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _LONGEST:
        raise DataError(
            f"{option}={seconds!r} must be a number of seconds above 0 and at most {_LONGEST:.0f}, such as 0.5"
        )
    return max(1, round(seconds * sample_rate))
