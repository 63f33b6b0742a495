"""Trainings that one process or two can do: the same batches all together, the same noise for the same sample."""

import os
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy

from hybridgen.codecs import ImageRowsCodec, PianoRollCodec
from hybridgen.data import ElementSequences, SeriesData, TextData
from hybridgen.models import (
    DRAW,
    LanguageModel,
    LatentGAN,
    SequenceGAN,
    SequenceModel,
    SequenceVAEGAN,
    TextVAE,
    VariationalRNN,
    draw,
)
from hybridgen.models import variational_rnn as vrnn
from hybridgen.objectives.variational import gaussian, priors
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
        train=str(path), valid=str(path), test=str(path), cache_dir=f"{path}.cache", layout=layout, batch_size=rows,
        valid_batch_size=rows, codec="bytes", **options,
    )  # fmt: skip


class Elements(pl.LightningDataModule):
    """Sequences of zeros and ones: piano rolls of many lengths unless another codec and lengths are given."""

    def __init__(self, rows, lengths=range(3, 14), codec=None):
        super().__init__()
        self.rows, self.codec = rows, codec or PianoRollCodec(lowest_key=60, num_keys=6)
        draws, width = np.random.default_rng(0), self.codec.num_features
        self.sequences_of = [(draws.random((length, width)) < 0.3).astype(np.float32) for length in lengths]

    def _loader(self, shuffle):
        processes = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        return ElementSequences(self.sequences_of, batch_size=self.rows, shuffle=shuffle, **processes)

    def train_dataloader(self):
        return self._loader(True)

    def val_dataloader(self):
        return self._loader(False)


def noise_of(number, *shape):
    """Random numbers that are those of a sample, whichever process has it."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(int(number)))


def noise_by_rows(watch):
    """In place of ``standard_normal``: for a batch of training by its rows, in evaluation by their numbers."""

    def noise(shape, like, generator=None):
        names = watch.names() if generator is None else range(shape[-2])
        return torch.stack([noise_of(name, *shape[-1:]) for name in names]).expand(shape)

    return noise


class Watch(pl.Callback):
    """Keeps the losses (of those names the first that is there), and the batch that is being worked on."""

    def __init__(self, *losses):
        self.names_of_losses, self.losses, self.batch, self.drawn = losses or ("train/loss",), [], None, None

    def names(self):
        """Numbers of the rows of the batch, whichever process has them."""
        return self.batch.positions if hasattr(self.batch, "positions") else self.batch.indices

    def setup(self, trainer, pl_module, stage):
        torch.manual_seed(1)  # Lightning draws anew from its seed where there are several processes

    def on_train_start(self, trainer, pl_module):
        self.drawn = torch.rand(4)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batch = batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        found = [trainer.callback_metrics[n] for n in self.names_of_losses if n in trainer.callback_metrics]
        self.losses.append(float(found[0]))


def language_model(rows, folder):
    data = text(folder, "lanes", rows, bptt=9, random_bptt=True)
    options = {"activation_regularisation": 0.5, "temporal_regularisation": 0.5}
    model = LanguageModel(stack={"cell": "gru", "hidden_size": 6, "num_layers": 2}, embedding_size=6, **SGD, **options)
    return model, data, Watch(), []


def language_model_of_lines(rows, folder):
    model = LanguageModel(stack={"cell": "gru", "hidden_size": 6}, embedding_size=6, **SGD)
    return model, text(folder, "lines", rows), Watch(), []


def text_vae(rows, folder):
    watch = Watch()
    model = TextVAE(
        encoder={"hidden_size": 6}, decoder={"hidden_size": 6}, embedding_size=6, latent_size=3,
        **SGD | {"learning_rate": 0.02},
    )  # fmt: skip
    return model, text(folder, "lines", rows), watch, [patch.object(gaussian, "standard_normal", noise_by_rows(watch))]


def variational_rnn(rows, folder):
    watch, walk = Watch(), vrnn.walk

    def walk_with_noise(dynamics, head, elements, *arguments, **options):
        if torch.is_grad_enabled():
            made = [noise_of(number, 13, 3)[: elements.shape[1]] for number in watch.batch.indices]
            options["noise"] = torch.stack(made, 1)
        return walk(dynamics, head, elements, *arguments, **options)

    model = VariationalRNN(latent_size=3, stack={"hidden_size": 6}, warmup_steps=0, learning_rate=1e-3)
    return model, Elements(rows), watch, [patch.object(vrnn, "walk", walk_with_noise)]


def sequence_model(rows, folder):
    return SequenceModel(stack={"hidden_size": 6}, warmup_steps=0, learning_rate=1e-3), Elements(rows), Watch(), []


def sequence_gan(rows, folder, **options):
    data = SeriesData(source="sines", num_series=22, length=6, num_features=2, batch_size=rows)
    model = SequenceGAN(
        mode="direct", stack={"hidden_size": 6}, minibatch=False, warmup_steps=0, step_noise=2, **options
    )
    watch = Watch("train/critic_loss", "train/teacher_forced")
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


def sequence_gan_feedback(rows, folder):
    """The generator reads real steps in the first batches, and then its own."""
    return sequence_gan(rows, folder, feedback=True, warm_start_steps=3)


def sequence_gan_latent(rows, folder):
    """The autoencoder in the first epoch, its codes normalised over both processes' rows; then the GAN over codes."""
    data = SeriesData(source="sines", num_series=22, length=6, num_features=2, batch_size=rows)
    small = {"code_size": 3, "hidden_size": 6, "num_layers": 1, "autoencoder_steps": 3, "latent_updates": 2}
    model = SequenceGAN(stack={"hidden_size": 6}, minibatch=False, warmup_steps=0, code_noise=0.0, **small)
    watch = Watch("train/critic_loss", "train/reconstruction")

    def by_sample(self, noise):
        if self.trainer.state.fn != "fit" or not self.training:
            return noise
        rows = watch.names()
        return {key: torch.stack([noise_of(int(n), *value.shape[1:]) for n in rows]) for key, value in noise.items()}

    def chosen(self, rows):
        return watch.names().cpu() % len(self._codes)

    return model, data, watch, [
        patch.object(SequenceGAN, "_drawn", by_sample),
        patch.object(SequenceGAN, "_chosen", chosen),
    ]  # fmt: skip


def sequence_gan_timegan(rows, folder):
    """Its three parts; no moments, which each process has of its own rows."""
    data = SeriesData(source="sines", num_series=22, length=6, num_features=2, batch_size=rows)
    small = {"code_size": 3, "step_noise": 2, "autoencoder_steps": 2, "supervisor_steps": 2, "moment_weight": 0.0}
    stack = {"hidden_size": 6}
    model = SequenceGAN(mode="timegan", stack=stack, minibatch=False, warmup_steps=0, **small)
    watch = Watch("train/critic_loss", "train/reconstruction", "train/supervised")

    def by_sample(self, noise):
        if self.trainer.state.fn != "fit" or not self.training:
            return noise
        rows = watch.names()
        return {key: torch.stack([noise_of(int(n), *value.shape[1:]) for n in rows]) for key, value in noise.items()}

    return model, data, watch, [patch.object(SequenceGAN, "_drawn", by_sample)]


def sequence_vaegan(rows, folder):
    """Each process's part is of an even number of rows, the first half of which the critic sees reconstructed."""
    watch = Watch("train/loss")
    small = {"stack": {"hidden_size": 6}, "latent_size": 3, "warmup_steps": 0}
    model = SequenceVAEGAN(minibatch=False, scores="sequence", **small)

    def normal(number, *shape):
        names = watch.names()[-number:]
        return torch.stack([noise_of(name, *shape) for name in names])

    def code(self, posterior):
        return posterior.mean + normal(len(posterior.mean), 3) * (0.5 * posterior.log_variance).exp()

    def prior(self, number):
        return normal(number, 3)

    def draws(self, z, rows, *, relaxed):
        chances = torch.cat([normal(len(watch.names()), 13, 6).sigmoid()] * (len(z) // len(watch.names())))
        return self.generator.draw(z, chances[:, : rows.values.shape[1]], rows, relaxed=relaxed)

    parts = {"_code": code, "_prior": prior, "_draws": draws}
    patches = [patch.object(SequenceVAEGAN, name, part) for name, part in parts.items()]
    data = Elements(4 * rows // 3, lengths=[*range(3, 14), 5, 7, 9, 11, 13])
    return model, data, watch, patches


def latent_gan(rows, folder):
    data, watch = text(folder, "lines", rows), Watch("train/critic_loss")
    data.prepare_data()
    data.setup("fit")
    vae = {"encoder": {"hidden_size": 6}, "decoder": {"hidden_size": 6}, "embedding_size": 6, "latent_size": 3}
    small = {"hidden_size": 6, "num_layers": 1, "noise_size": 3, "critic_steps": 2}
    judged = {"loss": "relativistic", "penalty": "r1_r2", "penalty_weight": 1.0, "learning_rate": 1e-2}
    model = LatentGAN(vae=vae, codec=data.codec.to_config(), **small, **judged)
    noise = noise_by_rows(watch)
    return model, data, watch, [patch.object(where, "standard_normal", noise) for where in (gaussian, priors)]


def draw_images(rows, folder):
    watch = Watch()

    def noise(shape, like, generator=None):
        names = watch.names() if generator is None else range(shape[0])
        return torch.stack([noise_of(name, *shape[1:]) for name in names])

    model = DRAW(glimpses=3, latent_size=2, stack={"hidden_size": 6}, warmup_steps=0, learning_rate=1e-3)
    data = Elements(rows, lengths=[5] * 15, codec=ImageRowsCodec(height=5, width=4, levels=2))
    return model, data, watch, [patch.object(draw, "standard_normal", noise)]


def one_rank_breaks(rows, folder):
    """In the last process, what is carried is no number before the third batch."""

    class Break(Watch):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 2 and trainer.global_rank == trainer.world_size - 1:
                pl_module.carried = type(pl_module.carried)(*(part * float("nan") for part in pl_module.carried))

    model, data, _, patches = language_model(rows, folder)
    return model, data, Break(), patches


MODELS = (
    language_model,
    text_vae,
    variational_rnn,
    sequence_model,
    sequence_gan,
    sequence_gan_latent,
    sequence_gan_feedback,
    sequence_gan_timegan,
)
SCENARIOS = {f.__name__: f for f in (*MODELS, language_model_of_lines, sequence_vaegan, latent_gan, draw_images)}
OTHERS = {"one_rank_breaks": one_rank_breaks}


def run(name, folder, processes, strategy=None, clip=1.0, callbacks=()):
    """Train two epochs on global batches of 6 rows; what one process has of it then."""
    pl.seed_everything(0, verbose=False)
    model, data, watch, patches = (SCENARIOS | OTHERS)[name](6 // processes, folder)
    guard = SkipNonFinite()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=strategy or (DDPStrategy(process_group_backend="gloo") if processes > 1 else "auto"),
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=clip if model.automatic_optimization else None,
        callbacks=[NoiseByRank(), guard, watch, *callbacks],
    )
    for each in patches:
        each.start()
    try:
        trainer.fit(model, datamodule=data)
    finally:
        patch.stopall()
    validation = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    # Figures without random numbers in them, and of no text that each process begins anew in its middle.
    exact = name == "language_model_of_lines"
    return SimpleNamespace(
        losses=watch.losses,
        # What is added before a normalisation has no gradient but rounding errors; Adam moves it all the same.
        weights=torch.cat(
            [p.detach().flatten() for n, p in model.named_parameters() if not n.endswith("to_code.bias")]
        ),
        validation=validation,
        test=trainer.test(model, datamodule=data, verbose=False)[0] if exact else {},
        skipped=guard.skipped.total,
        drawn=watch.drawn,
    )
