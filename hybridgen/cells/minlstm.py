"""The LSTM reduced to what can be computed for all steps at once.

    f, i = sigmoid(W x[t] + b),   n = W_n x[t] + b_n
    h[t] = f / (f + i) * h[t-1] + i / (f + i) * n

Feng et al. 2024, arXiv:2410.01201 (the length-independent form).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.cells import by_hand
from hybridgen.cells.base import Cell
from hybridgen.cells.initialise import initialise_, set_forget_bias_
from hybridgen.cells.matmul import linear
from hybridgen.cells.pointwise import sigmoid_slope


class MinLSTM(Cell):
    """The minimal LSTM; gate order (f, i, n).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        bias: learn a bias for gates and candidate.
        forget_bias: what the forget gate's bias starts at.
    """

    linear_in_time = True
    variants = ({}, {"bias": False})

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True, forget_bias: float = 1.0) -> None:
        super().__init__(input_size, hidden_size)
        self.forget_bias = forget_bias
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; see :func:`~hybridgen.cells.initialise.initialise_`."""
        initialise_(self, scheme)
        set_forget_bias_(self, 0)

    def project(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight_ih, self.bias)

    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        if projected.dtype in (torch.float32, torch.float64):
            return by_hand.apply(_COEFFICIENTS, projected)
        # The same share from the logarithms: 16 bits cannot hold the gates themselves from -8 on.
        f, i, n = projected.chunk(3, -1)
        write = torch.sigmoid(F.logsigmoid(i) - F.logsigmoid(f))
        return 1 - write, write * n


def _shares(projected: Tensor) -> tuple[Tensor, ...]:
    f, i, _ = projected.chunk(3, -1)
    f, i = torch.sigmoid(f), torch.sigmoid(i)
    # The tiny number keeps the share defined where both gates are shut to nothing (below -87 in float32): then nothing
    # is written.
    total = f + i + torch.finfo(i.dtype).tiny
    return f, i, total, i / total


def _plain(projected: Tensor) -> tuple[Tensor, Tensor]:
    *_, write = _shares(projected)
    return 1 - write, write * projected.chunk(3, -1)[2]


def _forward(projected: Tensor) -> Any:
    saved = _shares(projected)
    return (1 - saved[-1], saved[-1] * projected.chunk(3, -1)[2]), saved


def _backward(saved: tuple[Tensor, ...], inputs: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> tuple[Tensor]:
    (f, i, total, write), (projected,), (grad_gain, grad_addition) = saved, inputs, grads
    grad = torch.empty_like(projected)
    grad_f, grad_i, grad_n = grad.chunk(3, -1)
    torch.mul(grad_addition, write, out=grad_n)
    # d write / d i = (1 - write) / total and d write / d f = -write / total, gates after the sigmoid.
    of_keep = torch.addcmul(grad_gain, grad_addition, projected.chunk(3, -1)[2], value=-1).div_(total)
    of_f = of_keep * write
    sigmoid_slope(torch.sub(of_f, of_keep, out=of_keep), i, out=grad_i)
    sigmoid_slope(of_f, f, out=grad_f)
    return (grad,)


_COEFFICIENTS = by_hand.Function(_plain, _forward, _backward)
