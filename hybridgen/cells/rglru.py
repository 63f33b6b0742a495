"""The real-gated linear recurrent unit of Griffin.

    u    = W x[t]
    r, i = sigmoid(W_r u + b_r), sigmoid(W_i u + b_i)          blocks on the diagonal
    a    = exp(-8 * softplus(L) * r)                           each unit's own decay L
    h[t] = a * h[t-1] + sqrt(1 - a^2) * (i * u)

De et al. 2024, arXiv:2402.19427, equations 1 to 4; W is the linear layer that stands before the unit there.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.cells import by_hand
from hybridgen.cells.base import Cell
from hybridgen.cells.initialise import initialise_
from hybridgen.cells.matmul import linear

#: The constant c of the paper.
SHARPNESS = 8.0


class RGLRU(Cell):
    """The real-gated linear recurrent unit; gate order (r, i).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        num_blocks: the gates' weights are this many diagonal blocks; must divide H.
        slowest, fastest: range of the decay a at r = 1 that the units start with, in (0, 1).

    Raises:
        ValueError: if ``num_blocks`` does not divide ``hidden_size``, or the decays are not 0 < fastest <= slowest < 1.
    """

    linear_in_time = True
    variants = ({}, {"num_blocks": 2})

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_blocks: int = 1,
        slowest: float = 0.999,
        fastest: float = 0.9,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if num_blocks < 1 or hidden_size % num_blocks:
            raise ValueError(f"num_blocks is {num_blocks}: it must divide hidden_size {hidden_size}")
        if not 0 < fastest <= slowest < 1:
            raise ValueError(f"fastest {fastest} and slowest {slowest} must satisfy 0 < fastest <= slowest < 1")
        self.num_blocks = num_blocks
        self.slowest, self.fastest = slowest, fastest
        width = hidden_size // num_blocks
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_gates = nn.Parameter(torch.empty(num_blocks, 2 * width, width))
        self.bias = nn.Parameter(torch.empty(2 * hidden_size))
        self.decay = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; decays as in the paper, uniform between ``fastest`` and ``slowest``."""
        initialise_(self, scheme)
        with torch.no_grad():
            bound = math.sqrt(self.num_blocks / self.hidden_size)
            self.weight_gates.uniform_(-bound, bound)
            wanted = torch.empty_like(self.decay).uniform_(self.fastest, self.slowest)
            # The inverse of a = exp(-c softplus(L)).
            self.decay.copy_(torch.log(torch.expm1(-torch.log(wanted) / SHARPNESS)))

    def project(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        u = linear(inputs, self.weight_ih)
        if self.num_blocks == 1:
            gates = linear(u, self.weight_gates[0], self.bias)
        else:
            blocks = u.unflatten(-1, (self.num_blocks, -1))  # (..., blocks, width)
            per_block = torch.einsum("...ni,noi->...no", blocks, self.weight_gates)
            r, i = per_block.chunk(2, -1)
            gates = torch.cat([r.flatten(-2), i.flatten(-2)], -1) + self.bias
        return u, torch.sigmoid(gates)

    def coefficients(self, projected: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        u, gates = projected
        return by_hand.apply(_COEFFICIENTS, u, gates, -SHARPNESS * F.softplus(self.decay))


#: Below this, 1 - a^2 is held up, so that the slope of its root stays finite where a reaches 1.
SMALLEST_SQUARE = 1e-6


def _plain(u: Tensor, gates: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    r, i = gates.chunk(2, -1)
    less = torch.expm1(rate * r)  # a - 1
    # 1 - a^2 = (1 - a)(1 + a) without cancellation. The root is taken as v / sqrt(v): on a CPU torch's rsqrt is
    # vectorised and its sqrt is not.
    square = (-less * (less + 2)).clamp(min=SMALLEST_SQUARE)
    return less + 1, square * torch.rsqrt(square) * (i * u)


def _forward(u: Tensor, gates: Tensor, rate: Tensor) -> Any:
    r, i = gates.chunk(2, -1)
    less = torch.mul(r, rate).expm1_()
    square = (less + 2).mul_(less).neg_()
    held_up = square < SMALLEST_SQUARE
    square.clamp_(min=SMALLEST_SQUARE)
    root = torch.rsqrt(square).mul_(square)
    gain = less.add_(1)
    return (gain, torch.mul(i, u).mul_(root)), (gain, root, held_up)


def _backward(saved: tuple[Tensor, ...], inputs: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (gain, root, held_up), (u, gates, rate), (grad_gain, grad_addition) = saved, inputs, grads
    r, i = gates.chunk(2, -1)
    grad_gates = torch.empty_like(gates)
    grad_r, grad_i = grad_gates.chunk(2, -1)
    of_written = grad_addition * root  # gradient of i * u
    torch.mul(of_written, u, out=grad_i)
    # d root / d a = -a / root, and nothing where the square is held up.
    of_root = torch.mul(grad_addition, i).mul_(u).mul_(gain).div_(root).masked_fill_(held_up, 0.0)
    of_log = torch.sub(grad_gain, of_root).mul_(gain)  # gradient of log a = rate * r
    torch.mul(of_log, rate, out=grad_r)
    return of_written.mul_(i), grad_gates, of_log.mul_(r).sum(tuple(range(of_log.dim() - 1)))


_COEFFICIENTS = by_hand.Function(_plain, _forward, _backward)
