"""The von Mises-Fisher distribution on the unit sphere, as a posterior that cannot collapse.

    q(z) = C(k) exp(k mean . z),   |z| = |mean| = 1,
    log C(k) = (D/2 - 1) log k - D/2 log 2 pi - log I[D/2 - 1](k)
    KL(q || uniform) = k I[D/2](k) / I[D/2 - 1](k) + log C(k) + log(2 pi^(D/2) / Gamma(D/2))

I is the modified Bessel function of the first kind. The concentration k (kappa) is fixed, so the KL is a constant that
training cannot lower: Xu & Durrett 2018, "Spherical latent spaces for stable variational autoencoders",
arXiv:1808.10805; Davidson et al. 2018, "Hyperspherical variational auto-encoders", arXiv:1804.00891. Samples are
drawn by the rejection scheme of Wood 1994, "Simulation of the von Mises Fisher distribution"; with k fixed, the
acceptance does not depend on any parameter, and the gradient in the mean is exact.
"""

import functools
import math

import numpy as np
import torch
from scipy.special import gammaln, logsumexp
from torch import Tensor

from hybridgen.objectives.variational.gaussian import sample_shape, standard_normal


class VonMisesFisher:
    """A von Mises-Fisher distribution with one fixed concentration for every leading index.

    Args:
        mean: ``(..., D)`` unit vectors, D at least 2 (see :meth:`from_direction`).
        kappa: the concentration, at least 0; 0 is the uniform distribution.

    Raises:
        ValueError: if D is 1, or kappa is negative or infinite.
    """

    def __init__(self, mean: Tensor, kappa: float) -> None:
        if mean.shape[-1] < 2:
            raise ValueError("a von Mises-Fisher latent needs at least 2 dimensions: set latent_size to 2 or more")
        if not (math.isfinite(kappa) and kappa >= 0):
            raise ValueError(f"kappa is {kappa}: give a finite concentration of at least 0")
        self.mean = mean
        self.kappa = float(kappa)

    @classmethod
    def from_direction(cls, direction: Tensor, kappa: float) -> "VonMisesFisher":
        """Point it along any vectors ``(..., D)``; a zero vector points nowhere and has no gradient."""
        return cls(torch.nn.functional.normalize(direction, dim=-1), kappa)

    def sample(self, num_samples: int | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw unit vectors ``(..., D)`` or ``(num_samples, ..., D)``, differentiable in the mean.

        Raises:
            ValueError: if ``num_samples`` is below 1.
        """
        mean = self.mean
        shape = sample_shape(mean.shape, num_samples)
        along = self._along(math.prod(shape[:-1]), generator).to(mean).view(*shape[:-1], 1)
        noise = standard_normal(shape, mean, generator)
        # A uniform direction at right angles to the mean; twice, for noise along the mean leaves little but rounding.
        across = noise
        for _ in range(2):
            across = across - (across * mean).sum(-1, keepdim=True) * mean
            across = torch.nn.functional.normalize(across, dim=-1)
        return along * mean + (1 - along.square()).clamp(min=0).sqrt() * across

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of unit vectors ``z (..., D)`` on the sphere, broadcast: ``(...)`` nats."""
        return self.kappa * (z * self.mean).sum(-1) + log_normaliser(self.mean.shape[-1], self.kappa)

    def kl_to_uniform(self) -> Tensor:
        """KL to the uniform distribution on the sphere, ``(...)`` nats: the same constant everywhere."""
        return self.mean.new_full(self.mean.shape[:-1], kl_to_uniform(self.mean.shape[-1], self.kappa))

    def _along(self, number: int, generator: torch.Generator | None) -> Tensor:
        """Wood's sampler of ``mean . z``: ``(number,)`` in [-1, 1], float64."""
        size, kappa = self.mean.shape[-1], self.kappa
        device = self.mean.device if generator is None else generator.device
        # b = (-2 k + sqrt(4 k^2 + (D-1)^2)) / (D-1), written so that nothing cancels.
        b = (size - 1) / (2 * kappa + math.sqrt(4 * kappa**2 + (size - 1) ** 2))
        x = (1 - b) / (1 + b)
        c = kappa * x + (size - 1) * math.log1p(-(x**2)) if kappa else 0.0
        options = {"device": device, "dtype": torch.float64, "generator": generator}
        result = torch.empty(number, device=device, dtype=torch.float64)
        missing = torch.arange(number, device=device)
        while len(missing):
            # Beta((D-1)/2, (D-1)/2) from two sums of squares of normals.
            normals = torch.randn(2, len(missing), size - 1, **options).square().sum(-1)
            beta = normals[0] / normals.sum(0)
            along = (1 - (1 + b) * beta) / (1 - (1 - b) * beta)
            log_u = torch.rand(len(missing), **options).log()
            accepted = kappa * along + (size - 1) * torch.log1p(-x * along) - c >= log_u
            result[missing[accepted]] = along[accepted]
            missing = missing[~accepted]
        return result


def log_bessel(order: float, x: float) -> float:
    """``log I[order](x)`` for x > 0, by its series in logarithms: nothing under- or overflows at any order."""
    terms = np.arange(int(2 * x) + 100)  # the largest is before x / 2
    series = 2 * terms * math.log(x / 2) - gammaln(terms + 1) - gammaln(terms + order + 1)
    return float(order * math.log(x / 2) + logsumexp(series))


@functools.cache
def log_normaliser(size: int, kappa: float) -> float:
    """``log C`` of the density with respect to the sphere's surface in ``size`` dimensions."""
    if kappa == 0:
        return -log_surface(size)
    half = size / 2
    return (half - 1) * math.log(kappa) - half * math.log(2 * math.pi) - log_bessel(half - 1, kappa)


def log_surface(size: int) -> float:
    """Log of the surface of the unit sphere in ``size`` dimensions."""
    return math.log(2) + size / 2 * math.log(math.pi) - math.lgamma(size / 2)


@functools.cache
def kl_to_uniform(size: int, kappa: float) -> float:
    """KL of the von Mises-Fisher to the uniform distribution in ``size`` dimensions, in nats."""
    if kappa == 0:
        return 0.0
    ratio = math.exp(log_bessel(size / 2, kappa) - log_bessel(size / 2 - 1, kappa))
    return kappa * ratio + log_normaliser(size, kappa) + log_surface(size)
