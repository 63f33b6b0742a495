"""What a latent space holds while it is learned: samples, reconstructions, interpolations, and KL per dimension."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import WandbLogger

from hybridgen.evaluation.latent import DimensionKL
from hybridgen.generation import DecodingOptions
from hybridgen.generation.latent_paths import path_between
from hybridgen.objectives.variational import DiagonalGaussian


class TrackLatent(pl.Callback):
    """After every validation, writes down what the latent space of a text VAE holds.

    Into ``samples/`` of the run folder go ``step-NUMBER.txt`` with three tables (samples from the prior, validation
    sentences beside their reconstructions, paths between pairs of them) and ``kl-step-NUMBER.png`` (KL of each
    dimension over the validation text, where posterior and prior let it be told by dimension); the same to Weights &
    Biases. Samples and sentences are the same every time, so that two validations differ by what was learned; nothing
    here touches the random numbers of training.

    Args:
        folder: the run folder.
        sentences: sentences to reconstruct and to go between; by default eight of the validation text, of at most its
            median length.
        num_samples: samples from the prior.
        steps: sentences of a path, both ends included.
        max_new_tokens: length of a sentence at most.
        seed: of the samples.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        sentences: Sequence[str] | None = None,
        num_samples: int = 8,
        steps: int = 6,
        max_new_tokens: int = 100,
        seed: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.sentences = None if sentences is None else list(sentences)
        self.num_samples = num_samples
        self.steps = steps
        self.drawn = DecodingOptions(max_new_tokens=max_new_tokens, seed=seed)
        self.greedy = DecodingOptions(max_new_tokens=max_new_tokens, do_sample=False)
        self.tables: dict[str, list[list[Any]]] = {"samples": [], "reconstructions": [], "interpolations": []}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking or trainer.global_rank:
            return
        was_training = pl_module.training
        pl_module.eval()
        try:
            with torch.no_grad():
                found = self._look(pl_module, trainer.datamodule)
        finally:
            pl_module.train(was_training)
        step = trainer.global_step
        folder = self.folder / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"step-{step:08d}.txt").write_text(_as_text(found), encoding="utf-8")
        figure = None
        report = pl_module.collapse
        if report is not None and len(report.kl.mean) == pl_module.latent_size:
            figure = kl_figure(report.kl, title=f"step {step}")
            figure.savefig(folder / f"kl-step-{step:08d}.png")
        for name, rows in found.items():
            self.tables[name] += [[step, *row] for row in rows]
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._to_wandb(logger, figure)

    def _look(self, model: Any, data: Any) -> dict[str, list[list[str]]]:
        """The rows of the three tables."""
        if self.sentences is None:
            self.sentences = validation_sentences(data, 8)
        sentences = self.sentences
        samples = model.generate(self.num_samples, self.drawn).texts
        posterior = model.encode(sentences)
        means = posterior.mean
        # The straight line is there for any two Gaussian means; latents on a sphere must stay on it.
        path = "lerp" if isinstance(posterior, DiagonalGaussian) else "slerp"
        paths = [path_between(a, b, self.steps, path) for a, b in zip(means[::2], means[1::2], strict=False)]
        texts = model.decode(torch.cat([means, *paths]), self.greedy).texts
        between = [texts[len(means) + i * self.steps :][: self.steps] for i in range(len(paths))]
        return {
            "samples": [[text] for text in samples],
            "reconstructions": [list(pair) for pair in zip(sentences, texts[: len(means)], strict=True)],
            "interpolations": [
                [f"{path + 1}", f"{step / (self.steps - 1):.2f}", text]
                for path, row in enumerate(between)
                for step, text in enumerate(row)
            ],
        }

    def _to_wandb(self, logger: WandbLogger, figure: Figure | None) -> None:
        columns = {
            "samples": ["step", "text"],
            "reconstructions": ["step", "sentence", "reconstruction"],
            "interpolations": ["step", "path", "fraction", "text"],
        }
        for name, rows in self.tables.items():
            logger.log_text(key=f"latent/{name}", columns=columns[name], data=rows)
        if figure is not None:
            import wandb

            logger.experiment.log({"latent/kl_per_dimension": wandb.Image(figure)})


def validation_sentences(data: Any, count: int) -> list[str]:
    """Sentences of at most median length from all over the validation text (the training text where there is none).

    Args:
        data: the data module, with lines as its units.
        count: how many, at most.
    """
    tokens = data.tokens("valid" if "valid" in data.counts else "train")
    lengths = np.diff(tokens.starts, append=len(tokens) - 1)  # with the end token
    kept = np.flatnonzero((lengths > 1) & (lengths <= np.median(lengths)))
    kept = kept[np.unique(np.linspace(0, len(kept) - 1, min(count, len(kept))).round().astype(int))]
    starts = np.asarray(tokens.starts)[kept]
    # The element at a start is the end token of the line before.
    return [
        data.codec.decode(tokens.take(np.arange(start + 1, start + length)))
        for start, length in zip(starts, lengths[kept], strict=True)
    ]


def kl_figure(kl: DimensionKL, *, title: str, active: float = 0.01) -> Figure:
    """Bars of the KL per dimension, largest first.

    Args:
        kl: of :func:`hybridgen.evaluation.kl_per_dimension`.
        title: what it is of.
        active: nats below which a dimension is drawn as unused.
    """
    order = kl.mean.argsort(descending=True)
    mean, error = kl.mean[order].numpy(), kl.standard_error[order].nan_to_num().numpy()
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    colours = ["#2b6cb0" if value >= active else "#cbd5e0" for value in mean]
    axes.bar(range(len(mean)), mean, yerr=error, color=colours, error_kw={"linewidth": 0.6})
    axes.set(xlabel="dimension, largest first", ylabel="KL, nats per sentence")
    axes.set_title(
        f"{title}: KL {mean.sum():.2f} nats, {int((mean >= active).sum())} of {len(mean)} at {active} or more"
    )
    axes.margins(x=0.01)
    return figure


def _as_text(tables: dict[str, list[list[str]]]) -> str:
    lines = ["# samples from the prior", *(row[0] for row in tables["samples"]), "", "# reconstructions"]
    for sentence, text in tables["reconstructions"]:
        lines += [f"< {sentence}", f"> {text}"]
    lines += ["", "# interpolations: path, fraction, sentence"]
    lines += ["  ".join(row) for row in tables["interpolations"]]
    return "\n".join(line.replace("\n", " ") for line in lines) + "\n"
