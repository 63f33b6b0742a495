"""Independent binary keys: the distribution of a frame of a piano roll.

log p(x | h) = sum_k x_k log s(a_k) + (1 - x_k) log s(-a_k),   a = W h + b,   s the logistic function
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.heads.elements import ElementHead


class BernoulliHead(ElementHead):
    """F independent Bernoulli variables; targets are 0 or 1.

    Args:
        hidden_size: width H of a hidden state.
        element_size: number F of keys.
        initial_probability: of a key, before training: the bias starts at its log-odds. Near the data's density of
            notes (0.04 for chorales on 88 keys) training need not spend its first steps on that.

    Raises:
        ValueError: if a size is not positive or the probability not inside (0, 1).
    """

    kind = "binary"

    def __init__(self, hidden_size: int, element_size: int, *, initial_probability: float = 0.5) -> None:
        super().__init__(hidden_size, element_size, num_outputs=element_size, num_uniforms=element_size)
        if not 0 < initial_probability < 1:
            raise ValueError(f"initial_probability is {initial_probability}: give a number inside (0, 1)")
        nn.init.constant_(self.bias, math.log(initial_probability / (1 - initial_probability)))

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        outputs = self._checked_outputs(hidden, targets)
        # Not the mean or sum over the batch: each row keeps its own.
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none").sum(-1)

    def mean(self, hidden: Tensor) -> Tensor:
        """The probability of each key, ``(N, F)``."""
        self._check_hidden(hidden)
        return torch.sigmoid(self._outputs(hidden))

    def _draw(self, outputs: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        return (uniforms < torch.sigmoid(outputs / temperature)).to(outputs.dtype)
