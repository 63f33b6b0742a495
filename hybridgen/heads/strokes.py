"""Strokes of a drawing: Ha & Eck 2017, "A neural representation of sketch drawings", arXiv:1704.03477.

An element is ``(dx, dy, p1, p2, p3)``: the pen's move, and one of three states: it draws (p1), it is lifted after this
point (p2), the sketch has ended (p3)::

    log p(x | h) = log q_s + [s is not the end] log sum_k pi_k N2((dx, dy); m_k, C_k)

q is a softmax over the states, C_k has the standard deviations s_x, s_y and the correlation r. There is no move at the
end, so it has no density: p is a proper distribution on sketches of any length.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hybridgen.heads.base import check_size
from hybridgen.heads.elements import ElementHead, bounded, check_bounds, choose

_LOG_TWO_PI = math.log(2 * math.pi)
_LARGEST_CORRELATION = 0.999
#: Width of a stroke: two moves and three pen states.
STROKE_SIZE = 5


class BivariateMixtureHead(ElementHead):
    """A mixture of K bivariate normal distributions of the pen's move, and a softmax over its three states.

    Args:
        hidden_size: width H of a hidden state.
        element_size: 5: dx, dy (scaled to a standard deviation near 1) and the pen's state, one-hot.
        num_components: number K of components; 20 in the paper.
        min_log_scale: lower bound of the log standard deviations, below 0.
        max_log_scale: upper bound, above 0.

    Raises:
        ValueError: if an element is not 5 wide, K is not positive or a bound is on the wrong side of 0.
    """

    kind = "strokes"

    def __init__(
        self,
        hidden_size: int,
        element_size: int = STROKE_SIZE,
        *,
        num_components: int = 20,
        min_log_scale: float = -6.0,
        max_log_scale: float = 4.0,
    ) -> None:
        check_size("num_components", num_components)
        if element_size != STROKE_SIZE:
            raise ValueError(f"element_size is {element_size} but a stroke is (dx, dy, p1, p2, p3): give 5")
        super().__init__(hidden_size, STROKE_SIZE, num_outputs=6 * num_components + 3, num_uniforms=4)
        check_bounds(min_log_scale, max_log_scale)
        self.num_components = num_components
        self.min_log_scale, self.max_log_scale = min_log_scale, max_log_scale

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        moves, pen = self.terms(hidden, targets)
        return moves + pen

    def terms(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of :meth:`nll`, of the move (zero at the end) and of the pen's state, ``(N,)`` nats each."""
        logits, means, log_scales, correlation, pen = self._split(self._checked_outputs(hidden, targets))
        z = (targets[:, :2, None] - means) * torch.exp(-log_scales)  # (N, 2, K)
        zx, zy = z.unbind(1)
        left = 1 - correlation.square()
        distance = (zx.square() + zy.square() - 2 * correlation * zx * zy) / left
        each = -0.5 * (distance + torch.log(left)) - log_scales.sum(1) - _LOG_TWO_PI  # (N, K)
        move = -torch.logsumexp(torch.log_softmax(logits, -1) + each, -1)
        states = targets[:, 2:].to(pen.dtype)
        return move * (1 - states[:, 2]), -(states * torch.log_softmax(pen, -1)).sum(-1)

    def mean(self, hidden: Tensor) -> Tensor:
        """The mixture's mean move and the probabilities of the three states, ``(N, 5)``."""
        self._check_hidden(hidden)
        logits, means, _, _, pen = self._split(self._outputs(hidden))
        move = (torch.softmax(logits, -1).unsqueeze(1) * means).sum(-1)  # (N, 2)
        return torch.cat([move, torch.softmax(pen, -1)], -1)

    def extra_repr(self) -> str:
        """The sizes, as ``print(module)`` shows them."""
        return f"{super().extra_repr()}, num_components={self.num_components}"

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Logits (N, K), means (N, 2, K), log standard deviations (N, 2, K), correlations (N, K), pen (N, 3)."""
        k = self.num_components
        logits, means, raw, correlation, pen = outputs.split([k, 2 * k, 2 * k, k, 3], -1)
        log_scales = bounded(raw, self.min_log_scale, self.max_log_scale).unflatten(-1, (2, k))
        return logits, means.unflatten(-1, (2, k)), log_scales, _LARGEST_CORRELATION * torch.tanh(correlation), pen

    def _draw(self, outputs: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        logits, means, log_scales, correlation, pen = self._split(outputs)
        chosen = choose(logits / temperature, uniforms[:, 0])  # (N,)
        rows = torch.arange(len(chosen), device=chosen.device)
        mean, scale = means[rows, :, chosen], torch.exp(log_scales[rows, :, chosen]) * math.sqrt(temperature)
        r = correlation[rows, chosen]
        first, second = torch.special.ndtri(uniforms[:, 1:3]).unbind(-1)
        noise = torch.stack([first, r * first + torch.sqrt(1 - r.square()) * second], -1)
        state = choose(pen / temperature, uniforms[:, 3])
        move = (mean + scale * noise).masked_fill((state == 2).unsqueeze(-1), 0.0)
        return torch.cat([move, F.one_hot(state, 3).to(move.dtype)], -1)
