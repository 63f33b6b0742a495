"""Sounds for the page: a picture of one, and MIDI as something that a browser plays."""

import io
from pathlib import Path

import mido
import numpy as np
import soundfile

from hybridgen.tracking.pictures import spectrogram_figure

#: Samples a second of what MIDI is played as; a compromise between sound and the size of the page.
RATE = 11025
#: Seconds of a piece that are played.
LONGEST = 16.0
#: Overtones of a note and how loud they are: a soft organ.
_OVERTONES = (1.0, 0.45, 0.25, 0.12)


def spectrogram(path: Path) -> bytes:
    """Level over time and frequency of a sound's first channel, as a PNG.

    Raises:
        RuntimeError: if the file is no sound (soundfile's own error is one).
        ValueError: if it is too short.
    """
    with soundfile.SoundFile(path) as file:
        rate = file.samplerate
        wave = file.read(int(60 * rate), dtype="float32", always_2d=True)[:, 0]
    figure = spectrogram_figure([wave], rate)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=90)
    return written.getvalue()


def play_midi(path: Path) -> bytes:
    """The beginning of a MIDI file as a WAV file, played by a few overtones for each note.

    Raises:
        ValueError: if the file is damaged or has no note.
    """
    try:
        notes = _notes(mido.MidiFile(path))
    except (OSError, EOFError, ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{path} is no MIDI file ({error})") from None
    if not notes:
        raise ValueError(f"{path} has no notes")
    end = min(LONGEST, max(stop for _, stop, _ in notes) + 0.2)
    wave = np.zeros(int(end * RATE), dtype=np.float64)
    for begin, stop, key in notes:
        first, last = int(begin * RATE), min(int((stop + 0.08) * RATE), len(wave))
        if last - first < 2:
            continue
        seconds = np.arange(last - first) / RATE
        pitch = 440.0 * 2.0 ** ((key - 69) / 12)
        heard = [(n, level) for n, level in enumerate(_OVERTONES, 1) if n * pitch < RATE / 2]
        tone = sum(level * np.sin(2 * np.pi * n * pitch * seconds) for n, level in heard)
        # Without its fading in and out a note begins and ends with a click.
        shape = np.minimum(seconds / 0.015, 1) * np.minimum(seconds[::-1] / 0.08, 1) * np.exp(-0.6 * seconds)
        wave[first:last] += tone * shape
    wave *= 0.8 / max(1e-9, float(np.abs(wave).max()))
    written = io.BytesIO()
    soundfile.write(written, wave.astype(np.float32), RATE, format="WAV", subtype="PCM_16")
    return written.getvalue()


def _notes(midi: mido.MidiFile) -> list[tuple[float, float, int]]:
    """Begin and end in seconds and the key of every note that begins in time; drums are left out."""
    now, sounding, notes = 0.0, {}, []
    for message in midi:  # mido merges the tracks and turns ticks into seconds
        now += message.time
        if message.type not in ("note_on", "note_off") or message.channel == 9:
            continue
        key = message.channel, message.note
        if key in sounding:
            notes.append((sounding.pop(key), now, message.note))
        if message.type == "note_on" and message.velocity:
            if now > LONGEST:
                break
            sounding[key] = now
    return notes + [(begun, now, key) for (_, key), begun in sounding.items()]
