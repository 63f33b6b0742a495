"""Rows of a recurrent state: select, reorder, repeat and merge them, whatever the state is made of.

A state is any nesting of NamedTuples, tuples, lists and dicts whose leaves are tensors with the batch
first, or None. Everything that belongs to a row (a latent, a condition, an attention memory) must be in the
state, for rows are dropped, reordered and repeated while decoding.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


def select_rows(state: Any, rows: Tensor) -> Any:
    """The state of the given rows, in the given order; a row may occur several times.

    Args:
        state: leaves ``(B, ...)``.
        rows: ``(N,)`` row numbers.

    Returns:
        The same structure, leaves ``(N, ...)``.
    """
    return map_state(lambda leaf: leaf.index_select(0, rows), state)


def merge_rows(take_first: Tensor, first: Any, second: Any) -> Any:
    """Row by row, the state ``first`` where ``take_first`` and ``second`` elsewhere.

    Args:
        take_first: ``(B,)`` bool.
        first: leaves ``(B, ...)``.
        second: the same structure and shapes.
    """

    def merge(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(take_first.view(-1, *[1] * (new.dim() - 1)), new, old)

    return map_state(merge, first, second)


def map_state(function: Callable[..., Tensor], state: Any, *others: Any) -> Any:
    """Apply a function to each tensor ``(B, ...)`` of a state, or to corresponding tensors of several.

    Raises:
        TypeError: if a leaf is neither a tensor nor None.
    """
    if state is None:
        return None
    if isinstance(state, Tensor):
        return function(state, *others)
    if isinstance(state, dict):
        return {key: map_state(function, state[key], *(other[key] for other in others)) for key in state}
    if isinstance(state, (tuple, list)):
        children = [map_state(function, *group) for group in zip(state, *others, strict=True)]
        return type(state)(*children) if hasattr(state, "_fields") else type(state)(children)
    found = type(state).__name__
    raise TypeError(f"A state must be made of tensors with the batch first, but holds a {found}.")


def state_tensors(state: Any) -> Iterator[Tensor]:
    """Every tensor ``(B, ...)`` of a state, in the order of its structure."""
    leaves: list[Tensor] = []
    map_state(lambda leaf: leaves.append(leaf) or leaf, state)
    yield from leaves


def check_rows(state: Any, batch_size: int) -> None:
    """Check that every tensor of the state has ``batch_size`` rows.

    Raises:
        ValueError: if one has not.
    """
    for leaf in state_tensors(state):
        if leaf.dim() == 0 or leaf.shape[0] != batch_size:
            raise ValueError(
                f"The state holds a tensor of shape {tuple(leaf.shape)}, but there are {batch_size} prompts: "
                f"every tensor of the state must have the batch as its first dimension."
            )
