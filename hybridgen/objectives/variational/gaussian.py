"""Diagonal Gaussians: the usual posterior, by the reparameterisation trick, and its KL in closed form.

    z = mean + exp(log_variance / 2) * noise,   noise ~ N(0, I)
    KL(q || p) = 1/2 sum_d [log_variance_p - log_variance_q + (var_q + (mean_q - mean_p)^2) / var_p - 1]

Kingma & Welling 2014, "Auto-encoding variational Bayes", arXiv:1312.6114, appendix B.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_LOG_2_PI = math.log(2 * math.pi)


class DiagonalGaussian(NamedTuple):
    """A Gaussian with a diagonal covariance for every leading index.

    Attributes:
        mean: ``(..., D)``.
        log_variance: ``(..., D)``, natural logarithm.
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self, num_samples: int | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents, differentiable in the parameters.

        Args:
            num_samples: how many for each index; None for one without a dimension of its own.
            generator: of the noise, on any device; torch's global one by default.

        Returns:
            ``(..., D)``, or ``(num_samples, ..., D)``.

        Raises:
            ValueError: if ``num_samples`` is below 1.
        """
        shape = sample_shape(self.mean.shape, num_samples)
        noise = standard_normal(shape, self.mean, generator)
        return torch.addcmul(self.mean, (0.5 * self.log_variance).exp(), noise)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of ``z (..., D)``, broadcast against the parameters: ``(...)`` nats."""
        mean, log_variance = precise(self.mean), precise(self.log_variance)
        squares = (z - mean).square() * (-log_variance).exp()
        return -0.5 * (squares + log_variance + _LOG_2_PI).sum(-1)


def gaussian_kl(q: DiagonalGaussian, p: DiagonalGaussian | None = None) -> Tensor:
    """KL divergence of two diagonal Gaussians, dimension by dimension.

    Args:
        q: ``(..., D)``.
        p: ``(..., D)``, broadcast; the standard normal when None.

    Returns:
        ``(..., D)`` nats; their sum over the last dimension is KL(q || p).
    """
    q = DiagonalGaussian(*map(precise, q))
    if p is None:
        return 0.5 * (q.mean.square() + q.log_variance.exp() - 1 - q.log_variance)
    p = DiagonalGaussian(*map(precise, p))
    log_ratio = q.log_variance - p.log_variance
    squares = (q.mean - p.mean).square() * (-p.log_variance).exp()
    return 0.5 * (squares + log_ratio.exp() - 1 - log_ratio)


def precise(value: Tensor) -> Tensor:
    """A tensor of any shape in float32 where it is in half precision, which is too coarse for densities."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def sample_shape(shape: torch.Size, num_samples: int | None) -> tuple[int, ...]:
    """The shape of ``num_samples`` draws, or of one where it is None.

    Raises:
        ValueError: if ``num_samples`` is below 1.
    """
    if num_samples is None:
        return tuple(shape)
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}: draw at least 1")
    return (num_samples, *shape)


def standard_normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Noise of ``shape`` on the device and of the type of ``like``.

    It is drawn on the generator's device: the same on every machine.
    """
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device, dtype=like.dtype).to(like.device)
