"""LSTM whose input and previous output gate each other a few times before they meet.

    x^1 = 2 sigmoid(Q_1 h) * x,   h^2 = 2 sigmoid(R_2 x^1) * h,   x^3 = 2 sigmoid(Q_3 h^2) * x^1,   ...
    then an LSTM step on the last x and h

Melis et al. 2020, arXiv:1909.01792. With ``rank`` each Q and R is a product of two thin matrices.
"""

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell, HiddenAndCell
from hybridgen.cells.initialise import initialise_, set_forget_bias_
from hybridgen.cells.matmul import linear


class MogrifierLSTM(Cell):
    """Mogrifier LSTM; gate order (i, f, g, o).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        rounds: how often input and output gate each other; 0 is a plain LSTM, 5 the paper's best.
        rank: inner width of the gating matrices; full matrices when omitted.
        bias: learn a bias for every LSTM gate.
        forget_bias: what the forget gate's bias starts at.

    Raises:
        ValueError: if ``rounds`` is below 0, or ``rank`` wider than input or state.
    """

    State = HiddenAndCell
    recurrent_weights = ("weight_hh",)
    memory_component = "c"
    variants = ({}, {"rounds": 2, "rank": 2, "bias": False}, {"rounds": 0})

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        rounds: int = 5,
        rank: int | None = None,
        bias: bool = True,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if rounds < 0:
            raise ValueError(f"rounds is {rounds}: give 0 or more")
        if rank is not None and not 1 <= rank <= min(input_size, hidden_size):
            raise ValueError(
                f"rank is {rank}: it must lie in 1..{min(input_size, hidden_size)}, the narrower of input and state"
            )
        self.rounds = rounds
        self.rank = rank
        self.forget_bias = forget_bias
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size)) if bias else None
        # Round k = 0, 2, 4... makes a gate of x from h, the others a gate of h from x; each a chain of matrices.
        self.mogrifiers = nn.ModuleList()
        for k in range(rounds):
            wide, narrow = (input_size, hidden_size) if k % 2 == 0 else (hidden_size, input_size)
            shapes = [(wide, narrow)] if rank is None else [(rank, narrow), (wide, rank)]
            self.mogrifiers.append(nn.ParameterList(nn.Parameter(torch.empty(*shape)) for shape in shapes))
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; gating matrices are uniform by Glorot & Bengio 2010."""
        initialise_(self, scheme)
        set_forget_bias_(self, 1)
        for chain in self.mogrifiers:
            for matrix in chain:
                nn.init.xavier_uniform_(matrix)

    def project(self, inputs: Tensor) -> Tensor:
        # Nothing can be done ahead of time: the input is gated by the state first.
        return inputs

    def advance(self, projected: Tensor, state: HiddenAndCell, read: Tensor) -> HiddenAndCell:
        x, h = projected, read
        for k, chain in enumerate(self.mogrifiers):
            gate = h if k % 2 == 0 else x
            for matrix in chain:
                gate = linear(gate, matrix)
            if k % 2 == 0:
                x = 2 * torch.sigmoid(gate) * x
            else:
                h = 2 * torch.sigmoid(gate) * h
        i, f, g, o = (linear(x, self.weight_ih, self.bias) + linear(h, self.weight_hh)).chunk(4, -1)
        c = torch.sigmoid(f) * state.c + torch.sigmoid(i) * torch.tanh(g)
        return HiddenAndCell(torch.sigmoid(o) * torch.tanh(c), c)
