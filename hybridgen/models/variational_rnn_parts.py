"""What the latent dynamics of :class:`~hybridgen.models.variational_rnn.VariationalRNN` are made of."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.heads.base import linear_weight

#: Bound of every log variance, both ways: standard deviations from 0.018 to 55.
_LARGEST = 8.0


class Step(NamedTuple):
    """One step of N latent paths.

    Attributes:
        prior_mean: ``(N, D)``, and so the three below it.
        prior_log_variance: of p(z_t | past).
        posterior_mean: of q(z_t | past, x).
        posterior_log_variance: likewise.
        latent: ``(N, D)``, the draw from the posterior.
        features: ``(N, H)``, what the head reads.
    """

    prior_mean: Tensor
    prior_log_variance: Tensor
    posterior_mean: Tensor
    posterior_log_variance: Tensor
    latent: Tensor
    features: Tensor


class Dynamics(Protocol):
    """How latents and states follow each other in time; the three kinds are in ``variational_rnn_dynamics``.

    A carry is a tuple of ``(N, width)`` tensors: everything that a path remembers. Contexts are what depends on the
    data alone, computed for all steps at once, a tuple of ``(B, T, width)`` tensors; a step gets its own,
    ``(N, width)`` each.
    """

    feature_size: int
    latent_size: int

    def contexts(self, elements: Tensor, lengths: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
        """What depends on the data alone.

        Args:
            elements: ``(B, T, F)``.
            lengths: ``(B,)``, how many elements each row has.
            labels: ``(B,)`` classes, or None.

        Returns:
            Tensors ``(B, T, width)``.
        """

    def start(self, rows: int, time: int) -> tuple[Tensor, ...]:
        """The carry before the first of ``time`` steps, ``(rows, width)`` each; draws what is random for all steps."""

    def step(
        self, carry: tuple[Tensor, ...], context: tuple[Tensor, ...], noise: Tensor, time: int
    ) -> tuple[Step, tuple[Tensor, ...]]:
        """One step of inference and of the prior.

        Args:
            carry: ``(N, width)`` each.
            context: the step's share of the contexts, ``(N, width)`` each.
            noise: standard normal, ``(N, D)``.
            time: the number of the step, from 0.

        Returns:
            What the objective reads of the step, and the carry after it.
        """

    def begin(self, rows: int, labels: Tensor | None) -> Any:
        """The state of generation before its first element; labels are ``(rows,)`` classes, or None."""

    def draw(self, state: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """A latent from the prior by standard normal ``noise (N, D)``.

        Returns:
            The head's features ``(N, width)``, and the state in which the element is observed.
        """

    def observe(self, state: Any, element: Tensor) -> Any:
        """The state after an element ``(N, F)``, from the one that :meth:`draw` returned."""


class Perceptron(nn.Sequential):
    """Layers of ReLU: ``(..., inputs)`` to ``(..., width)``."""

    def __init__(self, inputs: int, width: int, num_layers: int) -> None:
        layers: list[nn.Module] = []
        for number in range(num_layers):
            layers += [nn.Linear(inputs if number == 0 else width, width), nn.ReLU()]
        super().__init__(*layers)


class TwoGaussians(nn.Module):
    """The means and log variances of prior and posterior from a hidden layer of each, in one product.

    Args:
        width: M of a hidden layer.
        latent_size: D.
        residual: the posterior's mean is the prior's plus what is computed (Fraccaro et al. 2016), so that a network
            that says nothing has a KL of nothing in its means.
    """

    def __init__(self, width: int, latent_size: int, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.latent_size = latent_size
        self.weight = nn.Parameter(torch.stack([linear_weight(2 * latent_size, width).data.t() for _ in range(2)]))
        self.bias = nn.Parameter(torch.zeros(2, 1, 2 * latent_size))

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Prior and posterior mean and log variance.

        Args:
            hidden: ``(N, 2 * M)``, the prior's half first.

        Returns:
            prior mean, prior log variance, posterior mean, posterior log variance, ``(N, D)`` each.
        """
        halves = hidden.unflatten(-1, (2, -1)).transpose(0, 1)  # (2, N, M)
        means, raw = torch.baddbmm(self.bias, halves, self.weight).split(self.latent_size, -1)
        (prior, posterior), (prior_raw, posterior_raw) = means.unbind(0), log_variance(raw).unbind(0)
        return prior, prior_raw, prior + posterior if self.residual else posterior, posterior_raw


def log_variance(raw: Tensor) -> Tensor:
    """A network's output ``(..., D)`` as a log variance, bounded smoothly."""
    return _LARGEST * torch.tanh(raw / _LARGEST)


def draw_latent(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """``mean + exp(log_variance / 2) * noise``, differentiable."""
    return torch.addcmul(mean, torch.exp(0.5 * log_variance), noise)


def log_ratio(step: Step, noise: Tensor) -> Tensor:
    """``log p(z) - log q(z)`` of latents that were drawn from q with this noise: ``(..., D)`` to ``(...)`` nats."""
    squares = (step.latent - step.prior_mean).square() * torch.exp(-step.prior_log_variance)
    return 0.5 * (noise.square() - squares + step.posterior_log_variance - step.prior_log_variance).sum(-1)


def label_table(num_labels: int, width: int) -> nn.Embedding | None:
    """What a class adds to hidden layers ``(width,)``; nothing at first, and no table without classes."""
    if not num_labels:
        return None
    table = nn.Embedding(num_labels, width)
    nn.init.zeros_(table.weight)
    return table


def add_labels(hidden: Tensor, table: nn.Embedding | None, labels: Tensor | None) -> Tensor:
    """Add each row's class to hidden layers ``(B, T, width)`` or ``(B, width)``."""
    if table is None:
        return hidden
    added = F.embedding(labels, table.weight)
    return hidden + (added.unsqueeze(1) if hidden.dim() == 3 else added)
