"""The full softmax.

    log p(v | h) = (W P h + b)[v] - log sum_u exp((W P h + b)[u])

W is ``(V, E)``, perhaps that of the embedding: Press & Wolf 2017, "Using the output embedding to improve language
models", arXiv:1608.05859; Inan et al. 2017, "Tying word vectors and word classifiers", arXiv:1611.01462. P is the
identity unless a tied embedding is not as wide as the hidden state. Label smoothing: Szegedy et al. 2016,
arXiv:1512.00567.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hybridgen.cells.matmul import linear
from hybridgen.heads.base import ClassHead, linear_weight, packed_linear, packs, projection_weight, tied_weight
from hybridgen.heads.chunked import cross_entropy


class CategoricalHead(ClassHead):
    """A softmax over all classes, whose logits are never all in memory at once.

    Args:
        hidden_size: width H of a hidden state.
        num_classes: number V of classes.
        bias: whether there is one; it starts at zero.
        tied: an ``nn.Embedding`` (or its weight) of V rows whose parameter is to be the output matrix too. Where
            its width E is not ``hidden_size``, a projection without bias comes between. Its initialisation is
            the embedding's: ``nn.Embedding``'s own, standard normal, is far too large for a softmax.
        label_smoothing: in [0, 1), the share of the target's probability that :meth:`loss` spreads over all
            classes; :meth:`nll` never does.
        chunk_size: rows of a chunk; makes no difference to any value. Default: about 16 MiB of logits.

    Raises:
        ValueError: if a size is not positive, ``tied`` does not fit or ``label_smoothing`` is not in [0, 1).
    """

    def __init__(
        self,
        hidden_size: int,
        num_classes: int,
        *,
        bias: bool = True,
        tied: nn.Embedding | nn.Parameter | None = None,
        label_smoothing: float = 0.0,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(hidden_size, num_classes, chunk_size=chunk_size)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}: give a share in [0, 1)")
        self.label_smoothing = label_smoothing
        self.weight = linear_weight(num_classes, hidden_size) if tied is None else tied_weight(tied, num_classes)
        width = self.weight.shape[1]
        self.projection = None if width == hidden_size else projection_weight(width, hidden_size)
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return self._cross_entropy(hidden, targets, 0.0)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy with the smoothed targets, ``(N,)``; equal to :meth:`nll` where nothing is smoothed."""
        return self._cross_entropy(hidden, targets, self.label_smoothing)

    def log_probs(self, hidden: Tensor) -> Tensor:
        self._check_hidden(hidden)
        logits = linear(self._project(hidden), self.weight, self.bias)
        return torch.log_softmax(logits, -1)

    def prepare_log_probs(self) -> Callable[[Tensor], Tensor]:
        if not packs(self.weight):
            return self.log_probs
        output = packed_linear(self.weight, self.bias)
        project = None if self.projection is None else packed_linear(self.projection)

        @torch.no_grad()
        def log_probs(hidden: Tensor) -> Tensor:
            return torch.log_softmax(output(hidden if project is None else project(hidden)), -1)

        return log_probs

    def _project(self, hidden: Tensor) -> Tensor:
        return hidden if self.projection is None else linear(hidden, self.projection)

    def _cross_entropy(self, hidden: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        self._check(hidden, targets)
        return cross_entropy(
            self._project(hidden),
            self.weight,
            self.bias,
            targets,
            label_smoothing=label_smoothing,
            chunk_size=self.chunk_size,
        )
