"""Small things the tests of the cells share."""

from typing import Any

import torch
from torch import Tensor

from hybridgen import cells
from hybridgen.cells import Cell

BATCH, TIME, INPUT, HIDDEN = 4, 7, 5, 6
LENGTHS = (TIME, 0, 4, 1)

# Every cell of the registry with every set of options it declares: a new cell is tested with no new test code.
VARIANTS = [(name, options) for name in cells.names() for options in cells.cell_class(name).variants]
IDS = [f"{name}-{options}" if options else name for name, options in VARIANTS]


def make_cell(name: str, options: dict[str, Any], dtype: torch.dtype = torch.float64) -> Cell:
    """A cell whose parameters are all away from their special starting values (zeros, ones)."""
    cell = cells.make(name, INPUT, HIDDEN, **options).to(dtype)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return cell


def make_state(cell: Cell) -> Any:
    """A state that a real sequence left, with gradients."""
    dtype = next(cell.parameters()).dtype
    with torch.no_grad():
        _, state = cell(torch.randn(BATCH, 3, cell.input_size, dtype=dtype), way="loop")
    return cell.State(*(s.detach().clone().requires_grad_() for s in state))


def make_inputs(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(BATCH, TIME, INPUT, dtype=dtype, requires_grad=True)


def make_resets() -> Tensor:
    """Resets at the first, the last and some inner elements; one row without any."""
    resets = torch.rand(BATCH, TIME) < 0.3
    resets[0, 0] = resets[2, -1] = resets[0, 3] = True
    resets[3] = False
    return resets


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-10) -> None:
    """Nested tensors are equal within an absolute and relative tolerance."""
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance, equal_nan=False)


def gradients(cell: torch.nn.Module, results: Any, *roots: Tensor) -> list[Tensor]:
    """Gradients of a number that every result enters differently, for the roots and the parameters."""
    tensors = [r for r in torch.utils._pytree.tree_leaves(results) if isinstance(r, Tensor) and r.requires_grad]
    loss = sum((t * torch.linspace(0.5, 1.5, t.numel(), dtype=t.dtype).view_as(t)).sum() for t in tensors)
    wanted = [*roots, *cell.parameters()]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]
