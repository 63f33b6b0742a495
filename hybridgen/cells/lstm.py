"""Long short-term memory.

    i, f, g, o = W x[t] + U h[t-1] + b
    c[t] = sigmoid(f) * c[t-1] + sigmoid(i) * tanh(g)
    h[t] = sigmoid(o) * tanh(c[t])

Hochreiter & Schmidhuber 1997; forget gate and its bias: Gers et al. 2000; coupled gates (i = 1 - f): Greff et al.
2017, arXiv:1503.04069; projection (h = R (o * tanh(c)), narrower than c): Sak et al. 2014, arXiv:1402.1128.
"""

from collections.abc import Callable
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
    product_into,
    weight_gradient,
)
from hybridgen.cells.pointwise import doubling, lstm_backward, lstm_forward


class LSTM(Cell):
    """Long short-term memory, with the weights and gate order (i, f, g, o) of ``torch.nn.LSTM``.

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the cell state.
        bias: learn a bias for every gate. There is one vector, not torch's two that only act as their sum.
        forget_bias: what the forget gate's bias starts at; 1 keeps memory open early in training.
        coupled_gates: one gate for forgetting and writing (i = 1 - f), a quarter fewer parameters.
        projection_size: width of the output if it is to be narrower than H; 0 for none.

    Raises:
        ValueError: if ``projection_size`` is not below ``hidden_size``.
    """

    State = HiddenAndCell
    recurrent_weights = ("weight_hh",)
    memory_component = "c"
    variants = ({}, {"bias": False}, {"coupled_gates": True}, {"projection_size": 3})

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        forget_bias: float = 1.0,
        coupled_gates: bool = False,
        projection_size: int = 0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if not 0 <= projection_size < hidden_size:
            raise ValueError(
                f"projection_size is {projection_size}: it must be smaller than hidden_size {hidden_size}, or 0"
            )
        self.coupled_gates = coupled_gates
        self.projection_size = projection_size
        self.forget_bias = forget_bias
        self.output_size = projection_size or hidden_size
        self.gates = ("f", "g", "o") if coupled_gates else ("i", "f", "g", "o")
        rows = len(self.gates) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, self.output_size))
        self.bias = nn.Parameter(torch.empty(rows)) if bias else None
        self.weight_hr = nn.Parameter(torch.empty(projection_size, hidden_size)) if projection_size else None
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; see :func:`~hybridgen.cells.initialise.initialise_`."""
        initialise_(self, scheme)
        set_forget_bias_(self, self.gates.index("f"))

    def state_widths(self) -> dict[str, int]:
        return {"h": self.output_size, "c": self.hidden_size}

    def project(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight_ih, self.bias)

    def advance(self, projected: Tensor, state: HiddenAndCell, read: Tensor) -> HiddenAndCell:
        gates = projected + linear(read, self.weight_hh)
        if self.coupled_gates:
            f, g, o = gates.chunk(3, -1)
            c = torch.lerp(torch.tanh(g), state.c, torch.sigmoid(f))
        else:
            i, f, g, o = gates.chunk(4, -1)
            c = torch.addcmul(torch.sigmoid(f) * state.c, torch.sigmoid(i), torch.tanh(g))
        h = torch.sigmoid(o) * torch.tanh(c)
        return HiddenAndCell(h if self.weight_hr is None else linear(h, self.weight_hr), c)

    @property
    def kernel(self) -> Kernel | None:
        """The hand-written mathematics, of the cell without projection and coupled gates."""
        return None if self.coupled_gates or self.projection_size else _KERNEL

    def fused_step(self, input: Tensor, state: HiddenAndCell) -> HiddenAndCell | None:
        """One step by torch's cell function; see :func:`fused.step`."""
        if self.coupled_gates or self.projection_size:
            return None
        # torch's kernel on a GPU takes both biases or neither.
        inner = torch.zeros_like(self.bias) if self.bias is not None and input.is_cuda else None
        return HiddenAndCell(*torch.lstm_cell(input, state, self.weight_ih, self.weight_hh, self.bias, inner))

    def prepare_step(self, table: Tensor | None) -> Callable[[Tensor, Any], tuple[Tensor, Any]] | None:
        """Steps with the weights as they are now, laid out for products of few rows.

        Args:
            table: ``(V, I)``: the step then takes row numbers ``(B,)`` of it, whose products are taken beforehand.

        Returns:
            ``(x (B, I), (h, c)) -> (h, (h, c))`` on a CPU, for one thread at a time, or None where an option leaves
            this mathematics.
        """
        if self.coupled_gates or self.projection_size:
            return None
        hidden, inputs = self.hidden_size, self.input_size
        weight = torch.cat([self.weight_ih, self.weight_hh], 1).detach().t().contiguous()  # (I + H, 4H)
        bias = weight.new_zeros(4 * hidden) if self.bias is None else self.bias.detach().clone()
        # One sigmoid serves all four gates: tanh(g) = 2 sigmoid(2g) - 1.
        for doubled in (weight[:, 2 * hidden : 3 * hidden], bias[2 * hidden : 3 * hidden]):
            doubled *= 2
        projected = None
        if table is not None:
            projected, weight = torch.addmm(bias, table, weight[:inputs]), weight[inputs:].contiguous()
        into = product_into(weight, lambda gates: gates.chunk(4, 1))

        def step(x: Tensor, state: Any) -> tuple[Tensor, Any]:
            h, c = state
            read, added = (torch.cat([x, h], 1), bias) if projected is None else (h, projected.index_select(0, x))
            gates, (i, f, g, o) = into(read, added)
            gates.sigmoid_()
            c = torch.mul(f, c).addcmul_(i, g, value=2).sub_(i)
            h = torch.tanh(c).mul_(o)
            return h, (h, c)

        return step

    def fused_weights(self) -> tuple[str, list[Tensor]] | None:
        """torch's function and weights; see :mod:`~hybridgen.cells.fused`."""
        if self.coupled_gates:
            return None
        bias = self.weight_ih.new_zeros(4 * self.hidden_size) if self.bias is None else self.bias
        weights = [self.weight_ih, self.weight_hh, bias, torch.zeros_like(bias)]
        return "lstm", weights if self.weight_hr is None else [*weights, self.weight_hr]


def _forward(inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None) -> Any:
    hidden = weight_hh.shape[1]
    gates = input_product(inputs, weight_ih, bias)  # (T, B, 4H)
    recurrent = weight_hh.t().contiguous()  # (H, 4H)
    gates[..., 2 * hidden : 3 * hidden] *= doubling(gates)
    recurrent[:, 2 * hidden : 3 * hidden] *= doubling(gates)
    tanh_c, advance = lstm_forward(gates)
    per_step = gates.unbind(0)

    def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
        add_product_(per_step[t], read, recurrent)
        advance(t, previous[1], *new)

    return step, (gates, tanh_c)


def _backward(
    saved: tuple[Tensor, ...],
    inputs: Tensor,
    previous: tuple[Tensor, ...],
    reads: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
) -> Any:
    gates, tanh_c = saved
    slopes, back = lstm_backward(gates, previous[1], tanh_c)
    per_step = slopes.unbind(0)

    def step(t: int, grads: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        grad_c = back(t, *grads)
        return product(per_step[t], weight_hh), [None, grad_c]

    def finish() -> tuple[Tensor | None, ...]:
        grad_inputs, grad_ih, grad_bias = input_gradients(slopes, inputs, weight_ih, bias)
        return grad_inputs, grad_ih, weight_gradient(reads, slopes), grad_bias

    return step, finish


_KERNEL = Kernel(("weight_ih", "weight_hh", "bias"), _forward, _backward)
