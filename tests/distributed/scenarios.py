"""Trainings that one process or two can do: the same batches all together, the same noise for the same sample.

As a script, ``python scenarios.py FOLDER NAME...`` is one process of two; what came out goes into the folder.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy

from hybridgen.codecs import PianoRollCodec
from hybridgen.data import ElementSequences, SeriesData, TextData
from hybridgen.models import LanguageModel, SequenceGAN, SequenceModel, TextVAE, VariationalRNN
from hybridgen.models import variational_rnn as vrnn
from hybridgen.objectives.variational import gaussian
from hybridgen.tracking import SkipNonFinite
from hybridgen.tracking.processes import NoiseByRank

WORDS = ["a", "cat", "sat", "on", "the", "mat", "while", "dogs", "ran", "off", "and", "it", "rained"]
SGD = {"optimizer": "sgd", "learning_rate": 0.2, "warmup_steps": 0, "schedule": "constant", "weight_decay": 0.0}


def text_file(folder):
    draw = np.random.default_rng(0)
    lines = [" ".join(draw.choice(WORDS, draw.integers(2, 7))) for _ in range(21)]
    path = Path(folder) / f"text-{os.getpid()}.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def text(folder, layout, rows, **options):
    path = text_file(folder)
    return TextData(
        train=str(path), valid=str(path), cache_dir=f"{path}.cache", layout=layout, batch_size=rows,
        valid_batch_size=rows, codec="bytes", **options,
    )  # fmt: skip


class Rolls(pl.LightningDataModule):
    """Piano rolls of many lengths."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.codec = rows, PianoRollCodec(lowest_key=60, num_keys=6)
        draws = np.random.default_rng(0)
        self.rolls = [(draws.random((length, 6)) < 0.3).astype(np.float32) for length in range(3, 14)]

    def _loader(self, shuffle):
        processes = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        return ElementSequences(self.rolls, batch_size=self.rows, shuffle=shuffle, **processes)

    def train_dataloader(self):
        return self._loader(True)

    def val_dataloader(self):
        return self._loader(False)


def noise_of(number, *shape):
    """Random numbers that are those of a sample, whichever process has it."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(int(number)))


class Watch(pl.Callback):
    """Keeps the losses, and the batch that is being worked on."""

    def __init__(self, loss="train/loss"):
        self.loss, self.losses, self.batch, self.drawn = loss, [], None, None

    def setup(self, trainer, pl_module, stage):
        torch.manual_seed(1)  # Lightning draws anew from its seed where there are several processes

    def on_train_start(self, trainer, pl_module):
        self.drawn = torch.rand(4)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batch = batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(trainer.callback_metrics[self.loss]))


def language_model(rows, folder):
    data = text(folder, "lanes", rows, bptt=9, random_bptt=True)
    options = {"activation_regularisation": 0.5, "temporal_regularisation": 0.5}
    model = LanguageModel(stack={"cell": "gru", "hidden_size": 6, "num_layers": 2}, embedding_size=6, **SGD, **options)
    return model, data, Watch(), []


def text_vae(rows, folder):
    watch = Watch()

    def noise(shape, like, generator=None):
        # In training rows are sentences, which their place in the text tells apart.
        places = watch.batch.positions if generator is None else range(shape[-2])
        return torch.stack([noise_of(place, *shape[-1:]) for place in places]).expand(shape)

    model = TextVAE(
        encoder={"hidden_size": 6}, decoder={"hidden_size": 6}, embedding_size=6, latent_size=3,
        **SGD | {"learning_rate": 0.02},
    )  # fmt: skip
    return model, text(folder, "lines", rows), watch, [patch.object(gaussian, "standard_normal", noise)]


def variational_rnn(rows, folder):
    watch, walk = Watch(), vrnn.walk

    def walk_with_noise(dynamics, head, elements, *arguments, **options):
        if torch.is_grad_enabled():
            made = [noise_of(number, 13, 3)[: elements.shape[1]] for number in watch.batch.indices]
            options["noise"] = torch.stack(made, 1)
        return walk(dynamics, head, elements, *arguments, **options)

    model = VariationalRNN(latent_size=3, stack={"hidden_size": 6}, warmup_steps=0, learning_rate=1e-3)
    return model, Rolls(rows), watch, [patch.object(vrnn, "walk", walk_with_noise)]


def sequence_model(rows, folder):
    return SequenceModel(stack={"hidden_size": 6}, warmup_steps=0, learning_rate=1e-3), Rolls(rows), Watch(), []


def sequence_gan(rows, folder):
    data = SeriesData(source="sines", num_series=22, length=6, num_features=2, batch_size=rows)
    model = SequenceGAN(mode="direct", stack={"hidden_size": 6}, minibatch=False, warmup_steps=0, step_noise=2)
    watch = Watch("train/critic_loss")
    draw = SequenceGAN._drawn

    def by_sample(self, noise):
        if self.trainer.state.fn != "fit" or not self.training:
            return draw(self, noise)
        made = {}
        for key, value in noise.items():
            parts = [noise_of(int(n) + 1000 * len(key), *value.shape[1:]) for n in watch.batch.indices]
            made[key] = torch.stack(parts).sigmoid() if key == "chance" else torch.stack(parts)
        return made

    return model, data, watch, [patch.object(SequenceGAN, "_drawn", by_sample)]


def one_rank_breaks(rows, folder):
    """In the last process, what is carried is no number before the third batch."""

    class Break(Watch):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 2 and trainer.global_rank == trainer.world_size - 1:
                pl_module.carried = type(pl_module.carried)(*(part * float("nan") for part in pl_module.carried))

    model, data, _, patches = language_model(rows, folder)
    return model, data, Break(), patches


SCENARIOS = {f.__name__: f for f in (language_model, text_vae, variational_rnn, sequence_model, sequence_gan)}
OTHERS = {"one_rank_breaks": one_rank_breaks}


def run(name, folder, processes):
    """Train two epochs on global batches of 6 rows; what one process has of it then."""
    pl.seed_everything(0, verbose=False)
    model, data, watch, patches = (SCENARIOS | OTHERS)[name](6 // processes, folder)
    guard = SkipNonFinite()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=DDPStrategy(process_group_backend="gloo") if processes > 1 else "auto",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0 if model.automatic_optimization else None,
        callbacks=[NoiseByRank(), guard, watch],
    )
    for each in patches:
        each.start()
    try:
        trainer.fit(model, datamodule=data)
    finally:
        patch.stopall()
    return SimpleNamespace(
        losses=watch.losses,
        weights=torch.cat([p.detach().flatten() for p in model.parameters()]),
        validation={k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")},
        skipped=guard.skipped.total,
        drawn=watch.drawn,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for wanted in sys.argv[2:]:
        torch.save(vars(run(wanted, folder, 2)), folder / f"{wanted}-{os.environ['LOCAL_RANK']}.pt")
