"""What a latent space holds while it is learned: samples, reconstructions, interpolations, and KL per dimension."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import WandbLogger

from hybridgen.evaluation.latent import DimensionKL, kl_per_dimension
from hybridgen.generation import DecodingOptions
from hybridgen.generation.latent_paths import path_between
from hybridgen.objectives.variational import DiagonalGaussian, gaussian_kl


class TrackLatent(pl.Callback):
    """After every validation, writes down what the latent space of a text VAE holds.

    Into ``samples/`` of the run folder go ``step-NUMBER.txt`` with three tables (samples from the prior, validation
    sentences beside their reconstructions, paths between pairs of them) and ``kl-step-NUMBER.png`` (KL of each
    dimension to the standard normal); to Weights & Biases the same. Samples and sentences are the same every time, so
    that two validations differ by what was learned; nothing here touches the random numbers of training.

    Args:
        folder: the run folder.
        sentences: sentences to reconstruct and to go between; by default eight of the validation text, of at most its
            median length.
        num_samples: samples from the prior.
        steps: sentences of a path, both ends included.
        max_new_tokens: length of a sentence at most.
        num_posteriors: validation sentences that the KL per dimension is a mean over, at most.
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
        num_posteriors: int = 512,
        seed: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.sentences = None if sentences is None else list(sentences)
        self.num_samples = num_samples
        self.steps = steps
        self.num_posteriors = num_posteriors
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
                kl = self._kl(pl_module, trainer.datamodule)
        finally:
            pl_module.train(was_training)
        step = trainer.global_step
        folder = self.folder / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"step-{step:08d}.txt").write_text(_as_text(found), encoding="utf-8")
        figure = None
        if kl is not None:
            figure = kl_figure(kl, title=f"step {step}")
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

    def _kl(self, model: Any, data: Any) -> DimensionKL | None:
        """KL per dimension over validation sentences; None where the posterior is no Gaussian and has none."""
        posteriors = []
        sentences = sorted(validation_sentences(data, self.num_posteriors, longest=1.0), key=len)
        for first in range(0, len(sentences), 128):
            posterior = model.encode(sentences[first : first + 128])
            if not isinstance(posterior, DiagonalGaussian):
                return None
            posteriors.append(gaussian_kl(posterior).cpu())
        return kl_per_dimension(torch.cat(posteriors))

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


def validation_sentences(data: Any, count: int, *, longest: float = 0.5) -> list[str]:
    """Sentences from all over the validation text (the training text where there is none), in its order.

    Args:
        data: the data module, with lines as its units.
        count: how many, at most.
        longest: leave out those above this quantile of lengths.
    """
    tokens = data.tokens("valid" if "valid" in data.counts else "train")
    lengths = np.diff(tokens.starts, append=len(tokens) - 1)  # with the end token
    kept = np.flatnonzero((lengths > 1) & (lengths <= np.quantile(lengths, longest)))
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
