"""What a latent variable says about its sentence: mutual information, active units, KL per dimension.

The mutual information under the encoder is that of a sentence x and ``z ~ q(z | x)``, with the aggregate posterior
``q(z) = E_x q(z | x)`` (Hoffman & Johnson 2016, "ELBO surgery"; Dieng et al. 2019, arXiv:1807.04863)::

    I(x; z) = E_x[KL(q(z | x) || p(z))] - KL(q(z) || p(z)) = E_x E_q(z|x)[log q(z | x) - log q(z)]

Estimated on n sentences it cannot exceed ``ln n``, so n and this ceiling belong to every figure: popular code does it
inside batches of 32 and can never report more than 3.47 nats.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class MutualInformation(NamedTuple):
    """An estimate of ``I(x; z)``.

    Attributes:
        nats: the estimate; at most ``ceiling``.
        standard_error: of it, from how much sentences differ; NaN for a single sentence.
        num_samples: n, the sentences that stand for the aggregate posterior.
        ceiling: ``ln n``. An estimate close to it says only that the truth is no smaller.
    """

    nats: float
    standard_error: float
    num_samples: int
    ceiling: float


@torch.no_grad()
def mutual_information(
    mean: Tensor,
    log_variance: Tensor,
    *,
    num_draws: int = 1,
    chunk_size: int = 512,
    generator: torch.Generator | None = None,
) -> MutualInformation:
    """Mutual information of sentences and a diagonal Gaussian latent, by the aggregate posterior of all of them.

    Args:
        mean: ``(n, D)`` posterior means.
        log_variance: ``(n, D)`` posterior log variances.
        num_draws: latents drawn for each sentence.
        chunk_size: latents that are compared with all n posteriors at a time; decides the memory, not the result.
        generator: of the draws; by default one seeded with 0, so that the same posteriors give the same figure.

    Raises:
        ValueError: if the shapes are not both (n, D), a number is not finite, or an option is below 1.
    """
    _check_rows("mean", mean)
    if log_variance.shape != mean.shape:
        raise ValueError(f"log_variance has shape {list(log_variance.shape)} but mean has {list(mean.shape)}")
    _check_rows("log_variance", log_variance)
    if num_draws < 1:
        raise ValueError(f"num_draws is {num_draws}: give at least 1")
    generator = generator or torch.Generator(mean.device).manual_seed(0)
    mean, log_variance = mean.double(), log_variance.double()
    precision = (-log_variance).exp()
    # log q(z_i | x_j) is quadratic in z_i: two matrix products for all pairs. What depends on neither j nor x is left
    # out, since only differences of log densities of the same z are used.
    scaled = mean * precision
    constant = -0.5 * (mean * scaled + log_variance).sum(1)  # (n,)

    def log_density(z: Tensor) -> Tensor:
        return z @ scaled.T - 0.5 * z.square() @ precision.T + constant  # (c, n)

    total: Tensor = torch.zeros((), dtype=torch.float64)
    for _ in range(num_draws):
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        z = mean + noise * (0.5 * log_variance).exp()
        total = total + _log_ratios(log_density, z, chunk_size)
    return _summary(total / num_draws)


@torch.no_grad()
def mutual_information_of(
    log_density: Callable[[Tensor], Tensor], latents: Tensor, *, chunk_size: int = 512
) -> MutualInformation:
    """Mutual information of sentences and a latent of any family (von Mises-Fisher, say).

    Args:
        log_density: from ``(c, D)`` latents to ``(c, n)``, ``log q(z_i | x_j)`` under the posteriors of all n
            sentences, up to a term that is the same for all j: ``lambda z: q.log_prob(z.unsqueeze(1))``.
        latents: ``(n, D)``, one draw from the posterior of each sentence, in the same order.
        chunk_size: latents that are compared at a time; decides the memory, not the result.

    Raises:
        ValueError: if a shape does not fit, or chunk_size is below 1.
    """
    _check_rows("latents", latents)
    return _summary(_log_ratios(log_density, latents, chunk_size))


def _log_ratios(log_density: Callable[[Tensor], Tensor], latents: Tensor, chunk_size: int) -> Tensor:
    """``log q(z_i | x_i) - log q(z_i)`` for each i, ``(n,)`` float64 on the CPU."""
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}: give at least 1")
    n, pieces = len(latents), []
    for first in range(0, n, chunk_size):
        densities = log_density(latents[first : first + chunk_size]).double()
        if densities.shape != (min(chunk_size, n - first), n):
            raise ValueError(f"log_density gave shape {list(densities.shape)}, not one row of {n} for each latent")
        own = densities.diagonal(first)
        pieces.append(own - densities.logsumexp(1) + math.log(n))
    return torch.cat(pieces).cpu()


def _summary(ratios: Tensor) -> MutualInformation:
    n = len(ratios)
    error = float(ratios.std() / math.sqrt(n)) if n > 1 else math.nan
    return MutualInformation(float(ratios.mean()), error, n, math.log(n))


class ActiveUnits(NamedTuple):
    """Which dimensions of a latent differ from sentence to sentence.

    Attributes:
        count: dimensions whose variance is above the threshold.
        variances: ``(D,)``, variance over sentences of the posterior mean.
    """

    count: int
    variances: Tensor


def active_units(means: Tensor, threshold: float = 0.01) -> ActiveUnits:
    """Dimensions whose posterior mean varies over the data (Burda et al. 2016, section 5.2).

    Args:
        means: ``(n, D)`` posterior means, n at least 2.
        threshold: a dimension is active above this variance.

    Raises:
        ValueError: if the shape is not (n, D) with n at least 2, or a number is not finite.
    """
    _check_rows("means", means)
    if len(means) < 2:
        raise ValueError("active units are a variance over sentences: give at least 2 sentences")
    variances = means.detach().double().var(0)
    return ActiveUnits(int((variances > threshold).sum()), variances)


class DimensionKL(NamedTuple):
    """The KL of each dimension.

    Attributes:
        mean: ``(D,)`` nats per sentence; their sum is the KL of the ELBO.
        standard_error: ``(D,)``, NaN for a single sentence.
    """

    mean: Tensor
    standard_error: Tensor


def kl_per_dimension(kl: Tensor) -> DimensionKL:
    """Mean KL of each dimension over sentences.

    Args:
        kl: ``(n, D)`` nats, :func:`hybridgen.objectives.variational.gaussian_kl` of the posteriors.

    Raises:
        ValueError: if the shape is not (n, D), or a number is not finite.
    """
    _check_rows("kl", kl)
    kl = kl.detach().double()
    error = kl.std(0) / math.sqrt(len(kl)) if len(kl) > 1 else torch.full_like(kl[0], torch.nan)
    return DimensionKL(kl.mean(0), error)


def _check_rows(name: str, values: Tensor) -> None:
    if values.dim() != 2 or 0 in values.shape:
        raise ValueError(f"{name} must have shape (n, D), neither of them 0, but has {list(values.shape)}")
    if not values.isfinite().all():
        raise ValueError(f"{name} holds numbers that are not finite: the model has diverged, train it anew")
