"""Mixture of softmaxes: Yang et al. 2018, "Breaking the softmax bottleneck", arXiv:1711.03953.

    log p(v | h) = log sum_k pi_k(h) softmax(W tanh(L_k h) + b)[v],   pi(h) = softmax(M h)

computed from logarithms throughout: no ``log(p + 1e-8)``, which the published code has, and which both bends the
gradient of rare words and breaks normalisation.
"""

import torch
from torch import Tensor, nn

from hybridgen.cells.matmul import linear
from hybridgen.heads.base import ClassHead, check_size, linear_weight, tied_weight
from hybridgen.heads.chunked import cross_entropy


class MixtureOfSoftmaxesHead(ClassHead):
    """K softmaxes over all classes with one output matrix, mixed in the proportions the hidden state asks for.

    Its cost is about K times that of the full softmax; its logits are never all in memory at once.

    Args:
        hidden_size: width H of a hidden state.
        num_classes: number V of classes.
        num_experts: number K of softmaxes; 15 in the paper for the Penn Treebank.
        latent_size: width E of what each softmax reads; that of ``tied``, or else ``hidden_size``, by default.
        bias: whether the logits have one; it starts at zero. (The maps to the K latent vectors always have.)
        tied: an ``nn.Embedding`` (or its weight) of V rows whose parameter is to be the output matrix too.
        chunk_size: rows of a chunk; makes no difference to any value. Default: about 16 MiB of logits.

    Raises:
        ValueError: if a size is not positive, or ``tied`` does not fit.
    """

    def __init__(
        self,
        hidden_size: int,
        num_classes: int,
        *,
        num_experts: int = 15,
        latent_size: int | None = None,
        bias: bool = True,
        tied: nn.Embedding | nn.Parameter | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(hidden_size, num_classes, chunk_size=chunk_size)
        check_size("num_experts", num_experts)
        weight = None if tied is None else tied_weight(tied, num_classes)
        if latent_size is None:
            latent_size = hidden_size if weight is None else weight.shape[1]
        check_size("latent_size", latent_size)
        if weight is not None and weight.shape[1] != latent_size:
            raise ValueError(f"latent_size is {latent_size} but tied is {weight.shape[1]} wide: leave latent_size out")
        self.num_experts = num_experts
        self.latent_size = latent_size
        self.weight = linear_weight(num_classes, latent_size) if weight is None else weight
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None
        self.latent_weight = linear_weight(num_experts * latent_size, hidden_size)
        self.latent_bias = nn.Parameter(torch.zeros(num_experts * latent_size))
        # Zero would start all experts with the same share, and none of them ever apart in it.
        self.prior_weight = linear_weight(num_experts, hidden_size)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        self._check(hidden, targets)
        latent, log_prior = self._experts(hidden)
        return cross_entropy(latent, self.weight, self.bias, targets, log_prior=log_prior, chunk_size=self.chunk_size)

    def log_probs(self, hidden: Tensor) -> Tensor:
        self._check_hidden(hidden)
        parts = []
        for rows in self._row_chunks(hidden, self.num_experts):
            latent, log_prior = self._experts(rows)
            logits = linear(latent, self.weight, self.bias)
            each = torch.log_softmax(logits, -1).unflatten(0, (-1, self.num_experts))  # (R, K, V)
            parts.append(torch.logsumexp(each + log_prior.unsqueeze(-1), 1))
        return torch.cat(parts)

    def extra_repr(self) -> str:
        """The sizes, as ``print(module)`` shows them."""
        return f"{super().extra_repr()}, num_experts={self.num_experts}, latent_size={self.latent_size}"

    def _experts(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """What the experts read, ``(N * K, E)``, and the log of their shares, ``(N, K)``."""
        latent = torch.tanh(linear(hidden, self.latent_weight, self.latent_bias))
        log_prior = torch.log_softmax(linear(hidden, self.prior_weight), -1)
        return latent.view(-1, self.latent_size), log_prior
