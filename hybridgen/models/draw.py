"""DRAW: an image is painted in steps, by a recurrent decoder that is told by a latent what to add at each.

    x'   = x - s(c[t-1])                              what is still wrong, s the logistic function
    h    = encoder(read(x, x', h'[t-1]), h'[t-1])     z[t] ~ q(z | h) = N(m(h), v(h))
    h'   = decoder(z[t])                              c[t] = c[t-1] + write(h')
    log p(x | z) = sum of log Bernoulli(x; s(c[T])),  KL = sum over t of KL(q(z[t]) | N(0, I))

Gregor et al. 2015, arXiv:1502.04623. Encoder and decoder are stacks of any cell of the library, stepped; reading and
writing go through a grid of Gaussian filters, or see all of the image.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen import codecs
from hybridgen.evaluation.frames import FrameTotals
from hybridgen.models.building import build_stack
from hybridgen.models.draw_attention import Attention
from hybridgen.models.element_model import ElementModel
from hybridgen.models.optimisation import tell_epoch_length
from hybridgen.models.processes import shared
from hybridgen.models.sequence_gan_output import joined
from hybridgen.models.sequence_gan_parts import one_hot
from hybridgen.objectives.variational import DiagonalGaussian, KLControl, gaussian_kl
from hybridgen.objectives.variational.gaussian import standard_normal


class DRAW(ElementModel):
    """A DRAW model of black and white images (:class:`hybridgen.data.ImageRowsData` with ``levels: 2``).

    Validation and test report the negative ELBO, ``elbo_per_sequence`` in nats per image and ``elbo_per_frame`` in nats
    per row.

    Args:
        glimpses: steps T that an image is painted in.
        latent_size: width of each step's latent.
        stack: arguments of :class:`hybridgen.cells.Stack` without ``input_size`` for encoder and decoder. Default: one
            layer of 128 LSTM cells.
        read_size: N of the grid of N x N filters that reads; None reads the whole image.
        write_size: N of the one that writes; None writes the whole image.
        kl: options of :class:`hybridgen.objectives.variational.KLControl`, in nats per image.
        learning_rate: peak learning rate of AdamW.
        weight_decay: of matrices; vectors are never decayed.
        betas: of AdamW.
        schedule: ``cosine`` or ``constant``, after the warm-up.
        warmup_steps: steps until the learning rate is at its peak.
        final_learning_rate: where the cosine ends, as a fraction of the peak.
        codec: a saved codec; taken from the data when it is trained.

    Raises:
        ValueError: if an option does not fit; the message names it.
    """

    def __init__(
        self,
        *,
        glimpses: int = 10,
        latent_size: int = 16,
        stack: dict[str, Any] | None = None,
        read_size: int | None = None,
        write_size: int | None = None,
        kl: dict[str, Any] | None = None,
        learning_rate: float = 2.0e-3,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.99),
        schedule: str = "cosine",
        warmup_steps: int = 50,
        final_learning_rate: float = 0.05,
        codec: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        sizes = {"glimpses": glimpses, "latent_size": latent_size, "read_size": read_size, "write_size": write_size}
        for name, value in sizes.items():
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name} is {value!r}: give a whole number of at least 1")
        self.save_hyperparameters(ignore=["codec"])
        self.options = {name: self.hparams[name] for name in inspect.signature(DRAW).parameters if name != "codec"}
        self.kl_control = KLControl(**(kl or {}))
        self.codec: Any = None
        self._totals: dict[str, FrameTotals] = {}
        if codec is not None:
            self._take(codecs.from_config(codec))

    def _take(self, codec: Any) -> None:
        if codec.name != "image_rows" or codec.levels != 2:
            raise ValueError("DRAW paints pixels that are black or white: give it ImageRowsData with levels set to 2")
        self.codec = codec
        self._build()

    def _build(self) -> None:
        options, labels = self.options, self.num_labels
        stack = {"cell": "lstm", "hidden_size": 128} | (options["stack"] or {})
        if stack.get("bidirectional"):
            raise ValueError("stack: DRAW steps through time, set bidirectional to false")
        height, width = self.codec.height, self.codec.width
        self.decoder = build_stack(stack, options["latent_size"] + labels)
        hidden = self.decoder.output_size
        self.reading, self.writing = (
            None if options[name] is None else Attention(hidden, height, width, options[name])
            for name in ("read_size", "write_size")
        )
        patch = height * width if self.reading is None else self.reading.size**2
        self.encoder = build_stack(stack, 2 * patch + hidden + labels)
        self.posterior = nn.Linear(self.encoder.output_size, 2 * options["latent_size"])
        self.paint = nn.Linear(hidden, height * width if self.writing is None else self.writing.size**2)
        self.canvas = nn.Parameter(torch.zeros(height, width))  # what there is before the first step

    def on_train_start(self) -> None:
        """Tell schedules in epochs how long an epoch is."""
        tell_epoch_length(self.kl_control, self.trainer)

    def forward(self, images: Tensor, labels: Tensor | None, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Paint images from what is read of them.

        Args:
            images: ``(B, H, W)``, 0 or 1.
            labels: ``(B,)`` classes, for a model with such.
            noise: ``(B, T, D)`` standard normal; zeros give the means of the posteriors.

        Returns:
            The canvas ``(B, H, W)``, logits of white; and the KL ``(B, T, D)`` nats.
        """
        state, canvas, hidden = self._blank(len(images))
        read = self.encoder.initial_state(len(images), device=images.device, dtype=images.dtype)
        classes, kls = one_hot(labels, self.num_labels), []
        for step in range(noise.shape[1]):
            seen = [images, images - canvas.sigmoid()]
            if self.reading is None:
                patch = torch.cat([image.flatten(1) for image in seen], 1)
            else:
                patch = self.reading.read(seen, hidden)
            encoded, read = self.encoder.step(joined(patch, hidden, classes), read)
            posterior = DiagonalGaussian(*self.posterior(encoded).chunk(2, -1))
            kls.append(gaussian_kl(posterior))
            z = posterior.mean + noise[:, step] * (0.5 * posterior.log_variance).exp()
            hidden, state, canvas = self._painted(z, classes, state, canvas)
        return canvas, torch.stack(kls, 1)

    def _blank(self, rows: int) -> tuple[Any, Tensor, Tensor]:
        like = self.canvas
        state = self.decoder.initial_state(rows, device=like.device, dtype=like.dtype)
        return state, like.expand(rows, -1, -1), like.new_zeros(rows, self.decoder.output_size)

    def _painted(self, z: Tensor, classes: Tensor | None, state: Any, canvas: Tensor) -> tuple[Tensor, Any, Tensor]:
        hidden, state = self.decoder.step(joined(z, classes), state)
        patch = self.paint(hidden)
        added = patch.view_as(canvas) if self.writing is None else self.writing.write(patch, hidden)
        return hidden, state, canvas + added

    def _terms(self, batch: Any, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood ``(B,)`` at a draw of the latents, and the KL ``(B, T, D)``."""
        images = batch.elements
        if images.shape[1] != self.codec.height:
            raise ValueError(f"an image of this model has {self.codec.height} rows, but these have {images.shape[1]}")
        shape = (len(images), self.options["glimpses"], self.options["latent_size"])
        canvas, kl = self(images, self.labels_of(batch), standard_normal(shape, images, generator))
        nll = F.binary_cross_entropy_with_logits(canvas, images, reduction="none").sum((1, 2))
        return nll, kl

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        nll, kl = self._terms(batch)
        terms = self.kl_control(kl.flatten(1), step=self.global_step)
        loss = nll.mean() + terms.loss
        share, means = shared({"loss": loss, "kl": terms.kl}, len(nll), self.device)
        self.log("train/loss", means["loss"], prog_bar=True, batch_size=len(nll))
        self.log("train/kl", means["kl"], batch_size=len(nll))
        return loss * share

    @torch.no_grad()
    def bounds(self, batch: Any, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
        """The negative ELBO, under the name ``elbo``; it has no first row of its own.

        Returns:
            By name, nats of every row ``(B,)`` of images, and of its first row, zeros of the same shape.
        """
        nll, kl = self._terms(batch, generator)
        return {"elbo": (nll + kl.sum((1, 2)), torch.zeros_like(nll))}

    @property
    def judged_by(self) -> str:
        return "elbo"

    def _scores(self) -> dict[str, dict[str, float]]:
        # Rows are not predicted one after another: there is no sense in leaving out the first.
        return {
            name: {convention: value for convention, value in values.items() if "skip_first" not in convention}
            for name, values in super()._scores().items()
        }

    @torch.no_grad()
    def generate(
        self,
        num_samples: int = 1,
        *,
        length: int | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        labels: Sequence[int | str] | None = None,
    ) -> list[Tensor]:
        """New images; see :meth:`ElementModel.generate`.

        Args:
            num_samples: how many.
            length: rows; only all of them can be painted.
            seed: of the random draws. Sample i of a seed is always the same.
            temperature: divides the canvas; 0 paints what is likelier.
            labels: the class of each sample, by number or name, or one for all; by default each class in turn.

        Returns:
            ``(H, W)`` of 0 and 1, on the CPU, for each sample.

        Raises:
            ValueError: if an option does not fit.
        """
        if self.codec is None:
            raise ValueError("this model has not been trained: fit it, or load a checkpoint")
        if not isinstance(num_samples, int) or num_samples < 1:
            raise ValueError(f"num_samples is {num_samples!r}: give a whole number of at least 1")
        if length not in (None, self.codec.height):
            raise ValueError(f"length is {length}: DRAW paints all {self.codec.height} rows, leave it out")
        if not temperature >= 0 or seed < 0:
            raise ValueError(f"temperature is {temperature} and seed is {seed}: give at least 0")
        classes = one_hot(self._chosen_labels(labels, list(range(num_samples))), self.num_labels)
        size = self.options["glimpses"], self.options["latent_size"]
        draws = [np.random.default_rng((seed, number)) for number in range(num_samples)]
        noise = torch.tensor(np.stack([one.standard_normal(size) for one in draws])).to(self.canvas)
        chance = torch.tensor(np.stack([one.random(self.canvas.shape) for one in draws])).to(self.canvas)
        was_training = self.training
        self.eval()
        state, canvas, _ = self._blank(num_samples)
        for z in noise.unbind(1):
            _, state, canvas = self._painted(z, classes, state, canvas)
        self.train(was_training)
        white = chance < (canvas / max(temperature, 1e-6)).sigmoid()
        return list(white.float().cpu())

    @torch.no_grad()
    def reconstruct(self, sequences: list[Tensor], labels: list[int] | None = None) -> list[Tensor]:
        """Images as the model sees them: the probability of white, given the means of the posteriors.

        Args:
            sequences: ``(H, W)`` each.
            labels: the class of each, for a model with such.

        Raises:
            ValueError: if there are none, or one is of another size.
        """
        size = (self.codec.height, self.codec.width)
        if not sequences or any(tuple(s.shape) != size for s in sequences):
            raise ValueError(f"images must have the shape {size}: give at least one such")
        if self.num_labels and labels is None:
            raise ValueError("this model is conditional: give the label of each image")
        images = torch.stack([s.float() for s in sequences]).to(self.device)
        noise = images.new_zeros(len(images), self.options["glimpses"], self.options["latent_size"])
        was_training = self.training
        self.eval()
        canvas, _ = self(images, None if labels is None else torch.tensor(labels, device=self.device), noise)
        self.train(was_training)
        return list(canvas.sigmoid().cpu())
