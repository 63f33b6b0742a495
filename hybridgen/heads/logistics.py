"""Mixtures of logistic distributions: Salimans et al. 2017, "PixelCNN++", arXiv:1701.05517.

    p(x_f | h) = sum_k pi_fk logistic(x_f; m_fk, s_fk)                                       on the real line
    P(x_f | h) = sum_k pi_fk [S((x_f + d/2 - m_fk) / s_fk) - S((x_f - d/2 - m_fk) / s_fk)]   on levels, d apart

S is the logistic function; the outermost levels take the tails, so that the discretised distribution sums to one.
Differences of S are computed from logarithms, exact also where both ends round to the same float (the published code
switches to a density times a width there):

    log(S(a) - S(b)) = log S(a) + log S(-b) + log(1 - e^(b - a)),   a > b
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.heads.base import check_size
from hybridgen.heads.elements import ElementHead, bounded, check_bounds, choose


class MixtureOfLogisticsHead(ElementHead):
    """F independent variables, each a mixture of K logistic distributions.

    Args:
        hidden_size: width H of a hidden state.
        element_size: width F of an element.
        num_components: number K of components; 10 in the paper.
        num_levels: how many equidistant values an element can take (256 for 8-bit images): then the likelihood is a
            probability, and targets must be such values. Default: real numbers, a density.
        low: the lowest level.
        high: the highest.
        min_log_scale: lower bound of the log of a scale, below 0.
        max_log_scale: upper bound, above 0.

    Raises:
        ValueError: if a size is not positive, there are fewer than 2 levels, or bounds are the wrong way round.
    """

    def __init__(
        self,
        hidden_size: int,
        element_size: int,
        *,
        num_components: int = 10,
        num_levels: int | None = None,
        low: float = -1.0,
        high: float = 1.0,
        min_log_scale: float = -7.0,
        max_log_scale: float = 3.0,
    ) -> None:
        check_size("num_components", num_components)
        outputs = 3 * num_components * element_size
        super().__init__(hidden_size, element_size, num_outputs=outputs, num_uniforms=2 * element_size)
        check_bounds(min_log_scale, max_log_scale)
        if num_levels is not None and (type(num_levels) is not int or num_levels < 2 or not low < high):
            raise ValueError(
                f"num_levels={num_levels} from low={low} to high={high} cannot be: give at least 2 levels, low first"
            )
        self.num_components, self.num_levels = num_components, num_levels
        self.low, self.high = low, high
        self.min_log_scale, self.max_log_scale = min_log_scale, max_log_scale
        with torch.no_grad():
            # Components that start at one place would move together at first.
            spread = torch.linspace(low, high, num_components + 2)[1:-1]
            self.bias.view(element_size, 3, num_components)[:, 1] = spread
            nn.init.constant_(self.bias.view(element_size, 3, num_components)[:, 2], -1.0)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        logits, means, log_scales = self._split(self._checked_outputs(hidden, targets))
        x = targets.unsqueeze(-1)  # (N, F, 1)
        each = (
            self._log_density(x, means, log_scales) if self.num_levels is None else self._log_mass(x, means, log_scales)
        )
        return -torch.logsumexp(torch.log_softmax(logits, -1) + each, -1).sum(-1)

    def mean(self, hidden: Tensor) -> Tensor:
        """The expectation, ``(N, F)``: of the levels, where there are such."""
        self._check_hidden(hidden)
        logits, means, log_scales = self._split(self._outputs(hidden))
        if self.num_levels is not None:
            # The expectation of a variable on levels is the sum of the probabilities of being above each border.
            scales, expected = torch.exp(-log_scales), torch.full_like(means, self.low)
            for level in range(self.num_levels - 1):
                border = self.low + (level + 0.5) * self._step
                expected = expected + self._step * torch.sigmoid((means - border) * scales)
            means = expected
        return (torch.softmax(logits, -1) * means).sum(-1)

    def extra_repr(self) -> str:
        """The sizes, as ``print(module)`` shows them."""
        levels = "" if self.num_levels is None else f", num_levels={self.num_levels}"
        return f"{super().extra_repr()}, num_components={self.num_components}{levels}"

    @property
    def _step(self) -> float:
        return (self.high - self.low) / (self.num_levels - 1)

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, means, raw = outputs.unflatten(-1, (self.element_size, 3, self.num_components)).unbind(2)
        return logits, means, bounded(raw, self.min_log_scale, self.max_log_scale)  # (N, F, K) each

    @staticmethod
    def _log_density(x: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        z = (x - means) * torch.exp(-log_scales)
        return -log_scales - F.softplus(z) - F.softplus(-z)

    def _log_mass(self, x: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        inverse, half = torch.exp(-log_scales), 0.5 * self._step
        above, below = (x + half - means) * inverse, (x - half - means) * inverse
        inside = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-2 * half * inverse))
        lowest, highest = x < self.low + half, x > self.high - half
        return torch.where(lowest, F.logsigmoid(above), torch.where(highest, F.logsigmoid(-below), inside))

    def _draw(self, outputs: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        logits, means, log_scales = self._split(outputs)
        which, where = uniforms.chunk(2, -1)  # (N, F) each
        chosen = choose(logits / temperature, which).unsqueeze(-1)
        mean, log_scale = (values.gather(-1, chosen).squeeze(-1) for values in (means, log_scales))
        x = mean + torch.exp(log_scale) * math.sqrt(temperature) * torch.logit(where)
        if self.num_levels is None:
            return x
        level = torch.round((x - self.low) / self._step).clamp(0, self.num_levels - 1)
        return self.low + level * self._step
