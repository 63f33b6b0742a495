"""Priors over one latent: standard normal, uniform on the sphere, a learned mixture, and the VampPrior.

Each is a module with ``log_prob(z (..., D)) -> (...)`` in nats and ``sample(n, generator=) -> (n, D)``. The KL of a
posterior to a mixture has no closed form; its unbiased estimate is ``q.log_prob(z) - prior.log_prob(z)`` with z from q.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hybridgen.objectives.variational.gaussian import DiagonalGaussian, precise, standard_normal
from hybridgen.objectives.variational.vmf import log_surface


class Mixture(NamedTuple):
    """A mixture of K diagonal Gaussians.

    Attributes:
        log_weights: ``(K,)`` nats, normalised.
        components: ``(K, D)``.
    """

    log_weights: Tensor
    components: DiagonalGaussian

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of ``z (..., D)``: ``(...)`` nats."""
        z, mean, log_variance = map(precise, (z, *self.components))
        precision = (-log_variance).exp()
        # The squares by two products, for z (..., D) and K components never stand in memory as (..., K, D).
        with torch.autocast(z.device.type, enabled=False):
            squares = z.square() @ precision.T - 2 * z @ (mean * precision).T + (mean.square() * precision).sum(-1)
        constant = log_variance.sum(-1) + z.shape[-1] * math.log(2 * math.pi)
        return torch.logsumexp(self.log_weights - 0.5 * (squares + constant), -1)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``(num_samples, D)``."""
        weights = self.log_weights.exp()
        weights = weights if generator is None else weights.to(generator.device)
        chosen = torch.multinomial(weights, num_samples, replacement=True, generator=generator)
        mean, log_variance = (part[chosen.to(part.device)] for part in self.components)
        return DiagonalGaussian(mean, log_variance).sample(generator=generator)


class StandardNormalPrior(nn.Module):
    """N(0, I) in D dimensions; it learns nothing. Kingma & Welling 2014, arXiv:1312.6114."""

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.register_buffer("_origin", torch.zeros(latent_size), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density, ``(...)`` nats."""
        return -0.5 * (z.square().sum(-1) + self.latent_size * math.log(2 * math.pi))

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``(num_samples, D)``."""
        return standard_normal((num_samples, self.latent_size), self._origin, generator)


class UniformSpherePrior(StandardNormalPrior):
    """The uniform distribution on the unit sphere in D dimensions, prior of the von Mises-Fisher posterior.

    Davidson et al. 2018, arXiv:1804.00891.
    """

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density with respect to the surface, ``(...)`` nats: a constant."""
        return z.new_full(z.shape[:-1], -log_surface(self.latent_size))

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``(num_samples, D)`` unit vectors."""
        return nn.functional.normalize(super().sample(num_samples, generator=generator), dim=-1)


class MixturePrior(nn.Module):
    """A mixture of K Gaussians whose weights, means and variances are learned.

        p(z) = sum_k w[k] N(z; mean[k], diag(variance[k]))

    Dilokthanakul et al. 2016, arXiv:1611.02648, use a mixture as a prior; learning it by gradient descent like here is
    the "MoG" baseline of Tomczak & Welling 2018, arXiv:1705.07120.

    Args:
        latent_size: D.
        num_components: K.
        spread: standard deviation of the means at the start.

    Raises:
        ValueError: if there is no component.
    """

    def __init__(self, latent_size: int, num_components: int = 10, *, spread: float = 0.5) -> None:
        super().__init__()
        if num_components < 1:
            raise ValueError(f"num_components is {num_components}: a mixture has at least 1")
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.mean = nn.Parameter(spread * torch.randn(num_components, latent_size))
        self.log_variance = nn.Parameter(torch.zeros(num_components, latent_size))

    def mixture(self) -> Mixture:
        """The mixture as it is now."""
        return Mixture(torch.log_softmax(self.logits, 0), DiagonalGaussian(self.mean, self.log_variance))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density, ``(...)`` nats."""
        return self.mixture().log_prob(z)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``(num_samples, D)``."""
        return self.mixture().sample(num_samples, generator=generator)


class VampPrior(nn.Module):
    """The mixture of the posteriors of K learned pseudo-inputs.

        p(z) = 1/K sum_k q(z | u[k])

    Tomczak & Welling 2018, "VAE with a VampPrior", arXiv:1705.07120.

    Args:
        encode: the encoder, from pseudo-inputs ``(K, *shape)`` to a :class:`DiagonalGaussian` ``(K, D)``. It is
            called, not owned: its parameters stay where they are.
        shape: of one pseudo-input; for sequences of discrete tokens ``(T, E)``, T embeddings.
        num_components: K.
        spread: standard deviation of the pseudo-inputs at the start.

    Raises:
        ValueError: if there is no component.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], DiagonalGaussian],
        shape: tuple[int, ...],
        num_components: int = 50,
        *,
        spread: float = 1.0,
    ) -> None:
        super().__init__()
        if num_components < 1:
            raise ValueError(f"num_components is {num_components}: a mixture has at least 1")
        self.pseudo_inputs = nn.Parameter(spread * torch.randn(num_components, *shape))
        self._encode = (encode,)  # in a tuple, so that an encoder that is a module is not registered a second time

    def mixture(self) -> Mixture:
        """The mixture as the encoder sees the pseudo-inputs now."""
        number = len(self.pseudo_inputs)
        log_weights = self.pseudo_inputs.new_full((number,), -math.log(number))
        return Mixture(log_weights, self._encode[0](self.pseudo_inputs))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density, ``(...)`` nats."""
        return self.mixture().log_prob(z)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``(num_samples, D)``."""
        return self.mixture().sample(num_samples, generator=generator)
