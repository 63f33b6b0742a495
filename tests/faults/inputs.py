"""Files with something wrong, or only strange, in them; and configurations of small models that read them."""

import csv
import io
import struct
from pathlib import Path

import mido
import numpy as np
import soundfile

TRAINER = """
trainer: {max_steps: 2, accelerator: cpu, enable_progress_bar: false, num_sanity_val_steps: 0, limit_val_batches: 1,
  enable_model_summary: false}
"""
TEXT = (
    """
model:
  class_path: hybridgen.models.LanguageModel
  init_args: {stack: {cell: gru, hidden_size: 4, num_layers: 1}, embedding_size: 4}
data:
  class_path: hybridgen.data.TextData
  init_args: {source: SOURCE, batch_size: 2, bptt: 8, cache_dir: cache}
"""
    + TRAINER
)
LINES = TEXT.replace("LanguageModel", "TextVAE").replace(
    "{stack: {cell: gru, hidden_size: 4, num_layers: 1}, embedding_size: 4}",
    "{encoder: {hidden_size: 4}, decoder: {hidden_size: 4}, embedding_size: 4, latent_size: 2}",
).replace("bptt: 8", "layout: lines")  # fmt: skip
SERIES = (
    """
model:
  class_path: hybridgen.models.SequenceGAN
  init_args: {mode: direct, stack: {cell: gru, hidden_size: 4}}
data:
  class_path: hybridgen.data.SeriesData
  init_args: {source: SOURCE, window: 4, batch_size: 4}
"""
    + TRAINER
)
SOUNDS = SERIES.replace("SeriesData", "AudioData").replace("window: 4", "codec: log_mel, sample_rate: 8000")
ROLLS = (
    """
model:
  class_path: hybridgen.models.SequenceModel
  init_args: {stack: {hidden_size: 4}}
data:
  class_path: hybridgen.data.PianoRollData
  init_args: {source: SOURCE, batch_size: 2}
"""
    + TRAINER
)

SENTENCE = "the quick brown fox jumps over the lazy dog.\n"
PROSE = SENTENCE * 30


def write(path: Path, contents: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)


def table(rows, header=("a", "b")) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([header, *rows] if header else rows)
    return out.getvalue()


def numbers(count=60):
    draws = np.random.default_rng(0).random((count, 2))
    return [[f"{a:.3f}", f"{b:.3f}"] for a, b in draws]


def tone(seconds=0.5, rate=8000, number=0):
    return 0.3 * np.sin(np.arange(int(seconds * rate)) * 2 * np.pi * (220 + 40 * number) / rate)


def sounds(folder: Path, count=8) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        soundfile.write(folder / f"{number}.wav", tone(number=number), 8000)


def tunes(folder: Path, count=6, key=60) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        file = mido.MidiFile()
        track = mido.MidiTrack()
        for step in range(8):
            track.append(mido.Message("note_on", note=key + (step + number) % 12, velocity=64, time=0))
            track.append(mido.Message("note_off", note=key + (step + number) % 12, velocity=64, time=480))
        file.tracks.append(track)
        file.save(folder / f"{number}.mid")


def wav_bytes(samples: np.ndarray, rate=8000, subtype="PCM_16") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, subtype=subtype, format="WAV")
    return out.getvalue()


def wav_of_no_frames() -> bytes:
    header = b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    return header + b"data" + struct.pack("<I", 0)
