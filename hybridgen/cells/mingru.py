"""The GRU reduced to what can be computed for all steps at once.

    z    = sigmoid(W_z x[t] + b_z),   n = W_n x[t] + b_n
    h[t] = (1 - z) * h[t-1] + z * n

Feng et al. 2024, arXiv:2410.01201.
"""

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell
from hybridgen.cells.matmul import linear


class MinGRU(Cell):
    """The minimal GRU; gate order (z, n).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        bias: learn a bias for gate and candidate.
    """

    linear_in_time = True
    variants = ({}, {"bias": False})

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_ih = nn.Parameter(torch.empty(2 * hidden_size, input_size))
        self.bias = nn.Parameter(torch.empty(2 * hidden_size)) if bias else None
        self.reset_parameters()

    def project(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight_ih, self.bias)

    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        z, n = projected.chunk(2, -1)
        z = torch.sigmoid(z)
        return 1 - z, z * n
