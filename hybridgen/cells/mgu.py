"""The minimal gated unit: a GRU whose one gate both resets and updates.

    f    = sigmoid(W_f x[t] + U_f h[t-1] + b_f)
    n    = tanh(W_n x[t] + U_n (f * h[t-1]) + b_n)
    h[t] = (1 - f) * h[t-1] + f * n

Zhou et al. 2016, arXiv:1603.09420.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell, Hidden
from hybridgen.cells.handwritten import Kernel
from hybridgen.cells.matmul import (
    add_product_,
    input_gradients,
    input_product,
    linear,
    product,
    weight_gradient,
)
from hybridgen.cells.pointwise import sigmoid_slope, tanh_slope, tanh_to


class MGU(Cell):
    """The minimal gated unit.

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        bias: learn a bias for the gate and the candidate.
    """

    recurrent_weights = ("weight_hh",)
    variants = ({}, {"bias": False})

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_ih = nn.Parameter(torch.empty(2 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(2 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(2 * hidden_size)) if bias else None
        self.reset_parameters()

    @property
    def kernel(self) -> Kernel:
        """The hand-written mathematics; see :mod:`~hybridgen.cells.handwritten`."""
        return _KERNEL

    def project(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight_ih, self.bias)

    def advance(self, projected: Tensor, state: Hidden, read: Tensor) -> Hidden:
        of_f, of_n = projected.chunk(2, -1)
        weight_f, weight_n = self.weight_hh.chunk(2)
        f = torch.sigmoid(of_f + linear(read, weight_f))
        n = torch.tanh(of_n + linear(f * read, weight_n))
        return Hidden(torch.lerp(state.h, n, f))


def _forward(inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None) -> Any:
    gates = input_product(inputs, weight_ih, bias)  # (T, B, 2H)
    of_f, of_n = (w.t().contiguous() for w in weight_hh.chunk(2))
    forgotten = gates.new_empty(*gates.shape[:2], weight_hh.shape[1])  # f * h
    f, n = (gate.unbind(0) for gate in gates.chunk(2, -1))
    forgottens = forgotten.unbind(0)

    def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
        torch.mul(add_product_(f[t], read, of_f).sigmoid_(), read, out=forgottens[t])
        add_product_(n[t], forgottens[t], of_n)
        torch.lerp(previous[0], tanh_to(n[t], n[t]), f[t], out=new[0])

    return step, (gates, forgotten)


def _backward(
    saved: tuple[Tensor, ...],
    inputs: Tensor,
    previous: tuple[Tensor, ...],
    reads: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
) -> Any:
    gates, forgotten = saved
    f, n = gates.chunk(2, -1)
    weight_f, weight_n = weight_hh.chunk(2)
    slopes = torch.empty_like(gates)
    slope_f, slope_n = slopes.chunk(2, -1)
    sigmoid_slope(n - previous[0], f, out=slope_f)  # through the update
    tanh_slope(f, n, out=slope_n)
    through_read = sigmoid_slope(reads, f, out=torch.empty_like(forgotten)).unbind(0)  # through f * h
    fs, of_f, of_n = f.unbind(0), slope_f.unbind(0), slope_n.unbind(0)

    def step(t: int, grads: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        (grad_h,) = grads
        grad_forgotten = product(of_n[t].mul_(grad_h).contiguous(), weight_n)
        of_f[t].mul_(grad_h).addcmul_(grad_forgotten, through_read[t])
        grad_read = product(of_f[t].contiguous(), weight_f).addcmul_(grad_forgotten, fs[t])
        return grad_read, [grad_h.addcmul_(grad_h, fs[t], value=-1)]

    def finish() -> tuple[Tensor | None, ...]:
        grad_inputs, grad_ih, grad_bias = input_gradients(slopes, inputs, weight_ih, bias)
        grad_hh = torch.cat([weight_gradient(reads, slope_f), weight_gradient(forgotten, slope_n)])
        return grad_inputs, grad_ih, grad_hh, grad_bias

    return step, finish


_KERNEL = Kernel(("weight_ih", "weight_hh", "bias"), _forward, _backward)
