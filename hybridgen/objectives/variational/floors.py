"""Posteriors that are built so that their KL cannot vanish: BN-VAE and delta-VAE.

BN-VAE: Zhu et al. 2020, "A batch normalization inspired VAE for latent variable models", arXiv:2004.12585::

    mean[d] = gamma (m[d] - E[m[d]]) / std(m[d]) + beta[d]      gamma fixed, beta learned
    E[KL] >= 1/2 sum_d (gamma^2 + beta[d]^2)

since the expectation over the data of the squared mean is then ``gamma^2 + beta^2``.

delta-VAE: Razavi et al. 2019, "Preventing posterior collapse with delta-VAEs", arXiv:1901.03416, for one latent with
independent dimensions (their appendix)::

    sigma in [sigma_l, sigma_u],  the roots of ln(sigma^2) - sigma^2 + 2 delta + 1 = 0
    mean  = sqrt(2 delta + 1 + ln(sigma^2) - sigma^2) + max(0, m)

so that ``KL = (mean^2 + sigma^2 - 1 - ln sigma^2) / 2 >= delta`` in every dimension of every posterior.
"""

import math

import torch
from scipy.special import lambertw
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.objectives.variational.gaussian import DiagonalGaussian


class BatchNormMean(nn.Module):
    """BN-VAE: batch normalisation of the posterior mean with a fixed scale.

    In training by the mean and variance of the batch, as in the paper. For evaluation the first two *moments* are
    tracked, not the batches' variances: batches of similar length differ from one another, and a mean of variances
    within batches would miss the variance between them. A batch of one row is normalised by the tracked moments, its
    own variance being 0.

    Args:
        latent_size: D.
        gamma: standard deviation of each dimension's mean over the data; 0.5 to 0.7 in the paper.
        momentum: of the running moments: how much each training batch counts.
        epsilon: added to the variance.

    Raises:
        ValueError: if ``gamma`` or ``momentum`` does not fit.
    """

    def __init__(self, latent_size: int, gamma: float = 0.5, *, momentum: float = 0.01, epsilon: float = 1e-5) -> None:
        super().__init__()
        if not gamma > 0:
            raise ValueError(f"batch_norm_gamma is {gamma}: give a number above 0")
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum is {momentum}: give a number in (0, 1]")
        self.gamma, self.momentum, self.epsilon = float(gamma), float(momentum), float(epsilon)
        self.beta = nn.Parameter(torch.zeros(latent_size))
        self.register_buffer("first_moment", torch.zeros(latent_size))
        self.register_buffer("second_moment", torch.zeros(latent_size))
        self.register_buffer("weight_seen", torch.zeros(()))  # of the running sums: 1 in the long run

    def forward(self, mean: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Normalise means.

        Args:
            mean: ``(..., D)``, what the encoder says.
            mask: ``(...)`` bool, true where it is valid; what is not gets the same map and counts for nothing.

        Returns:
            ``(..., D)``.
        """
        rows = mean.flatten(0, -2) if mask is None else mean[mask]  # (N, D)
        if self.training and len(rows) > 1:
            centre, variance = rows.mean(0), rows.var(0, unbiased=False)
            self._track(centre.detach(), rows.detach().square().mean(0))
        else:
            seen = self.weight_seen.clamp(min=1e-8)
            centre = self.first_moment / seen
            variance = torch.where(self.weight_seen > 0, self.second_moment / seen, 1.0) - centre.square()
        scale = self.gamma * (variance.clamp(min=0) + self.epsilon).rsqrt()
        return (mean - centre) * scale + self.beta

    def kl_floor(self) -> Tensor:
        """The least mean KL to N(0, I) over the data, a scalar in nats."""
        return 0.5 * (self.gamma**2 + self.beta.square()).sum()

    def extra_repr(self) -> str:
        """The fixed scale, as ``print(module)`` shows it."""
        return f"gamma={self.gamma}"

    @torch.no_grad()
    def _track(self, first: Tensor, second: Tensor) -> None:
        for moment, value in ((self.first_moment, first), (self.second_moment, second)):
            moment.mul_(1 - self.momentum).add_(value, alpha=self.momentum)
        self.weight_seen.mul_(1 - self.momentum).add_(self.momentum)


class DeltaPosterior(nn.Module):
    """delta-VAE: means and variances of one latent, mapped to where the KL to N(0, I) is at least delta.

    Args:
        delta: nats of each dimension, above 0; 0.15 in 32 dimensions are 4.8 nats.

    Raises:
        ValueError: if ``delta`` is not above 0.
    """

    def __init__(self, delta: float) -> None:
        super().__init__()
        if not delta > 0:
            raise ValueError(f"delta is {delta}: give nats above 0")
        self.delta = float(delta)
        # x - ln x = 2 delta + 1 with x = sigma^2: both branches of Lambert's W.
        argument = -math.exp(-(2 * delta + 1))
        self.lower = math.sqrt(-lambertw(argument, 0).real)
        self.upper = math.sqrt(-lambertw(argument, -1).real)

    def forward(self, mean: Tensor, log_variance: Tensor) -> DiagonalGaussian:
        """Map what the encoder says, ``(..., D)`` each, any real numbers."""
        # The sigmoid is kept off its ends, where the root below has an infinite slope.
        share = 0.01 + 0.98 * torch.sigmoid(log_variance)
        sigma = self.lower + (self.upper - self.lower) * share
        log_variance = 2 * sigma.log()
        least = (2 * self.delta + 1 + log_variance - sigma.square()).clamp(min=0)
        return DiagonalGaussian(least.sqrt() + F.relu(mean), log_variance)

    def extra_repr(self) -> str:
        """The committed rate, as ``print(module)`` shows it."""
        return f"delta={self.delta}"
