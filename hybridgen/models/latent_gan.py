"""A generative adversarial network in the latent space of a text VAE, which takes the place of its prior.

    real  z = (m + s noise - centre) / scale,  N(m, s^2) = q(z | x) of the frozen VAE, x from the training text
    fake  G(e),  e ~ N(0, I)
    text  x ~ p(x | centre + scale G(e))

As ARAE (Zhao et al. 2018, "Adversarially regularized autoencoders", arXiv:1706.04223), with the autoencoder trained
first: sentences are drawn where the aggregate posterior has its mass, which for a VAE that uses its latent is not where
the prior has it. The critic never sees a word; the posteriors of all training sentences are computed once.
"""

import contextvars
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from hybridgen.data import TextBatch
from hybridgen.data.lines import Lines
from hybridgen.evaluation.latent_distance import energy_distance
from hybridgen.generation import DecodingOptions, Samples
from hybridgen.models import text_vae_generation as generation
from hybridgen.models.processes import gathered, processes, refuse_half_precision, shared, train_parts_in_turn
from hybridgen.models.sequence_gan_output import perceptron
from hybridgen.models.text_vae import TextVAE
from hybridgen.objectives import adversarial
from hybridgen.objectives.variational import DiagonalGaussian, StandardNormalPrior
from hybridgen.restoring import read_contents, restore
from hybridgen.tracking.latent import TrackLatent

PENALTIES = ("gradient_penalty", "r1_r2", "none")
#: Latents that a validation compares, at most: its cost grows with their square.
COMPARED = 4096


class LatentGAN(pl.LightningModule):
    """A GAN over the latents of a trained :class:`TextVAE`; its checkpoint holds the VAE, and samples by itself.

    Data is the text that the VAE was trained on, with ``layout: lines``; an epoch has as many latents as that has
    sentences. The trainer's steps count updates of critic and generator both.

    Args:
        vae_checkpoint: a checkpoint of a TextVAE with a Gaussian posterior.
        vae: options of the VAE; set when this model is loaded from a checkpoint of its own, instead of the former.
        hidden_size: width of generator and critic.
        num_layers: hidden layers of each.
        noise_size: dimensions of the generator's noise.
        loss: a pair of :mod:`hybridgen.objectives.adversarial`: ``wasserstein``, ``relativistic``, ...
        penalty: ``gradient_penalty`` (WGAN-GP), ``r1_r2`` (half the weight each; for ``relativistic``) or ``none``.
        penalty_weight: of it.
        critic_steps: updates of the critic for each of the generator.
        average_decay: of the moving average of the generator's weights, which samples come from.
        learning_rate: of both, by Adam.
        betas: of Adam.
        seed: of the order of latents.
        codec: the VAE's codec, when loaded from a checkpoint.

    Raises:
        ValueError: if an option does not fit, or the checkpoint is not of such a VAE; the message says which.
    """

    monitor = "val/energy_distance"

    def __init__(
        self,
        *,
        vae_checkpoint: str | None = None,
        vae: dict[str, Any] | None = None,
        hidden_size: int = 256,
        num_layers: int = 2,
        noise_size: int = 64,
        loss: str = "wasserstein",
        penalty: str = "gradient_penalty",
        penalty_weight: float = 10.0,
        critic_steps: int = 5,
        average_decay: float = 0.999,
        learning_rate: float = 2.0e-4,
        betas: tuple[float, float] = (0.0, 0.9),
        seed: int = 0,
        codec: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        for name, value in (
            ("hidden_size", hidden_size), ("num_layers", num_layers), ("noise_size", noise_size),
            ("critic_steps", critic_steps),
        ):  # fmt: skip
            if value < 1:
                raise ValueError(f"{name} is {value}: give at least 1")
        if penalty not in PENALTIES:
            raise ValueError(f"penalty is {penalty!r}: choose one of {', '.join(PENALTIES)}")
        if not penalty_weight >= 0:
            raise ValueError(f"penalty_weight is {penalty_weight}: give at least 0")
        self.adversarial = adversarial.make(loss)
        self.save_hyperparameters(ignore=["codec", "vae"])
        # In a context of its own: the command line leaves there the options of the model that it builds, which would be
        # taken for those of the VAE.
        self.vae = contextvars.Context().run(_vae, vae_checkpoint, vae, codec).requires_grad_(False).eval()
        names = [name for name in inspect.signature(LatentGAN).parameters if name not in ("codec", "vae")]
        # Whoever loads this model's checkpoint does not have the VAE's.
        inside = self.vae.options | {"class_name": type(self.vae).__name__}
        self.options = {name: self.hparams[name] for name in names} | {"vae_checkpoint": None, "vae": inside}
        size = self.vae.latent_size
        self.noise = StandardNormalPrior(noise_size)
        self.generator = perceptron(noise_size, hidden_size, num_layers, size)
        self.critic = perceptron(size, hidden_size, num_layers, 1)
        self.average = adversarial.moving_average(self.generator, decay=average_decay)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.collapse = None  # this model learns no posterior

    @property
    def codec(self) -> Any:
        """The VAE's codec."""
        return self.vae.codec

    @property
    def latent_size(self) -> int:
        """Dimensions of the latent."""
        return self.vae.latent_size

    def train(self, mode: bool = True) -> "LatentGAN":
        """As ever, but the VAE and the averaged generator are never in training mode."""
        super().train(mode)
        self.vae.eval()
        self.average.eval()
        return self

    def forward(self, noise: Tensor) -> Tensor:
        """Latents ``(N, D)`` of noise ``(N, noise_size)``, by the averaged generator."""
        return self.centre + self.scale * self.average.module(noise)

    # Training --------------------------------------------------------------------------------------------------

    def run_callbacks(self, folder: Path) -> list[pl.Callback]:
        """What `hybridgen fit` adds to a training of this model."""
        return [TrackLatent(folder)]

    def setup(self, stage: str) -> None:
        """Check that the data is what the VAE was trained on.

        Raises:
            ValueError: if the precision is 16, the data are no sentences, or their codec is another than the VAE was
                trained with.
        """
        refuse_half_precision(self.trainer)
        data = self.trainer.datamodule
        if data is None:
            return
        train_parts_in_turn(self)
        if data.layout != "lines":
            raise ValueError("a latent GAN learns from sentences: set the data's layout to 'lines'")
        if data.codec.to_config() != self.codec.to_config():
            raise ValueError(
                "the data's codec is not the one the VAE was trained with: give the data and codec options that the "
                "VAE was trained with"
            )

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Compute the posteriors of all training sentences, and what their latents are standardised by."""
        data = self.trainer.datamodule
        lines = Lines(data.tokens("train"), batch_size=256, shuffle=False, max_length=data.max_length)
        posteriors = [self._posterior(batch) for batch in lines]
        self.cache = DiagonalGaussian(*(torch.cat(parts) for parts in zip(*posteriors, strict=True)))
        self.standardise(self.cache)

    def standardise(self, posteriors: DiagonalGaussian) -> None:
        """Take mean and standard deviation of the aggregate posterior, ``(N, D)``, as the unit of latents."""
        variance = posteriors.mean.var(0, unbiased=False) + posteriors.log_variance.exp().mean(0)
        self.centre.copy_(posteriors.mean.mean(0))
        self.scale.copy_(variance.clamp(min=1e-12).sqrt())

    def _posterior(self, batch: TextBatch) -> DiagonalGaussian:
        lengths = None if batch.lengths is None else batch.lengths.to(self.device)
        return self.vae.posterior(batch.targets.to(self.device), lengths)

    def on_train_start(self) -> None:
        self.on_train_epoch_start()  # which a run that is resumed within an epoch does not see

    def on_train_epoch_start(self) -> None:
        # By seed and epoch alone: a resumed run sees the latents in the order they would have come, and processes deal
        # out those that one process would see.
        key = (self.hparams.seed * 1_000_003 + self.current_epoch) * 1009
        self._order = torch.randperm(len(self.cache.mean), generator=torch.Generator().manual_seed(key))

    def training_step(self, batch: TextBatch, batch_index: int) -> None:
        """The batch says how many; its sentences are all of a length, which a batch for a critic must not be."""
        size = len(batch.inputs)
        share, _ = shared({}, size, self.device)
        # Sizes of batches differ by one: the place is told by the batch's number, so that none is left out for that.
        start = batch_index * len(self._order) // self.trainer.num_training_batches
        mine = start + self.global_rank + processes() * torch.arange(size)
        rows = self._order[mine % len(self._order)].to(self.device)
        real = (DiagonalGaussian(*(part[rows] for part in self.cache)).sample() - self.centre) / self.scale
        for_critic, for_generator = self.optimizers()
        fake = self.generator(self.noise.sample(size)).detach()
        scores_real, scores_fake = self._score(real), self._score(fake)
        critic_loss = self.adversarial.critic(scores_real, scores_fake)
        penalty = self._penalty(real, fake)
        for_critic.zero_grad()
        self.manual_backward((critic_loss + self.hparams.penalty_weight * penalty) * share)
        for_critic.step()
        right = adversarial.accuracy(scores_real, scores_fake, pairs=self.adversarial.pairs)
        values = {"critic_loss": critic_loss, "penalty": penalty, "critic_accuracy": right}
        # Over epochs: one may have fewer batches than the generator waits for.
        number = self.current_epoch * self.trainer.num_training_batches + batch_index
        if (number + 1) % self.hparams.critic_steps == 0:
            fake = self.generator(self.noise.sample(size))
            loss = self.adversarial.generator(self._score(fake), self._score(real) if self.adversarial.pairs else None)
            for_generator.zero_grad()
            self.manual_backward(loss * share)
            for_generator.step()
            self.average.update_parameters(self.generator)
            values["generator_loss"] = loss
        _, values = shared(values, size, self.device)
        self.log_dict({f"train/{name}": value for name, value in values.items()}, batch_size=size)

    def _score(self, latents: Tensor) -> Tensor:
        return self.critic(latents).squeeze(-1)

    def _penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        if self.hparams.penalty == "none":
            return real.new_zeros(())
        if self.hparams.penalty == "gradient_penalty":
            return adversarial.gradient_penalty(self._score, real, fake)
        return 0.5 * (adversarial.r1(self._score, real) + adversarial.r2(self._score, fake))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the critic and for the generator."""
        options = {"lr": self.hparams.learning_rate, "betas": tuple(self.hparams.betas)}
        return [torch.optim.Adam(part.parameters(), **options) for part in (self.critic, self.generator)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the file complete: the options of the VAE and the codec; its weights are there."""
        checkpoint["hybridgen_model"] = type(self).__name__
        checkpoint["options"] = self.options
        checkpoint["codec"] = self.codec.to_config()

    # Evaluation ------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._real: list[Tensor] = []
        self._draws = torch.Generator(self.device).manual_seed(0)

    def validation_step(self, batch: TextBatch, batch_index: int) -> None:
        self._real.append(self._posterior(batch).sample(generator=self._draws))

    def on_validation_epoch_end(self) -> None:
        self._log_distances("val")

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def test_step(self, batch: TextBatch, batch_index: int) -> None:
        self.validation_step(batch, batch_index)

    def on_test_epoch_end(self) -> None:
        self._log_distances("test")

    def _log_distances(self, stage: str) -> None:
        metrics = self.distances(gathered(torch.cat(self._real), self.device))
        self._real.clear()
        self.log_dict({f"{stage}/{name}": value for name, value in metrics.items()}, sync_dist=True, prog_bar=True)

    def distances(self, real: Tensor) -> dict[str, float]:
        """Energy distance of latents ``(N, D)`` to the generator's and, beside it, to those of the VAE's own prior."""
        real = real[torch.linspace(0, len(real) - 1, min(len(real), COMPARED)).long().to(real.device)]
        if len(real) < 2:
            return {}
        made = self.sample_prior(len(real), seed=0)
        prior = self.vae.sample_prior(len(real), seed=0).to(real.device)
        real, made, prior = ((z - self.centre) / self.scale for z in (real, made, prior))
        return {"energy_distance": energy_distance(real, made), "energy_distance_prior": energy_distance(real, prior)}

    # Generation ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample_prior(self, num_samples: int, *, seed: int = 0, sample_numbers: Sequence[int] | None = None) -> Tensor:
        """Latents from the generator, ``(num_samples, D)``; see :meth:`TextVAE.sample_prior`."""
        numbers = generation.sample_range(num_samples, sample_numbers)
        return self(generation.sample_prior(self.noise, numbers, seed).to(self.device))

    def generate(
        self,
        num_samples: int,
        options: DecodingOptions | None = None,
        *,
        sample_numbers: Sequence[int] | None = None,
    ) -> Samples:
        """New sentences: latents from the generator, then words; see :meth:`TextVAE.generate`."""
        options = options or DecodingOptions()
        numbers = generation.sample_range(num_samples, sample_numbers)
        z = self.sample_prior(num_samples, seed=options.seed, sample_numbers=numbers)
        return self.decode(z, options, sample_numbers=numbers)

    def encode(self, texts: Sequence[str]) -> DiagonalGaussian:
        """:meth:`TextVAE.encode` of the VAE."""
        return self.vae.encode(texts)

    def decode(
        self, z: Tensor, options: DecodingOptions | None = None, *, sample_numbers: Sequence[int] | None = None
    ) -> Samples:
        """:meth:`TextVAE.decode` of the VAE."""
        return self.vae.decode(z, options, sample_numbers=sample_numbers)

    def reconstruct(self, texts: Sequence[str], options: DecodingOptions | None = None, **how: Any) -> Samples:
        """:meth:`TextVAE.reconstruct` of the VAE."""
        return self.vae.reconstruct(texts, options, **how)


def _and_below(cls: type) -> list[type]:
    """A class and all that are made from it."""
    return [cls, *(each for below in cls.__subclasses__() for each in _and_below(below))]


def _vae_class(name: str, holder: str) -> type[TextVAE]:
    classes = {cls.__name__: cls for cls in _and_below(TextVAE)}
    if name not in classes:
        raise ValueError(
            f"{holder} holds a {name}: give a checkpoint of a TextVAE; the module of one of your own is named in "
            "HYBRIDGEN_PLUGINS"
        )
    return classes[name]


def _vae(checkpoint: str | None, options: dict[str, Any] | None, codec: dict[str, Any] | None) -> TextVAE:
    if options is not None:
        chosen = {name: value for name, value in options.items() if name != "class_name"}
        return _vae_class(options.get("class_name", "TextVAE"), "this latent GAN")(**chosen, codec=codec)
    if checkpoint is None:
        raise ValueError("a latent GAN needs a trained text VAE: set vae_checkpoint to a checkpoint of one")
    contents = read_contents(checkpoint)
    cls = _vae_class(str(contents["hybridgen_model"]), f"vae_checkpoint {checkpoint}")
    vae = restore(cls, contents, checkpoint)
    if vae.options["posterior"] != "gaussian":
        raise ValueError(
            f"vae_checkpoint {checkpoint} has posterior {vae.options['posterior']!r}, whose latents lie on a sphere: "
            "give a VAE with a Gaussian posterior"
        )
    return vae
