"""The independently recurrent network: every unit reads only its own past.

    h[t] = act(W x[t] + u * h[t-1] + b),   act = relu or tanh

Li et al. 2018, arXiv:1803.04831. Stacked, with the mixing left to the next layer's W.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell, Hidden
from hybridgen.cells.handwritten import Kernel
from hybridgen.cells.initialise import initialise_
from hybridgen.cells.matmul import input_gradients, input_product, linear
from hybridgen.cells.pointwise import activate_, activation, checked_activation, slope


class IndRNN(Cell):
    """The independently recurrent network.

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        nonlinearity: ``"relu"`` (the paper's) or ``"tanh"``.
        bias: learn a bias.
    """

    recurrent_weights = ("weight_hh",)
    variants = ({}, {"nonlinearity": "tanh", "bias": False})

    def __init__(self, input_size: int, hidden_size: int, *, nonlinearity: str = "relu", bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        self.nonlinearity = checked_activation(nonlinearity)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size))
        self.bias = nn.Parameter(torch.empty(hidden_size)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; each unit's own past starts at a weight in (0, 1), a memory span of its own."""
        initialise_(self, scheme)
        with torch.no_grad():
            self.weight_hh.uniform_(0, 1)

    @property
    def kernel(self) -> Kernel:
        """The hand-written mathematics; see :mod:`~hybridgen.cells.handwritten`."""
        return _kernel(self.nonlinearity)

    def project(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight_ih, self.bias)

    def advance(self, projected: Tensor, state: Hidden, read: Tensor) -> Hidden:
        return Hidden(activation(self.nonlinearity, torch.addcmul(projected, self.weight_hh, read)))


@functools.cache
def _kernel(nonlinearity: str) -> Kernel:
    def forward(inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None) -> Any:
        values = input_product(inputs, weight_ih, bias)  # (T, B, H)
        per_step = values.unbind(0)

        def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
            new[0].copy_(activate_(nonlinearity, per_step[t].addcmul_(weight_hh, read)))

        return step, (values,)

    def backward(
        saved: tuple[Tensor, ...],
        inputs: Tensor,
        previous: tuple[Tensor, ...],
        reads: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor | None,
    ) -> Any:
        slopes = slope(nonlinearity, saved[0])
        per_step = slopes.unbind(0)

        def step(t: int, grads: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
            return per_step[t].mul_(grads[0]) * weight_hh, [None]

        def finish() -> tuple[Tensor | None, ...]:
            grad_inputs, grad_ih, grad_bias = input_gradients(slopes, inputs, weight_ih, bias)
            return grad_inputs, grad_ih, (reads * slopes).sum((0, 1)), grad_bias

        return step, finish

    return Kernel(("weight_ih", "weight_hh", "bias"), forward, backward)
