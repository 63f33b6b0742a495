"""The GRU reduced to what can be computed for all steps at once.

    z    = sigmoid(W_z x[t] + b_z),   n = W_n x[t] + b_n
    h[t] = (1 - z) * h[t-1] + z * n

Feng et al. 2024, arXiv:2410.01201.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.cells import by_hand
from hybridgen.cells.base import Cell
from hybridgen.cells.matmul import linear
from hybridgen.cells.pointwise import sigmoid_slope


class MinGRU(Cell):
    """The minimal GRU; gate order (z, n).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        bias: learn a bias for gate and candidate.
    """

    linear_in_time = True
    variants = ({}, {"bias": False})

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_ih = nn.Parameter(torch.empty(2 * hidden_size, input_size))
        self.bias = nn.Parameter(torch.empty(2 * hidden_size)) if bias else None
        self.reset_parameters()

    def project(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight_ih, self.bias)

    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        return by_hand.apply(_COEFFICIENTS, projected)


def _plain(projected: Tensor) -> tuple[Tensor, Tensor]:
    z, n = projected.chunk(2, -1)
    z = torch.sigmoid(z)
    return 1 - z, z * n


def _forward(projected: Tensor) -> Any:
    z, n = projected.chunk(2, -1)
    z = torch.sigmoid(z)
    return (1 - z, z * n), (z,)


def _backward(saved: tuple[Tensor, ...], inputs: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> tuple[Tensor]:
    (z,), (projected,), (grad_gain, grad_addition) = saved, inputs, grads
    grad = torch.empty_like(projected)
    grad_z, grad_n = grad.chunk(2, -1)
    sigmoid_slope(torch.mul(grad_addition, projected.chunk(2, -1)[1]).sub_(grad_gain), z, out=grad_z)
    torch.mul(grad_addition, z, out=grad_n)
    return (grad,)


_COEFFICIENTS = by_hand.Function(_plain, _forward, _backward)
