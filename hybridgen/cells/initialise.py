"""How the weights of a cell start."""

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from hybridgen.cells.base import Cell

SCHEMES = ("orthogonal", "uniform")


def initialise_(cell: "Cell", scheme: str, *, gates: int) -> None:
    """Draw the parameters of a cell anew.

    Args:
        cell: its matrices are stacked blocks, one per gate, along the first dimension.
        scheme: ``"orthogonal"``: each gate's recurrent block orthogonal (Saxe et al. 2014, arXiv:1312.6120), its
            input block uniform by Glorot & Bengio 2010, biases zero; ``"uniform"``: everything uniform in
            +-1/sqrt(hidden_size), as ``torch.nn.LSTM`` starts.
        gates: number of blocks.

    Raises:
        ValueError: if the scheme is unknown.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"initialisation is {scheme!r}: choose one of {', '.join(SCHEMES)}")
    bound = 1 / math.sqrt(cell.hidden_size)
    with torch.no_grad():
        for name, parameter in cell.named_parameters(recurse=False):
            if scheme == "uniform":
                parameter.uniform_(-bound, bound)
            elif parameter.dim() < 2:
                parameter.zero_()
            else:
                blocks = gates if parameter.shape[0] == gates * cell.hidden_size else 1
                draw = nn.init.orthogonal_ if name in cell.recurrent_weights else nn.init.xavier_uniform_
                for block in parameter.chunk(blocks):
                    draw(block)


def set_forget_bias_(cell: "Cell", gate: int) -> None:
    """Set the bias of one gate to the cell's ``forget_bias`` (there is one bias vector, so it counts once)."""
    if cell.bias is not None:
        with torch.no_grad():
            cell.bias[gate * cell.hidden_size : (gate + 1) * cell.hidden_size] = cell.forget_bias
