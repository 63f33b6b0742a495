"""The simple recurrent unit.

    f, r = sigmoid(W x[t] + b),   v = W_v x[t]
    c[t] = f * c[t-1] + (1 - f) * v
    h[t] = r * act(c[t]) + (1 - r) * x[t]          x projected where its width is not H

Lei et al. 2017, arXiv:1709.02755, version 1: the later v_f * c[t-1] inside the gates would make the recurrence
nonlinear, so that it could no longer be computed for all steps at once.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell
from hybridgen.cells.initialise import initialise_, set_forget_bias_
from hybridgen.cells.matmul import linear
from hybridgen.cells.pointwise import tanh


class Memory(NamedTuple):
    """State of an SRU."""

    c: Tensor  # (B, H)


class SRU(Cell):
    """The simple recurrent unit; gate order (f, r, v), then the highway's projection where there is one.

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        nonlinearity: of the output, ``"tanh"`` or ``"identity"``.
        forget_bias: what the forget gate's bias starts at.

    Raises:
        ValueError: if ``nonlinearity`` is another word.
    """

    State = Memory
    hidden_component = None
    memory_component = "c"
    linear_in_time = True
    variants = ({}, {"nonlinearity": "identity"})

    def __init__(
        self, input_size: int, hidden_size: int, *, nonlinearity: str = "tanh", forget_bias: float = 1.0
    ) -> None:
        super().__init__(input_size, hidden_size)
        if nonlinearity not in ("tanh", "identity"):
            raise ValueError(f"nonlinearity is {nonlinearity!r}: choose 'tanh' or 'identity'")
        self.nonlinearity = nonlinearity
        self.forget_bias = forget_bias
        self.blocks = 3 if input_size == hidden_size else 4
        self.weight_ih = nn.Parameter(torch.empty(self.blocks * hidden_size, input_size))
        self.bias = nn.Parameter(torch.empty(2 * hidden_size))  # of the gates; v and the highway have none
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; see :func:`~hybridgen.cells.initialise.initialise_`."""
        initialise_(self, scheme)
        set_forget_bias_(self, 0)

    def project(self, inputs: Tensor) -> tuple[Tensor, ...]:
        of_f, of_r, v, *highway = linear(inputs, self.weight_ih).chunk(self.blocks, -1)
        bias_f, bias_r = self.bias.chunk(2)
        return (
            torch.sigmoid(of_f + bias_f),
            torch.sigmoid(of_r + bias_r),
            v,
            highway[0] if highway else inputs,
        )

    def coefficients(self, projected: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        f, _, v, _ = projected
        return f, (1 - f) * v

    def emit(self, projected: tuple[Tensor, ...], state: Memory) -> Tensor:
        _, r, _, highway = projected
        value = tanh(state.c) if self.nonlinearity == "tanh" else state.c
        return torch.lerp(highway, value, r)
