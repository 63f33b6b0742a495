"""Walking latent paths through a batch, and the bounds that follow; see :mod:`hybridgen.evaluation.particles`."""

from typing import NamedTuple

import torch
from torch import Tensor

from hybridgen.evaluation.particles import ParticleFilter, evidence_of, log_mean_exp, rows_of
from hybridgen.heads import ElementHead
from hybridgen.models.variational_rnn_parts import Dynamics, Step, log_ratio
from hybridgen.objectives.variational import DiagonalGaussian, gaussian_kl


class Paths(NamedTuple):
    """K independent paths through each of B sequences; everything is zero where a sequence has ended.

    Attributes:
        nll: ``(T, K, B)`` nats, -log p(x_t | z_t, past).
        log_ratio: ``(T, K, B)`` nats, log p(z_t) - log q(z_t) at the draw.
        kl: ``(K * B, T, D)`` nats in closed form, given the path so far; not zeroed.
        valid: ``(T, B)`` bool.
        features: ``(T, K * B, H)``, what the head read.
    """

    nll: Tensor
    log_ratio: Tensor
    kl: Tensor
    valid: Tensor
    features: Tensor

    @property
    def log_weights(self) -> Tensor:
        """``(T, K, B)`` nats of each step's incremental weight."""
        return self.log_ratio - self.nll


class Evidence(NamedTuple):
    """What a particle filter saw.

    Attributes:
        total: ``(B,)`` nats, log of an unbiased estimate of p(x).
        first: ``(B,)`` nats, the same of the first element alone.
        log_ratio: ``(B,)`` nats, sum over steps of the mean of log p(z_t) - log q(z_t) over particles.
    """

    total: Tensor
    first: Tensor
    log_ratio: Tensor


def walk(
    dynamics: Dynamics,
    head: ElementHead,
    elements: Tensor,
    lengths: Tensor,
    labels: Tensor | None = None,
    *,
    num_particles: int = 1,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Paths:
    """Draw K independent paths from the posterior.

    Args:
        dynamics: how latents follow each other.
        head: judges the elements.
        elements: ``(B, T, F)``; beyond a sequence's end anything, NaN too.
        lengths: ``(B,)`` in 1..T.
        labels: ``(B,)`` classes, or None.
        num_particles: K.
        generator: of the latents' noise.
        noise: ``(T, K * B, D)`` standard normal numbers instead.
    """
    batch = _Batch(dynamics, elements, lengths, labels, num_particles, generator, noise)
    carry, steps = batch.carry, []
    for time, context in enumerate(batch.contexts):
        step, carry = dynamics.step(carry, context, batch.noise[time], time)
        steps.append(step)
    nll, ratio, whole = batch.judge(head, steps)
    kl = gaussian_kl(
        DiagonalGaussian(whole.posterior_mean, whole.posterior_log_variance),
        DiagonalGaussian(whole.prior_mean, whole.prior_log_variance),
    ).transpose(0, 1)
    return Paths(nll, ratio, kl, batch.valid, whole.features)


def filter_particles(
    dynamics: Dynamics,
    head: ElementHead,
    elements: Tensor,
    lengths: Tensor,
    labels: Tensor | None = None,
    *,
    num_particles: int,
    threshold: float = 0.5,
    method: str = "systematic",
    weight: float = 1.0,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Evidence:
    """Run a particle filter whose proposal is the posterior: FIVO. Arguments as for :func:`walk`.

    Args:
        threshold: share of K below which the effective sample size makes it resample.
        method: ``systematic`` or ``multinomial``.
        weight: multiplies log p(z) - log q(z), for a KL term that is annealed in training; a bound at 1 only.
    """
    batch = _Batch(dynamics, elements, lengths, labels, num_particles, generator, noise)
    count = len(elements)
    particles = ParticleFilter(
        num_particles, count, threshold=threshold, method=method, generator=generator, like=batch.elements
    )
    carry, steps, resampled = batch.carry, [], []
    nobody = torch.zeros(count, dtype=torch.bool, device=elements.device)
    for time, context in enumerate(batch.contexts):
        step, carry = dynamics.step(carry, context, batch.noise[time], time)
        steps.append(step)
        # Whether to resample is decided here, without a gradient; the weights with one are computed below, for all
        # steps at once, which costs less than half.
        with torch.no_grad():
            targets = batch.elements[:, time].repeat(num_particles, 1)
            weights = weight * log_ratio(step, batch.noise[time]) - head.nll(step.features, targets)
            valid = batch.valid[time] if time >= batch.shortest else None
            ancestors = particles.step(weights.view(num_particles, count), valid)
        resampled.append(nobody if particles.resampled is None else particles.resampled)
        if ancestors is not None:
            rows = rows_of(ancestors)
            carry = tuple(component.index_select(0, rows) for component in carry)
    nll, ratio, _ = batch.judge(head, steps)
    weights = weight * ratio - nll
    return Evidence(evidence_of(weights, torch.stack(resampled)), log_mean_exp(weights[0]), ratio.sum(0).mean(0))


class _Batch:
    """A batch made ready for K particles."""

    def __init__(
        self,
        dynamics: Dynamics,
        elements: Tensor,
        lengths: Tensor,
        labels: Tensor | None,
        num_particles: int,
        generator: torch.Generator | None,
        noise: Tensor | None,
    ) -> None:
        count, time = elements.shape[:2]
        lengths = lengths.to(elements.device)
        valid = torch.arange(time, device=elements.device) < lengths[:, None]  # (B, T)
        self.shortest = int(lengths.min())
        if self.shortest < time:
            elements = elements.masked_fill(~valid.unsqueeze(-1), 0.0)
        self.elements, self.valid = elements, valid.t()
        # Particles first: rows k * B + b. Repeated as a whole and laid out by time: a repetition of each step would
        # cost as much as its mathematics.
        repeats = (1, num_particles, 1)
        parts = [part.transpose(0, 1).repeat(repeats) for part in dynamics.contexts(elements, lengths, labels)]
        self.contexts = list(zip(*(part.unbind(0) for part in parts), strict=True))
        self.num_particles = num_particles
        rows = num_particles * count
        self.carry = dynamics.start(rows, time)
        if noise is None:
            options = {"dtype": elements.dtype}
            device = elements.device if generator is None else generator.device
            shape = (time, rows, dynamics.latent_size)
            noise = torch.randn(shape, generator=generator, device=device, **options).to(elements.device)
        self.noise = noise

    def judge(self, head: ElementHead, steps: list[Step]) -> tuple[Tensor, Tensor, Step]:
        """``-log p(x_t | z_t, past)`` and ``log p(z_t) - log q(z_t)``, ``(T, K, B)`` nats, zero where nothing is.

        Also returns all steps as one, ``(T, K * B, ...)``.
        """
        whole = Step(*(torch.stack(parts) for parts in zip(*steps, strict=True)))
        shape = (len(steps), self.num_particles, len(self.elements))
        mask = self.valid.unsqueeze(1).expand(shape)
        # The head sees what is valid only.
        rows = mask.flatten().nonzero().squeeze(1)
        time, row = rows.div(shape[1] * shape[2], rounding_mode="floor"), rows % shape[2]
        nll = head.nll(whole.features.flatten(0, 1).index_select(0, rows), self.elements[row, time])
        nll = nll.new_zeros(mask.numel()).index_copy(0, rows, nll).view(shape)
        ratio = log_ratio(whole, self.noise).view(shape)
        return nll, torch.where(mask, ratio, torch.zeros_like(ratio)), whole
