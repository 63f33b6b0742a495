"""Run folders made by hand, with everything that a report shows."""

import json
import time
from pathlib import Path

import mido
import numpy as np
import soundfile
import torch
import yaml
from matplotlib.figure import Figure

from hybridgen.codecs import CharacterCodec
from hybridgen.models import LanguageModel

#: What a model might write, or a file be called, that a careless page would run.
HOSTILE = '</script><img src=x onerror="window.hurt=1"><script>window.hurt=2</script>{{7*7}}\u2028<!--'
TEXT = 'The "cat" sat (here) on 12 mats.\nAnd then "it" left.\n'
OPTIONS = {"stack": {"cell": "gru", "hidden_size": 8, "num_layers": 1}, "embedding_size": 8}


def made_run(folder: Path, *, seed: int = 0, model: bool = True, **record) -> Path:
    """A finished run of a language model, with sounds and pictures as if it made those, too."""
    samples = folder / "samples"
    (folder / "checkpoints").mkdir(parents=True)
    samples.mkdir()
    config = {
        "seed_everything": seed,
        "trainer": {"max_epochs": 3},
        "model": {"class_path": "hybridgen.models.LanguageModel", "init_args": OPTIONS},
        "data": {"class_path": "hybridgen.data.TextData", "init_args": {"source": f"/data/{HOSTILE}"}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    noise = np.random.default_rng(seed)
    lines = ["epoch,step,train/loss,train/tokens_seen,val/loss,val/perplexity"]
    for step in range(0, 300, 10):
        loss = 4 * np.exp(-step / 100) + 0.1 * noise.random() + seed
        lines.append(f"{step // 100},{step},{loss},{step * 64},,")
        if step % 100 == 90:
            lines.append(f"{step // 100},{step},,,{loss + 0.1},{np.exp(loss)}")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    said = {
        "state": "finished",
        "started": time.time() - 3600,
        "seconds": 754.0,
        "monitor": "val/loss",
        "step_metric": "train/tokens_seen",
        "parameters": 1234567,
        "argv": ["hybridgen", "fit", "--config", "ptb", "--name", HOSTILE],
        "versions": {"torch": "2.11.0"},
        "git": {"commit": "0123abc", "changed": True},
        **record,
    }
    (folder / "run.json").write_text(json.dumps(said))
    for epoch in range(3):
        (samples / f"epoch-{epoch:03d}.txt").write_text(f"epoch {epoch} writes\n{HOSTILE}\n", encoding="utf-8")
    write_picture(samples / "kl-step-00000100.png")
    write_picture(folder / "gradient_flow" / "step-00000100.png")
    time_axis = np.arange(4000) / 8000
    soundfile.write(samples / "epoch-002.wav", 0.5 * np.sin(2 * np.pi * 440 * time_axis), 8000)
    write_midi(samples / "epoch-001.mid")
    if model:
        write_checkpoint(folder / "checkpoints" / "best.ckpt")
    return folder


def write_picture(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    figure = Figure(figsize=(2, 1))
    figure.subplots().bar([0, 1], [1, 2])
    figure.savefig(path)


def write_midi(path: Path) -> None:
    midi = mido.MidiFile()
    track = mido.MidiTrack()
    midi.tracks.append(track)
    for key in (60, 64, 67):
        track.append(mido.Message("note_on", note=key, velocity=64, time=0))
        track.append(mido.Message("note_off", note=key, velocity=64, time=480))
    midi.save(path)


def write_checkpoint(path: Path) -> None:
    codec = CharacterCodec.train([TEXT])
    torch.manual_seed(0)
    model = LanguageModel(**OPTIONS, codec=codec.to_config())
    torch.save(
        {
            "hybridgen_model": "LanguageModel",
            "options": model.options,
            "codec": codec.to_config(),
            "state_dict": model.state_dict(),
        },
        path,
    )
