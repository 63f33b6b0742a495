"""Reading sounds: whole and finite, or not at all."""

import math

import numpy as np
import pytest
import soundfile

from hybridgen.data import DataError
from hybridgen.data.audio_files import fit_length, read_sound, trim_silence

RATE = 8000


def tone(seconds=0.2, frequency=440.0, rate=RATE):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_samples_are_read_exactly(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    samples = np.round(tone() * 32768) / 32768
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    read, rate = read_sound(path)
    assert rate == RATE
    assert read.dtype == np.float32
    assert np.array_equal(read, samples.astype(np.float32))


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone(), 0 * tone()], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(path)[0], tone() / 2, atol=1e-7)


def test_another_rate_is_resampled(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(rate=16_000), 16_000, subtype="FLOAT")
    read, rate = read_sound(path, sample_rate=RATE)
    assert rate == RATE
    assert len(read) == len(tone())
    np.testing.assert_allclose(read[100:-100], tone()[100:-100], atol=0.01)
    soundfile.write(path, tone(frequency=6000, rate=16_000), 16_000, subtype="FLOAT")
    assert np.abs(read_sound(path, sample_rate=RATE)[0][100:-100]).max() < 0.01  # above half the new rate: gone


def damage(path, kind):
    soundfile.write(path, tone(), RATE, subtype="PCM_16", format="FLAC" if "flac" in kind else "WAV")
    content = path.read_bytes()
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "cut by one sample":
        path.write_bytes(content[:-2])
    elif kind == "cut with a list before":
        chunk = b"LIST" + (3).to_bytes(4, "little") + b"abc\0"  # odd: padded to an even length
        path.write_bytes((content[:12] + chunk + content[12:])[:-200])
    elif kind == "flac cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "header":
        path.write_bytes(content[:30])
    elif kind == "text":
        path.write_text("this is no sound")
    elif kind == "nothing":
        path.write_bytes(b"")
    elif kind == "no samples":
        soundfile.write(path, tone()[:0], RATE)
    elif kind == "not finite":
        samples = tone()
        samples[800] = math.nan
        soundfile.write(path, samples, RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("cut", "is cut short"),
        ("cut by one sample", r"is cut short .2 bytes fewer than its header says"),
        ("cut with a list before", "is cut short .200 bytes fewer"),
        ("flac cut", "cut short|cannot be read as a sound"),
        ("header", "cannot be read as a sound|is cut short"),
        ("text", "cannot be read as a sound .*: give wav or flac files"),
        ("nothing", "is empty: remove it"),
        ("no samples", "has no samples: remove it"),
        ("not finite", r"has a sample that is not finite, at 0\.100 s"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, kind, sentence):
    path = tmp_path / "damaged.wav"
    damage(path, kind)
    with pytest.raises(DataError, match=sentence) as error:
        read_sound(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*a\.wav"):
        read_sound(tmp_path / "a.wav")


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path):
    path = tmp_path / "pipe.wav"
    soundfile.write(path, tone(), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(read_sound(path)[0]) == len(tone())


def test_quiet_at_both_ends_is_left_out():
    quiet = np.full(800, 1e-4, dtype=np.float32)
    sound = np.concatenate([quiet, tone(), quiet])
    assert len(trim_silence(sound, RATE, 40)) == pytest.approx(len(tone()), abs=320)
    assert np.array_equal(trim_silence(sound, RATE, 120), sound)
    assert len(trim_silence(np.zeros(500, dtype=np.float32), RATE, 40)) == 0
    assert len(trim_silence(tone()[:7], RATE, 40)) == 7


def test_lengths_are_cut_or_filled():
    assert fit_length(np.arange(3.0), 2).tolist() == [0, 1]
    assert fit_length(np.arange(3.0), 5).tolist() == [0, 1, 2, 0, 0]
