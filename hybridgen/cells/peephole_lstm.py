"""LSTM whose gates also see the cell state.

    i, f, g = W x[t] + U h[t-1] + b,   i += p_i * c[t-1],   f += p_f * c[t-1]
    c[t] = sigmoid(f) * c[t-1] + sigmoid(i) * tanh(g)
    o = W_o x[t] + U_o h[t-1] + b_o + p_o * c[t]
    h[t] = sigmoid(o) * tanh(c[t])

Gers & Schmidhuber 2000; Gers et al. 2002.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell, HiddenAndCell
from hybridgen.cells.handwritten import Kernel
from hybridgen.cells.initialise import initialise_, set_forget_bias_
from hybridgen.cells.matmul import (
    add_product_,
    input_gradients,
    input_product,
    linear,
    product,
    weight_gradient,
)
from hybridgen.cells.pointwise import doubling, lstm_slopes, tanh_of_doubled_, tanh_slope, tanh_to


class PeepholeLSTM(Cell):
    """LSTM with peephole connections; gate order (i, f, g, o).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        bias: learn a bias for every gate.
        forget_bias: what the forget gate's bias starts at.
    """

    State = HiddenAndCell
    recurrent_weights = ("weight_hh",)
    memory_component = "c"
    variants = ({}, {"bias": False})

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True, forget_bias: float = 1.0) -> None:
        super().__init__(input_size, hidden_size)
        self.forget_bias = forget_bias
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.peephole = nn.Parameter(torch.empty(3 * hidden_size))  # of i, f, o
        self.bias = nn.Parameter(torch.empty(4 * hidden_size)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; peepholes start at zero, as an LSTM without them (scheme "orthogonal")."""
        initialise_(self, scheme)
        set_forget_bias_(self, 1)

    @property
    def kernel(self) -> Kernel:
        """The hand-written mathematics; see :mod:`~hybridgen.cells.handwritten`."""
        return _KERNEL

    def project(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight_ih, self.bias)

    def advance(self, projected: Tensor, state: HiddenAndCell, read: Tensor) -> HiddenAndCell:
        i, f, g, o = (projected + linear(read, self.weight_hh)).chunk(4, -1)
        p_i, p_f, p_o = self.peephole.chunk(3)
        i, f = torch.sigmoid(i + p_i * state.c), torch.sigmoid(f + p_f * state.c)
        c = f * state.c + i * torch.tanh(g)
        return HiddenAndCell(torch.sigmoid(o + p_o * c) * torch.tanh(c), c)


def _forward(inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, peephole: Tensor, bias: Tensor | None) -> Any:
    hidden = weight_hh.shape[1]
    gates = input_product(inputs, weight_ih, bias)  # (T, B, 4H)
    recurrent = weight_hh.t().contiguous()  # (H, 4H)
    gates[..., 2 * hidden : 3 * hidden] *= doubling(gates)
    recurrent[:, 2 * hidden : 3 * hidden] *= doubling(gates)
    tanh_c = gates.new_empty(*gates.shape[:2], hidden)
    of_if, p_o = peephole[: 2 * hidden].view(2, hidden), peephole[2 * hidden :]
    per_step, tanh_cs = gates.unbind(0), tanh_c.unbind(0)
    i_and_f = gates.unflatten(-1, (4, hidden))[:, :, :2].unbind(0)  # (B, 2, H)
    i, f, g, o = (gate.unbind(0) for gate in gates.chunk(4, -1))

    def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
        h, c = new
        add_product_(per_step[t], read, recurrent)
        i_and_f[t].addcmul_(of_if, previous[1].unsqueeze(1)).sigmoid_()
        tanh_of_doubled_(g[t])
        torch.mul(f[t], previous[1], out=c).addcmul_(i[t], g[t])
        o[t].addcmul_(p_o, c).sigmoid_()
        torch.mul(o[t], tanh_to(tanh_cs[t], c), out=h)

    return step, (gates, tanh_c)


def _backward(
    saved: tuple[Tensor, ...],
    inputs: Tensor,
    previous: tuple[Tensor, ...],
    reads: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    peephole: Tensor,
    bias: Tensor | None,
) -> Any:
    gates, tanh_c = saved
    i, f, g, o = gates.chunk(4, -1)
    p_i, p_f, p_o = peephole.chunk(3)
    slopes = lstm_slopes(gates, previous[1], tanh_c)
    slope_i, slope_f, _, slope_o = slopes.chunk(4, -1)
    # d h / d c, through tanh and through what the output gate sees; d c / d c[t-1] beside the forget gate.
    of_c = tanh_slope(o, tanh_c, out=torch.empty_like(tanh_c)).addcmul_(slope_o, p_o).unbind(0)
    of_previous = (f + slope_i * p_i).addcmul_(slope_f, p_f).unbind(0)
    # The cell state that the output gate saw: of the step itself, before anything between the steps.
    new_c = (f * previous[1]).addcmul_(i, g)
    per_step, of_o = slopes.unbind(0), slope_o.unbind(0)
    of_ifg = slopes.unflatten(-1, (4, -1))[:, :, :3].unbind(0)  # (B, 3, H)

    def step(t: int, grads: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        grad_h, grad_c = grads
        grad_c.addcmul_(grad_h, of_c[t])
        of_o[t].mul_(grad_h)
        of_ifg[t].mul_(grad_c.unsqueeze(1))
        return product(per_step[t], weight_hh), [None, grad_c.mul_(of_previous[t])]

    def finish() -> tuple[Tensor | None, ...]:
        grad_inputs, grad_ih, grad_bias = input_gradients(slopes, inputs, weight_ih, bias)
        seen = ((slope_i, previous[1]), (slope_f, previous[1]), (slope_o, new_c))
        grad_peephole = torch.cat([(grad * c).sum((0, 1)) for grad, c in seen])
        return grad_inputs, grad_ih, weight_gradient(reads, slopes), grad_peephole, grad_bias

    return step, finish


_KERNEL = Kernel(("weight_ih", "weight_hh", "peephole", "bias"), _forward, _backward)
