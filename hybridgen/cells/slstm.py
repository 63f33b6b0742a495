"""The scalar-memory LSTM of xLSTM: exponential input gate, normaliser, stabiliser.

    i, f, z, o = W x[t] + U h[t-1] + b            U block-diagonal over heads
    log f = log sigmoid(f)  (or f itself, an exponential forget gate)
    m[t] = max(log f + m[t-1], i)                  stabiliser: keeps the exponentials finite, cancels in h
    c[t] = exp(log f + m[t-1] - m[t]) * c[t-1] + exp(i - m[t]) * tanh(z)
    n[t] = exp(log f + m[t-1] - m[t]) * n[t-1] + exp(i - m[t])
    h[t] = sigmoid(o) * c[t] / n[t]

Beck et al. 2024, arXiv:2405.04517, equations 8 to 17.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.cells.base import Cell
from hybridgen.cells.initialise import initialise_, orthogonal_
from hybridgen.cells.matmul import linear

#: The stabiliser of an empty memory: log of nothing, finite in every floating type.
EMPTY = -1e4


class SLSTMState(NamedTuple):
    """State of an sLSTM; c and n are in units of exp(m)."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)
    n: Tensor  # (B, H)
    m: Tensor  # (B, H)


class SLSTM(Cell):
    """The scalar-memory LSTM of xLSTM; gate order (i, f, z, o).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        num_heads: the recurrent weights are this many diagonal blocks; must divide H.
        forget_gate: ``"sigmoid"`` or ``"exponential"``.

    Raises:
        ValueError: if ``num_heads`` does not divide ``hidden_size``, or ``forget_gate`` is another word.
    """

    State = SLSTMState
    recurrent_weights = ("weight_hh",)
    learnable_components = ("h",)  # an empty memory has nothing to learn from
    starts_at = {"m": EMPTY}  # noqa: RUF012 (declared ClassVar in Cell)
    variants = ({}, {"num_heads": 2, "forget_gate": "exponential"})

    def __init__(self, input_size: int, hidden_size: int, *, num_heads: int = 1, forget_gate: str = "sigmoid") -> None:
        super().__init__(input_size, hidden_size)
        if num_heads < 1 or hidden_size % num_heads:
            raise ValueError(f"num_heads is {num_heads}: it must divide hidden_size {hidden_size}")
        if forget_gate not in ("sigmoid", "exponential"):
            raise ValueError(f"forget_gate is {forget_gate!r}: choose 'sigmoid' or 'exponential'")
        self.num_heads = num_heads
        self.forget_gate = forget_gate
        width = hidden_size // num_heads
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        # Rows as for a dense matrix, gate by gate and head by head; columns are those of the row's own head.
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, width))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; forget biases run from 3 to 6, memory spans from short to long."""
        initialise_(self, scheme)
        with torch.no_grad():
            for block in self.weight_hh.chunk(4 * self.num_heads):
                orthogonal_(block)
            start, end = self.hidden_size, 2 * self.hidden_size
            self.bias[start:end] = torch.linspace(3, 6, self.hidden_size)

    def project(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight_ih, self.bias)

    def advance(self, projected: Tensor, state: SLSTMState, read: Tensor) -> SLSTMState:
        i, f, z, o = (projected + self._recurrent(read)).chunk(4, -1)
        log_f = F.logsigmoid(f) if self.forget_gate == "sigmoid" else f
        kept = log_f + state.m
        m = torch.maximum(kept, i)
        keep, write = torch.exp(kept - m), torch.exp(i - m)
        c = keep * state.c + write * torch.tanh(z)
        n = keep * state.n + write
        return SLSTMState(torch.sigmoid(o) * c / n, c, n, m)

    def _recurrent(self, read: Tensor) -> Tensor:
        if self.num_heads == 1:
            return linear(read, self.weight_hh)
        heads = read.unflatten(-1, (self.num_heads, -1))  # (B, heads, width)
        blocks = self.weight_hh.unflatten(0, (4, self.num_heads, -1))  # (4, heads, width, width)
        return torch.einsum("bhi,ghoi->bgho", heads, blocks).flatten(1)  # (B, 4H)
