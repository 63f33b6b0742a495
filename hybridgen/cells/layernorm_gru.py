"""GRU with layer normalisation of both products.

    r, z = sigmoid(LN(W x[t]) + LN(U h[t-1]) + b)
    n    = tanh(LN(W_n x[t]) + b_n + r * LN(U_n h[t-1]))
    h[t] = (1 - z) * n + z * h[t-1]

LN normalises the two gates together and the candidate by itself, as in Ba et al. 2016, arXiv:1607.06450, whose
supplement gives this form.
"""

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell, Hidden
from hybridgen.cells.initialise import initialise_
from hybridgen.cells.layernorm_lstm import layer_norm
from hybridgen.cells.matmul import linear


class LayerNormGRU(Cell):
    """GRU with layer normalisation; gate order (r, z, n).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        bias: learn a bias for every gate.
    """

    recurrent_weights = ("weight_hh",)
    variants = ({}, {"bias": False})

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.gain_ih = nn.Parameter(torch.empty(3 * hidden_size))
        self.gain_hh = nn.Parameter(torch.empty(3 * hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; gains start at one."""
        initialise_(self, scheme)
        nn.init.ones_(self.gain_ih)
        nn.init.ones_(self.gain_hh)

    def project(self, inputs: Tensor) -> Tensor:
        projected = self._normed(linear(inputs, self.weight_ih), self.gain_ih)
        return projected if self.bias is None else projected + self.bias

    def advance(self, projected: Tensor, state: Hidden, read: Tensor) -> Hidden:
        of_gates, of_n = projected.split([2 * self.hidden_size, self.hidden_size], -1)
        recurrent = self._normed(linear(read, self.weight_hh), self.gain_hh)
        gates_of_h, n_of_h = recurrent.split([2 * self.hidden_size, self.hidden_size], -1)
        r, z = torch.sigmoid(of_gates + gates_of_h).chunk(2, -1)
        return Hidden(torch.lerp(torch.tanh(of_n + r * n_of_h), state.h, z))

    def _normed(self, value: Tensor, gain: Tensor) -> Tensor:
        sizes = [2 * self.hidden_size, self.hidden_size]
        parts = zip(value.split(sizes, -1), gain.split(sizes), strict=True)
        return torch.cat([layer_norm(part, its_gain) for part, its_gain in parts], -1)
