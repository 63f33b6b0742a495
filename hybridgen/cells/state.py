"""What can be done with a state, of a cell or of a stack: both are NamedTuples of ``(B, width)`` tensors."""

import functools
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

S = TypeVar("S", bound=tuple)


def apply(function: Callable[[Tensor], Tensor], state: S) -> S:
    """The state with a function applied to every component ``(B, width)``."""
    return type(state)(*(function(component) for component in state))


def detach(state: S) -> S:
    """The state cut off from its history, as truncated backpropagation needs it."""
    return apply(Tensor.detach, state)


def select(state: S, rows: Tensor) -> S:
    """Some rows of a state, in any order and any number of times (beam search, branching).

    Args:
        state: components ``(B, width)``.
        rows: ``(N,)`` whole numbers in 0..B-1.

    Returns:
        Components ``(N, width)``.
    """
    return apply(lambda component: component.index_select(0, rows), state)


def where(mask: Tensor, state: S, other: S) -> S:
    """Row by row, ``state`` where ``mask (B,)`` is true and ``other`` where it is false."""
    column = mask.unsqueeze(-1)
    return type(state)(*(torch.where(column, a, b) for a, b in zip(state, other, strict=True)))


def select_last(states: S, lengths: Tensor | None, initial: S) -> S:
    """The state at each row's end.

    Args:
        states: all states, components ``(B, T, width)``.
        lengths: ``(B,)`` whole numbers in 0..T; None where all rows have T elements, at least one.
        initial: ``(B, width)``, the state of rows that are empty.

    Returns:
        Components ``(B, width)``.
    """
    if lengths is None:
        return apply(lambda component: component[:, -1], states)
    rows, ends = torch.arange(lengths.shape[0], device=lengths.device), (lengths - 1).clamp(min=0)
    return where(lengths == 0, initial, apply(lambda component: component[rows, ends], states))


def to_dict(state: tuple) -> dict[str, Tensor]:
    """The components ``(B, width)`` by name: plain enough for a checkpoint that is read with ``weights_only=True``."""
    return {name: component.detach().clone() for name, component in state._asdict().items()}


def from_dict(cell: Any, components: Mapping[str, Tensor]) -> Any:
    """The state of a cell or stack from what :func:`to_dict` made.

    Raises:
        ValueError: if the names are not those of the cell's state.
    """
    expected = cell.State._fields
    if set(components) != set(expected):
        raise ValueError(
            f"these are not the components of this state: got {sorted(components)}, expected {sorted(expected)}"
        )
    return cell.State(**components)


@functools.cache
def state_class(fields: tuple[str, ...]) -> type[tuple]:
    """A NamedTuple class of the given fields; the same class for the same fields."""
    base = namedtuple("StackState", fields)
    # Without this, pickle would look for the class by a module's attribute.
    return type("StackState", (base,), {"__slots__": (), "__reduce__": lambda s: (_rebuild, (fields, tuple(s)))})


def _rebuild(fields: tuple[str, ...], components: tuple[Tensor, ...]) -> tuple:
    return state_class(fields)(*components)
