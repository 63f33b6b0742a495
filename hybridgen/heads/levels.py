"""A distribution over classes said in two levels, with the weights as they were when it was prepared."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Levels(NamedTuple):
    """The most frequent classes beside whole clusters of rarer ones, then the classes within each cluster.

    Whoever draws one class needs the first level, and of the second only the cluster that was hit. All functions take
    hidden states ``(N, H)`` and give log-probabilities in nats; there is no gradient.

    Attributes:
        first: ``(N, S + C)``: of the S classes of the shortlist, then of the C clusters.
        inside: for each cluster ``(N, classes in it)``, given the cluster.
        starts: the first class of each cluster; the first of them is S.
    """

    first: Callable[[Tensor], Tensor]
    inside: tuple[Callable[[Tensor], Tensor], ...]
    starts: tuple[int, ...]

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of all classes, ``(N, V)`` nats, of hidden states ``(N, H)``."""
        return join(self.first(hidden), [within(hidden) for within in self.inside])


def join(first: Tensor, inside: list[Tensor]) -> Tensor:
    """Log-probabilities of all classes ``(N, V)`` from those of the first level ``(N, S + C)`` and of each cluster."""
    shortlist, clusters = first.split([first.shape[1] - len(inside), len(inside)], -1)
    return torch.cat([shortlist, *(part + clusters[:, c : c + 1] for c, part in enumerate(inside))], -1)
