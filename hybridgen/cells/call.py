"""One sequence call of a cell: what every way through time is given."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hybridgen.cells.noise import Noise

if TYPE_CHECKING:
    from hybridgen.cells.base import Cell


@dataclass(frozen=True)
class Call:
    """One sequence call of a cell, its arguments checked. See :meth:`Cell.forward`."""

    cell: "Cell"
    inputs: Tensor  # (B, T, I)
    state: Any  # NamedTuple of (B, width)
    lengths: Tensor | None  # (B,)
    resets: Tensor | None  # (B, T) bool
    noise: Noise
    return_states: bool
    fresh: Any = None  # the state that resets start from; made where there are resets

    @property
    def valid(self) -> Tensor | None:
        """``(B, T)`` bool, true inside each row's length."""
        if self.lengths is None:
            return None
        return torch.arange(self.inputs.shape[1], device=self.inputs.device) < self.lengths[:, None]
