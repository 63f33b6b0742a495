"""The simple recurrent network.

    h[t] = act(W x[t] + U h[t-1] + b),   act = tanh or relu

Elman 1990; relu with its care for initialisation: Le et al. 2015, arXiv:1504.00941.
"""

import functools
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
from hybridgen.cells.pointwise import activate_, activation, checked_activation, slope


class RNN(Cell):
    """The simple recurrent network, with the weights of ``torch.nn.RNN``.

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: learn a bias (one vector, not torch's two that only act as their sum).
    """

    recurrent_weights = ("weight_hh",)
    variants = ({}, {"nonlinearity": "relu", "bias": False})

    def __init__(self, input_size: int, hidden_size: int, *, nonlinearity: str = "tanh", bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        self.nonlinearity = checked_activation(nonlinearity)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(hidden_size)) if bias else None
        self.reset_parameters()

    @property
    def kernel(self) -> Kernel:
        """The hand-written mathematics; see :mod:`~hybridgen.cells.handwritten`."""
        return _kernel(self.nonlinearity)

    def project(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight_ih, self.bias)

    def advance(self, projected: Tensor, state: Hidden, read: Tensor) -> Hidden:
        return Hidden(activation(self.nonlinearity, projected + linear(read, self.weight_hh)))

    def fused_weights(self) -> tuple[str, list[Tensor]]:
        """torch's function and weights; see :mod:`~hybridgen.cells.fused`."""
        bias = self.weight_ih.new_zeros(self.hidden_size) if self.bias is None else self.bias
        return f"rnn_{self.nonlinearity}", [self.weight_ih, self.weight_hh, bias, torch.zeros_like(bias)]


@functools.cache
def _kernel(nonlinearity: str) -> Kernel:
    def forward(inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None) -> Any:
        values = input_product(inputs, weight_ih, bias)  # (T, B, H)
        recurrent = weight_hh.t().contiguous()
        per_step = values.unbind(0)

        def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
            new[0].copy_(activate_(nonlinearity, add_product_(per_step[t], read, recurrent)))

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
            return product(per_step[t].mul_(grads[0]), weight_hh), [None]

        def finish() -> tuple[Tensor | None, ...]:
            grad_inputs, grad_ih, grad_bias = input_gradients(slopes, inputs, weight_ih, bias)
            return grad_inputs, grad_ih, weight_gradient(reads, slopes), grad_bias

        return step, finish

    return Kernel(("weight_ih", "weight_hh", "bias"), forward, backward)
