"""Adaptive softmax: Grave et al. 2017, "Efficient softmax approximation for GPUs", arXiv:1609.04309.

Classes are in the order of their frequency, the most frequent first. The first of them and one entry for each
cluster of rarer ones share a softmax; a rare class is the cluster, then the class within it::

    log p(v | h) = log softmax(A h)[v]                                      v in the head
    log p(v | h) = log softmax(A h)[cluster c] + log softmax(W_c P_c h)[v]  v in cluster c

Most elements need the small head alone, which is where the speed comes from. It is a model of its own, exactly
normalised, not an approximation to the full softmax at training time.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hybridgen.cells.matmul import linear
from hybridgen.heads.base import ClassHead, linear_weight, packed_linear, packs, projection_weight, tied_weight
from hybridgen.heads.chunked import cross_entropy
from hybridgen.heads.levels import Levels, join


def default_cutoffs(num_classes: int) -> tuple[int, int]:
    """A tenth and four tenths of the classes: 1,000 and 4,000 of 10,000.

    Under Zipf's law (the r-th most frequent of V classes has a share in proportion to 1/r), with clusters as wide
    as the hidden state, that takes a fifth of the full softmax's multiplications at V = 10,000: a tenth more than
    the cheapest two cutoffs, 420 and 3,400, for a head that serves three quarters of all elements in one softmax
    (79% of the Penn Treebank's).

    Raises:
        ValueError: if there are fewer than 10 classes.
    """
    if num_classes < 10:
        raise ValueError(f"num_classes is {num_classes}: an adaptive softmax of fewer than 10 needs cutoffs of its own")
    return num_classes // 10, num_classes * 4 // 10


class AdaptiveSoftmaxHead(ClassHead):
    """A softmax in two levels whose cost follows the frequency of the classes.

    Class ids must be ranks of frequency (0 is the most frequent), as the ``words`` codec numbers them.

    Args:
        hidden_size: width H of a hidden state.
        num_classes: number V of classes.
        cutoffs: first class of each cluster, ascending; the classes before the first are the head.
            Default: :func:`default_cutoffs`.
        div_value: cluster c = 1, 2, ... works in a width of H / div_value ** c (rounded down, at least 1).
            Only for what is not tied: tied clusters have the embedding's width.
        bias: whether every class and cluster has one; they start at zero. ``torch.nn``'s module has none.
        tied: an ``nn.Embedding`` (or its weight) of V rows E wide: each cluster's output matrix is then its slice
            of that parameter. The clusters have projections of their own from H to E, which start as the
            identity where H is E (there the head has none).
        chunk_size: rows of a chunk; makes no difference to any value. Default: about 16 MiB of logits.

    Raises:
        ValueError: if a size is not positive, the cutoffs do not ascend within 1..V-1, or ``tied`` does not fit.
    """

    def __init__(
        self,
        hidden_size: int,
        num_classes: int,
        *,
        cutoffs: Sequence[int] | None = None,
        div_value: float = 4.0,
        bias: bool = True,
        tied: nn.Embedding | nn.Parameter | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(hidden_size, num_classes, chunk_size=chunk_size)
        self.cutoffs = default_cutoffs(num_classes) if cutoffs is None else tuple(cutoffs)
        edges = (0, *self.cutoffs, num_classes)
        if not self.cutoffs or any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError(f"cutoffs are {list(self.cutoffs)}: give ascending numbers within 1..{num_classes - 1}")
        if div_value < 1:
            raise ValueError(f"div_value is {div_value}: rarer clusters cannot be wider, give at least 1")
        self.sizes = [high - low for low, high in itertools.pairwise(edges)]
        self.register_buffer("_firsts", torch.tensor(self.cutoffs), persistent=False)
        clusters = range(1, len(self.sizes))
        if tied is None:
            widths = [hidden_size, *(max(1, int(hidden_size // div_value**c)) for c in clusters)]
            self.weights = nn.ParameterList(linear_weight(*pair) for pair in zip(self.sizes, widths, strict=True))
            self.weight = self.head_projection = None
            make_projection = linear_weight
        else:
            self.weights = None
            self.weight = tied_weight(tied, num_classes)
            width = self.weight.shape[1]
            widths = [width] * len(self.sizes)
            self.head_projection = None if width == hidden_size else projection_weight(width, hidden_size)
            make_projection = projection_weight
        self.cluster_weight = linear_weight(len(clusters), widths[0])
        self.projections = nn.ParameterList(make_projection(width, hidden_size) for width in widths[1:])
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None
        self.cluster_bias = nn.Parameter(torch.zeros(len(clusters))) if bias else None

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        self._check(hidden, targets)
        projections, weights, biases = self._layers()
        cluster = torch.bucketize(targets, self._firsts, right=True)  # (N,), 0 is the head
        in_head = torch.where(cluster == 0, targets, self.sizes[0] - 1 + cluster)
        nll = self._cross_entropy(hidden, projections[0], weights[0], biases[0], in_head)
        for c, first in enumerate(self.cutoffs, start=1):
            rows = (cluster == c).nonzero().squeeze(1)
            # In training also without a row: a parameter that has no gradient on one of several processes makes
            # the others wait for ever.
            if rows.numel() or torch.is_grad_enabled():
                relative = targets.index_select(0, rows) - first
                inside = self._cross_entropy(
                    hidden.index_select(0, rows), projections[c], weights[c], biases[c], relative
                )
                nll = nll.index_add(0, rows, inside)
        return nll

    def log_probs(self, hidden: Tensor) -> Tensor:
        self._check_hidden(hidden)
        each = [
            torch.log_softmax(linear(_project(hidden, projection), weight, bias), -1)
            for projection, weight, bias in zip(*self._layers(), strict=True)
        ]
        return join(each[0], each[1:])

    def prepare_log_probs(self) -> Callable[[Tensor], Tensor]:
        levels = self.prepare_levels()
        return self.log_probs if levels is None else levels.log_probs

    def prepare_levels(self) -> Levels | None:
        if not packs(self.cluster_weight):
            return None
        with torch.no_grad():
            layers = [
                (None if projection is None else packed_linear(projection), packed_linear(weight, bias))
                for projection, weight, bias in zip(*self._layers(), strict=True)
            ]
        first, *inside = (_softmax(project, output) for project, output in layers)
        return Levels(first, tuple(inside), self.cutoffs)

    def extra_repr(self) -> str:
        """The sizes, as ``print(module)`` shows them."""
        return f"{super().extra_repr()}, cutoffs={list(self.cutoffs)}"

    def _layers(self) -> tuple[list[Tensor | None], list[Tensor], list[Tensor | None]]:
        """Projections, weights and biases of the head and of every cluster."""
        # split, not slices: its backward pass joins the pieces' gradients once, instead of padding each.
        weights = list(self.weights) if self.weight is None else list(self.weight.split(self.sizes))
        weights[0] = torch.cat([weights[0], self.cluster_weight])
        biases: list[Tensor | None] = [None] * len(self.sizes)
        if self.bias is not None:
            biases = list(self.bias.split(self.sizes))
            biases[0] = torch.cat([biases[0], self.cluster_bias])
        return [self.head_projection, *self.projections], weights, biases

    def _cross_entropy(
        self, hidden: Tensor, projection: Tensor | None, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> Tensor:
        return cross_entropy(_project(hidden, projection), weight, bias, targets, chunk_size=self.chunk_size)


def _project(hidden: Tensor, projection: Tensor | None) -> Tensor:
    return hidden if projection is None else linear(hidden, projection)


def _softmax(project: Callable[[Tensor], Tensor] | None, output: Callable[[Tensor], Tensor]) -> Callable:
    """The log-probabilities of one packed softmax, as a function of hidden states."""

    @torch.no_grad()
    def log_probs(hidden: Tensor) -> Tensor:
        return torch.log_softmax(output(hidden if project is None else project(hidden)), -1)

    return log_probs
