"""Recurrent nets with a latent variable at every step.

    p(x, z) = prod_t p(z_t | past) p(x_t | z_t, past),   q(z | x) = prod_t q(z_t | past, x)

Three kinds of dynamics (:mod:`hybridgen.models.variational_rnn_dynamics`) and three bounds on log p(x)
(:mod:`hybridgen.evaluation.particles`), any of which trains; all of them are always evaluated, together.
"""

from typing import Any

import torch
from torch import Tensor

from hybridgen.closest import did_you_mean
from hybridgen.evaluation import particles
from hybridgen.models.element_model import ElementModel
from hybridgen.models.optimisation import tell_epoch_length
from hybridgen.models.processes import shared
from hybridgen.models.variational_rnn_bounds import Paths, filter_particles, walk
from hybridgen.models.variational_rnn_dynamics import KINDS
from hybridgen.objectives.variational import KLControl

OBJECTIVES = ("elbo", "iwae", "fivo")


class VariationalRNN(ElementModel):
    """VRNN, SRNN or deep Markov model of piano rolls, series, rows of images or strokes.

    Validation and test report the ELBO, IWAE-k and FIVO-k of the same weights, negated, in nats (less is better).

    Args:
        dynamics: ``vrnn`` (the latent enters the recurrence, Chung et al. 2015), ``srnn`` (a chain of latents above a
            deterministic recurrence, Fraccaro et al. 2016) or ``dmm`` (latents alone, Krishnan et al. 2017).
        latent_size: width D of a step's latent.
        stack: the recurrent part, arguments of :class:`hybridgen.cells.Stack` without ``input_size``. Default: one
            layer of 32 LSTM cells.
        width: of the hidden layers of encoders, prior, posterior and decoder. Default: that of the stack.
        num_layers: ReLU layers of the element encoder.
        posterior: ``filtering`` reads the past and the present, ``smoothing`` also the future, by a stack that runs
            backwards. Default: filtering for ``vrnn``, smoothing for the others, as published.
        residual_posterior: the posterior's mean is the prior's plus what is computed.
        dropout: of encoded elements and of what the head reads, one mask for all steps of a sequence.
        head: distribution of an element: ``bernoulli`` (keys), ``gaussian``, ``mixture_of_logistics`` (numbers) or
            ``bivariate_mixture`` (strokes).
        head_options: further arguments of the head.
        objective: the bound that trains: ``elbo``, ``iwae`` or ``fivo``.
        num_particles: latent paths of each sequence in training.
        evaluation_particles: k of IWAE-k and FIVO-k in validation and test; the ELBO is the mean over as many samples.
        resampling: ``systematic`` or ``multinomial``.
        resampling_threshold: share of the particles below which their effective number makes FIVO resample.
        kl_control: arguments of :class:`hybridgen.objectives.variational.KLControl`: weight, schedule, free_bits,
            target_rate, capacity, in nats per sequence. ``iwae`` and ``fivo`` take weight and schedule, which multiply
            log p(z) - log q(z).
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
        dynamics: str = "vrnn",
        latent_size: int = 32,
        stack: dict[str, Any] | None = None,
        width: int | None = None,
        num_layers: int = 1,
        posterior: str | None = None,
        residual_posterior: bool = True,
        dropout: float = 0.0,
        head: str = "bernoulli",
        head_options: dict[str, Any] | None = None,
        objective: str = "elbo",
        num_particles: int = 1,
        evaluation_particles: int = 5,
        resampling: str = "systematic",
        resampling_threshold: float = 0.5,
        kl_control: dict[str, Any] | None = None,
        learning_rate: float = 3.0e-3,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.99),
        schedule: str = "cosine",
        warmup_steps: int = 50,
        final_learning_rate: float = 0.02,
        codec: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, value, choices in (
            ("dynamics", dynamics, tuple(KINDS)),
            ("objective", objective, OBJECTIVES),
            ("posterior", posterior or "filtering", ("filtering", "smoothing")),
        ):
            if value not in choices:
                hint = did_you_mean(value, choices, f"choose one of {', '.join(choices)}")
                raise ValueError(f"{name} is {value!r}: {hint}")
        sizes = {"latent_size": latent_size, "num_layers": num_layers, "num_particles": num_particles}
        for name, value in (*sizes.items(), ("evaluation_particles", evaluation_particles), ("width", width or 1)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}: give a whole number of at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}: give a probability in [0, 1)")
        particles.check_resampling(resampling, resampling_threshold)
        unfit = sorted(set(kl_control or {}) - {"weight", "schedule"})
        if objective != "elbo" and unfit:
            raise ValueError(
                f"kl_control's {unfit[0]} is for objective 'elbo': {objective!r} has no KL term of its own"
            )
        if objective != "elbo" and num_particles == 1:
            raise ValueError(f"objective {objective!r} with num_particles 1 is the ELBO: give more, such as 4")
        self.save_hyperparameters(ignore=["codec"])
        self._begin(codec)

    def _build(self) -> None:
        options = self.options
        stack = {"cell": "lstm", "hidden_size": 32} | (options["stack"] or {})
        if stack.get("bidirectional"):
            raise ValueError("stack: set bidirectional to false, posterior: smoothing is what reads the future")
        sizes = stack["hidden_size"]
        width = options["width"] or (sizes if isinstance(sizes, int) else list(sizes)[-1])
        posterior = options["posterior"] or ("filtering" if options["dynamics"] == "vrnn" else "smoothing")
        self.dynamics = KINDS[options["dynamics"]](
            self.codec.num_features,
            options["latent_size"],
            width,
            options["num_layers"],
            stack,
            smoothing=posterior == "smoothing",
            residual=options["residual_posterior"],
            dropout=options["dropout"],
            num_labels=self.num_labels,
        )
        self.head = self.make_head(self.dynamics.feature_size)
        self.kl_control = KLControl(**(options["kl_control"] or {}))

    def paths(
        self,
        elements: Tensor,
        lengths: Tensor,
        labels: Tensor | None = None,
        *,
        num_particles: int = 1,
        generator: torch.Generator | None = None,
    ) -> Paths:
        """Draw latent paths from the posterior; see :func:`~hybridgen.models.variational_rnn_bounds.walk`."""
        drawn = {"num_particles": num_particles, "generator": generator}
        return walk(self.dynamics, self.head, elements, lengths, labels, **drawn)

    # Training --------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Tell schedules in epochs how long an epoch is."""
        tell_epoch_length(self.kl_control, self.trainer)

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        nats, kl, weight = self._objective(batch)
        frames = batch.num_elements
        size = len(batch.lengths)
        loss = nats * size / frames
        share, means = shared({"loss": loss, "kl_per_frame": kl * size / frames}, frames, self.device)
        self.log("train/loss", means["loss"], prog_bar=True, batch_size=frames)
        self.log("train/kl_per_frame", means["kl_per_frame"], batch_size=frames)
        self.log("train/kl_weight", float(weight), batch_size=1)
        return loss * share

    def _objective(self, batch: Any) -> tuple[Tensor, Tensor, float]:
        """What is minimised and the KL, in nats per sequence, and the KL's weight."""
        options = self.options
        step = self.global_step
        count = options["num_particles"]
        arguments = (self.dynamics, self.head, batch.elements, batch.lengths, self.labels_of(batch))
        if options["objective"] == "elbo":
            drawn = walk(*arguments, num_particles=count)
            terms = self.kl_control(drawn.kl, step=step, mask=drawn.valid.t().repeat(count, 1))
            reconstruction = drawn.nll.sum(0).mean()
            return reconstruction + terms.loss, terms.kl, terms.weight
        weight = self.kl_control.weight * self.kl_control.schedule(step)
        if options["objective"] == "iwae":
            drawn = walk(*arguments, num_particles=count)
            bound = particles.iwae(drawn.log_ratio * weight - drawn.nll)
            return -bound.mean(), -drawn.log_ratio.detach().sum(0).mean(), weight
        chosen = {"threshold": options["resampling_threshold"], "method": options["resampling"]}
        seen = filter_particles(*arguments, num_particles=count, weight=weight, **chosen)
        return -seen.total.mean(), -seen.log_ratio.mean(), weight

    # Evaluation ------------------------------------------------------------------------------------------------

    @property
    def judged_by(self) -> str:
        """The bound that trains, by its name among those that are evaluated."""
        return (
            f"fivo{self.options['evaluation_particles']}"
            if self.options["objective"] == "fivo"
            else (self.options["objective"])
        )

    @torch.no_grad()
    def bounds(self, batch: Any, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
        """Negative bounds ``elbo``, ``iwae`` and ``fivoK``, K being ``evaluation_particles``.

        Returns:
            By name, nats of every piece ``(B,)`` and of its first element ``(B,)``.
        """
        options = self.options
        count = options["evaluation_particles"]
        labels = self.labels_of(batch)
        elements, lengths = batch.elements, batch.lengths
        drawn = self.paths(elements, lengths, labels, num_particles=count, generator=generator).log_weights
        chosen = {"threshold": options["resampling_threshold"], "method": options["resampling"]}
        seen = filter_particles(
            self.dynamics, self.head, elements, lengths, labels, num_particles=count, generator=generator, **chosen
        )
        return {
            "elbo": (-particles.elbo(drawn), -particles.elbo(drawn[:1])),
            "iwae": (-particles.iwae(drawn), -particles.iwae(drawn[:1])),
            f"fivo{count}": (-seen.total, -seen.first),
        }

    # Generation ------------------------------------------------------------------------------------------------

    @property
    def num_normals(self) -> int:
        """Normal numbers of an element: one for each dimension of its latent."""
        return self.options["latent_size"]

    def _draw(self, labels: Tensor | None, noise: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        state = self.dynamics.begin(len(noise), labels)
        drawn = []
        for normal, uniform in zip(noise.unbind(1), uniforms.unbind(1), strict=True):
            features, state = self.dynamics.draw(state, normal)
            element = self.head.sample(features, temperature=temperature, uniforms=uniform)
            drawn.append(element)
            state = self.dynamics.observe(state, element)
        return torch.stack(drawn, 1)

    @torch.no_grad()
    def reconstruct(self, sequences: list[Tensor], labels: list[int] | None = None) -> list[Tensor]:
        """Sequences as the model sees them: the head's mean, given the posterior's mean at every step.

        Args:
            sequences: ``(T, F)`` each, of any lengths of at least 1.
            labels: the class of each, for a model with such.

        Returns:
            ``(T, F)`` each, on the CPU.

        Raises:
            ValueError: if there are none, or one is not of that shape.
        """
        width = self.codec.num_features
        if not sequences or any(s.dim() != 2 or s.shape[1] != width or not len(s) for s in sequences):
            raise ValueError(f"sequences must have the shape (T, {width}) with T at least 1: give at least one such")
        lengths = torch.tensor([len(s) for s in sequences], device=self.device)
        padded = torch.nn.utils.rnn.pad_sequence([s.float().to(self.device) for s in sequences], batch_first=True)
        chosen = None if labels is None else torch.tensor(labels, device=self.device)
        if self.num_labels and chosen is None:
            raise ValueError("this model is conditional: give the label of each sequence")
        was_training = self.training
        self.eval()
        noise = padded.new_zeros(padded.shape[1], len(padded), self.options["latent_size"])
        features = walk(self.dynamics, self.head, padded, lengths, chosen, noise=noise).features  # (T, B, H)
        means = self.head.mean(features.flatten(0, 1)).unflatten(0, features.shape[:2]).transpose(0, 1)
        self.train(was_training)
        return [row[:length].cpu() for row, length in zip(means, lengths.tolist(), strict=True)]
