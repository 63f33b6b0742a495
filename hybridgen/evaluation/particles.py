"""Bounds on the likelihood of a sequence by particles: several latent paths through one model, weighted by evidence.

For a sequential model with steps ``p(z_t | past) p(x_t | z_t, past)`` and a proposal ``q(z_t | past, x)``, K paths
drawn from q have the incremental weights ``w_t = p(z_t | past) p(x_t | z_t, past) / q(z_t | past, x)``, and::

    ELBO    (1/K) sum_k sum_t log w_t^k                                   in expectation at most log p(x)
    IWAE-K  log (1/K) sum_k prod_t w_t^k                                  Burda et al. 2016, arXiv:1509.00519
    FIVO-K  sum_t log sum_k W_{t-1}^k w_t^k                               Maddison et al. 2017, arXiv:1705.09279

In FIVO the W are the normalised weights so far; where they degenerate, paths are resampled in proportion to them and
start again with equal weights. exp of IWAE and of FIVO is an unbiased estimate of ``p(x)``, so both bound its log from
below, FIVO far more tightly on long sequences. Resampling has no gradient here: the paper leaves that term out, too,
since its variance is worse than the bias.

Layout: K particles first, ``(K, B)``, and steps before both, ``(T, K, B)``.
"""

import math

import torch
from torch import Tensor

RESAMPLING = ("systematic", "multinomial")


def elbo(log_weights: Tensor) -> Tensor:
    """The evidence lower bound by K samples: the mean of their log weights.

    Args:
        log_weights: ``(T, K, B)`` nats, zero where a sequence has ended.

    Returns:
        ``(B,)`` nats of log-likelihood.
    """
    return log_weights.sum(0).mean(0)


def iwae(log_weights: Tensor) -> Tensor:
    """The importance-weighted bound, whose weights are products over all steps; arguments as for :func:`elbo`."""
    return log_mean_exp(log_weights.sum(0))


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """Log of the mean over particles: ``(K, B)`` to ``(B,)``."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """How many equally weighted particles are worth as much: ``(sum w)^2 / sum w^2``.

    Args:
        log_weights: ``(K, B)``, not necessarily normalised.

    Returns:
        ``(B,)`` in [1, K].
    """
    return 1 / torch.softmax(log_weights, 0).square().sum(0)


def choose_ancestors(log_weights: Tensor, uniforms: Tensor, *, method: str = "systematic") -> Tensor:
    """Which particle each new one continues, drawn in proportion to the weights.

    Args:
        log_weights: ``(K, B)``, not necessarily normalised.
        uniforms: in [0, 1): ``(B,)`` for ``systematic`` (one number places K equidistant pointers, so that every
            particle has its expected number of children rounded up or down), ``(K, B)`` for ``multinomial``
            (independent draws).
        method: one of :data:`RESAMPLING`.

    Returns:
        ``(K, B)`` int64 in 0..K-1.

    Raises:
        ValueError: if there is no such method or a shape does not fit.
    """
    particles, rows = log_weights.shape
    if method == "systematic":
        if uniforms.shape != (rows,):
            raise ValueError(f"systematic resampling takes uniforms of shape ({rows},) but got {tuple(uniforms.shape)}")
        pointers = (uniforms[:, None] + torch.arange(particles, device=uniforms.device)) / particles  # (B, K)
    elif method == "multinomial":
        if uniforms.shape != (particles, rows):
            raise ValueError(f"uniforms must have shape {(particles, rows)} but have {tuple(uniforms.shape)}")
        pointers = uniforms.t().contiguous()
    else:
        raise ValueError(f"resampling is {method!r}: choose one of {', '.join(RESAMPLING)}")
    cumulative = torch.softmax(log_weights, 0).t().cumsum(-1)  # (B, K)
    # Rounding may leave the last cumulative weight below a pointer near 1.
    return torch.searchsorted(cumulative, pointers.to(cumulative.dtype), right=True).clamp(max=particles - 1).t()


class ParticleFilter:
    """The weights of K particles for each of B sequences, and the evidence they have seen.

    Args:
        num_particles: K.
        batch_size: B.
        threshold: resample where the effective sample size is below this share of K: 0 never does (that is IWAE), 1
            does at every step at which the weights differ.
        method: one of :data:`RESAMPLING`.
        generator: of the uniform numbers.
        like: a tensor of the type and on the device of the weights.

    Raises:
        ValueError: if an option does not fit.
    """

    def __init__(
        self,
        num_particles: int,
        batch_size: int,
        *,
        threshold: float = 0.5,
        method: str = "systematic",
        generator: torch.Generator | None = None,
        like: Tensor,
    ) -> None:
        check_resampling(method, threshold)
        if num_particles < 1:
            raise ValueError(f"num_particles is {num_particles}: give at least 1")
        self.threshold, self.method, self.generator = threshold, method, generator
        self.log_weights = like.new_zeros(num_particles, batch_size)  # since the last resampling
        self._before = like.new_zeros(batch_size)  # log evidence up to it
        self.resampled: Tensor | None = None  # (B,) bool, which sequences were in the last step; None for none

    @property
    def log_evidence(self) -> Tensor:
        """``(B,)`` nats: log of the estimate of p(x) up to the last step."""
        return self._before + log_mean_exp(self.log_weights)

    def step(self, increments: Tensor, valid: Tensor | None = None) -> Tensor | None:
        """Weigh the particles by a step's evidence and resample where the weights have degenerated.

        Args:
            increments: ``(K, B)``, log of the incremental weights.
            valid: ``(B,)`` bool, false where a sequence has ended: nothing happens to it. None: all go on.

        Returns:
            ``(K, B)`` int64, the particle that each continues from here on; None where all go on as they are.
        """
        if valid is not None:
            increments = torch.where(valid, increments, torch.zeros_like(increments))
        self.log_weights = self.log_weights + increments
        self.resampled = None
        particles, rows = increments.shape
        if particles == 1 or not self.threshold:
            return None
        with torch.no_grad():
            degenerate = effective_sample_size(self.log_weights) < self.threshold * particles
            if valid is not None:
                degenerate &= valid
            if not bool(degenerate.any()):
                return None
            shape = (rows,) if self.method == "systematic" else (particles, rows)
            device = increments.device if self.generator is None else self.generator.device
            uniforms = torch.rand(shape, generator=self.generator, device=device, dtype=increments.dtype)
            chosen = choose_ancestors(self.log_weights, uniforms.to(increments.device), method=self.method)
            stay = torch.arange(particles, device=increments.device).unsqueeze(1)  # (K, 1)
            ancestors = torch.where(degenerate, chosen, stay)
        self._before = torch.where(degenerate, self.log_evidence, self._before)
        self.log_weights = torch.where(degenerate, torch.zeros_like(self.log_weights), self.log_weights)
        self.resampled = degenerate
        return ancestors


def evidence_of(log_weights: Tensor, resampled: Tensor) -> Tensor:
    """The evidence of a particle filter from its weights and the steps at which it resampled, for all steps at once.

    Equal to :attr:`ParticleFilter.log_evidence`; with a gradient, it costs a training step far less than one through
    the filter's own steps.

    Args:
        log_weights: ``(T, K, B)`` nats of each step, zero where a sequence has ended.
        resampled: ``(T, B)`` bool, true where the weights start again after that step.

    Returns:
        ``(B,)`` nats.
    """
    steps = len(log_weights)
    if not steps:
        return log_weights.new_zeros(log_weights.shape[2])
    ends = resampled.clone()
    ends[-1] = True  # what is there after the last resampling counts as well
    total = log_weights.cumsum(0)  # (T, K, B)
    time = torch.arange(steps, device=ends.device).unsqueeze(1)
    # The last step, before each one, after which the weights started again; -1 for none.
    last = torch.where(resampled, time, -1).cummax(0).values.roll(1, 0)
    last[0] = -1
    before = total.gather(0, last.clamp(min=0).unsqueeze(1).expand_as(total))
    since = total - torch.where((last >= 0).unsqueeze(1), before, torch.zeros_like(before))
    block = since.logsumexp(1) - math.log(log_weights.shape[1])  # (T, B)
    return torch.where(ends, block, torch.zeros_like(block)).sum(0)


def check_resampling(method: str, threshold: float) -> None:
    """Check that the method is known and the threshold a share of the particles.

    Raises:
        ValueError: if they are not.
    """
    if method not in RESAMPLING:
        raise ValueError(f"resampling is {method!r}: choose one of {', '.join(RESAMPLING)}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"resampling_threshold is {threshold}: give a share of the particles in [0, 1]")


def rows_of(ancestors: Tensor) -> Tensor:
    """The rows to select from a state of ``K * B`` rows, particles first.

    Args:
        ancestors: ``(K, B)`` from :meth:`ParticleFilter.step`.

    Returns:
        ``(K * B,)`` int64.
    """
    rows = ancestors.shape[1]
    return (ancestors * rows + torch.arange(rows, device=ancestors.device)).flatten()
