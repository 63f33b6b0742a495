"""How the weights of a cell start."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from hybridgen.cells.base import Cell

SCHEMES = ("orthogonal", "uniform")


def initialise_(cell: "Cell", scheme: str | float) -> None:
    """Draw the parameters of a cell anew.

    Args:
        cell: its matrices are blocks of ``hidden_size`` rows, one per gate, one below the other.
        scheme: ``"orthogonal"``: each gate's recurrent block orthogonal (Saxe et al. 2014, arXiv:1312.6120), its
            input block uniform by Glorot & Bengio 2010, biases zero; ``"uniform"``: everything uniform in
            +-1/sqrt(hidden_size), the distribution of ``torch.nn.LSTM`` (which has two biases, and no forget bias);
            a number: everything uniform in plus or minus it, as Zaremba et al. 2014, arXiv:1409.2329, do. Cells with a
            forget bias set it afterwards, whatever the scheme.

    Raises:
        ValueError: if the scheme is unknown, or the number not above 0.
    """
    bound = scheme
    if isinstance(scheme, str | bool):
        if scheme not in SCHEMES:
            raise ValueError(f"initialisation is {scheme!r}: choose one of {', '.join(SCHEMES)}, or give a number")
        bound = 1 / math.sqrt(cell.hidden_size)
    elif not scheme > 0:
        raise ValueError(f"initialisation is {scheme}: give a number above 0, the range of the weights")
    with torch.no_grad():
        for name, parameter in cell.named_parameters(recurse=False):
            if scheme != "orthogonal":
                parameter.uniform_(-bound, bound)
            elif parameter.dim() < 2:
                parameter.zero_()
            else:
                rows = parameter.shape[0]
                blocks = rows // cell.hidden_size if rows % cell.hidden_size == 0 else 1
                draw = orthogonal_ if name in cell.recurrent_weights else nn.init.xavier_uniform_
                for block in parameter.chunk(blocks):
                    draw(block)


def orthogonal_(matrix: Tensor) -> None:
    """Make a matrix ``(rows, columns)`` orthogonal, in place.

    It is decomposed in float32 or float64, for which alone there is a decomposition.
    """
    drawn = torch.empty(matrix.shape, dtype=torch.promote_types(matrix.dtype, torch.float32), device=matrix.device)
    matrix.copy_(nn.init.orthogonal_(drawn))


def set_forget_bias_(cell: "Cell", gate: int) -> None:
    """Set the bias of one gate to the cell's ``forget_bias`` (there is one bias vector, so it counts once)."""
    if cell.bias is not None:
        with torch.no_grad():
            cell.bias[gate * cell.hidden_size : (gate + 1) * cell.hidden_size] = cell.forget_bias
