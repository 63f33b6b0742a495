"""The diagonal normal distribution.

    log p(x | h) = -sum_f ((x_f - m_f)^2 / (2 s_f^2) + log s_f + log(2 pi) / 2),   (m, log s) = W h + b

with log s bounded smoothly, so that constant stretches of a series do not make the density infinite.
"""

import math

import torch
from torch import Tensor

from hybridgen.heads.elements import ElementHead, bounded, check_bounds

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class GaussianHead(ElementHead):
    """F independent normal variables; targets are real numbers, best of a standard deviation near 1.

    Args:
        hidden_size: width H of a hidden state.
        element_size: width F of an element.
        min_log_scale: lower bound of the log standard deviation, below 0; e^-5 is 0.7 percent.
        max_log_scale: upper bound, above 0.

    Raises:
        ValueError: if a size is not positive or a bound is on the wrong side of 0.
    """

    def __init__(
        self, hidden_size: int, element_size: int, *, min_log_scale: float = -5.0, max_log_scale: float = 3.0
    ) -> None:
        super().__init__(hidden_size, element_size, num_outputs=2 * element_size, num_uniforms=element_size)
        check_bounds(min_log_scale, max_log_scale)
        self.min_log_scale, self.max_log_scale = min_log_scale, max_log_scale

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        mean, log_scale = self._split(self._checked_outputs(hidden, targets))
        standardised = (targets - mean) * torch.exp(-log_scale)
        return (0.5 * standardised.square() + log_scale + _HALF_LOG_TWO_PI).sum(-1)

    def mean(self, hidden: Tensor) -> Tensor:
        self._check_hidden(hidden)
        return self._outputs(hidden)[:, : self.element_size]

    def _draw(self, outputs: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        mean, log_scale = self._split(outputs)
        return mean + torch.exp(log_scale) * math.sqrt(temperature) * torch.special.ndtri(uniforms)

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = outputs.chunk(2, -1)
        return mean, bounded(raw, self.min_log_scale, self.max_log_scale)
