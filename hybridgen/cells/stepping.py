"""Many steps of a stack with the weights as they are: what generation runs.

:meth:`Stack.step` looks its weights up and checks its arguments at every call, which at one sequence costs more than
the mathematics. Here both are done once, and a cell may lay its weights out for products of few rows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hybridgen.cells import through_time
from hybridgen.cells.base import Cell
from hybridgen.cells.mathematics import defines_mathematics
from hybridgen.cells.noise import Noise
from hybridgen.cells.precision import autocasts
from hybridgen.cells.stack import Stack

#: Vocabularies up to this size have what the first layer makes of every token worked out beforehand.
LARGEST_TABLE = 1024

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


@torch.no_grad()
def prepare_steps(stack: Stack, embedding: Tensor | None = None) -> Step:
    """A function that advances by one element, equal to :meth:`Stack.step` to rounding.

    It has no gradient, does not see later changes of the weights, and does not check what it is given.

    Args:
        stack: in evaluation mode, where nothing is random.
        embedding: ``(V, I)``. With it the function takes token ids.

    Returns:
        ``(input (B, I), state) -> (output (B, H), state)``, or ``(tokens (B,), state) -> ...`` with an embedding. The
        state is one of ``stack.initial_state(B)``.

    Raises:
        ValueError: if the stack is in training mode or bidirectional.
    """
    if stack.training:
        raise ValueError("the stack is in training mode, where steps are random: call eval() on it first")
    if stack.bidirectional:
        raise ValueError("a bidirectional stack reads the future of a sequence: it has no step")
    noises = stack.draw_masks(1, 1).at(0).noises
    table = None
    if embedding is not None and len(embedding) <= LARGEST_TABLE and not stack.residual:
        table = stack.norms[0](embedding)
    layers = []
    start = 0
    for number, (cell, noise) in enumerate(zip(stack.cells, noises, strict=True)):
        run, takes_tokens = _prepare_cell(cell, noise, None if number else table)
        norm = stack.norms[number] if stack.has_layer_norm and not takes_tokens else None
        stop = start + len(cell.State._fields)
        layers.append((run, norm, takes_tokens, slice(start, stop)))
        start = stop
    output_norm = stack.output_norm if stack.has_layer_norm else None
    reads_tokens = embedding is not None and not layers[0][2]
    state_of, residual = stack.State, stack.residual

    def step(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        with torch.no_grad():
            if reads_tokens:
                x = embedding.index_select(0, x)
            components: list[Tensor] = []
            for run, norm, takes_tokens, own in layers:
                before = x
                x, new = run(x if norm is None else norm(x), state[own])
                if residual and not takes_tokens and before.shape[-1] == x.shape[-1]:
                    x = x + before
                components += new
            return (x if output_norm is None else output_norm(x)), state_of._make(components)

    return step


def _prepare_cell(cell: Cell, noise: Noise, table: Tensor | None) -> tuple[Step, bool]:
    """A step of one cell on the components of its state, and whether it takes the tokens of ``table`` as they are."""
    prepare = getattr(cell, "prepare_step", None)
    weight = next(cell.parameters())
    plain = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64) and not autocasts("cpu")
    if prepare is not None and plain and not noise.update and defines_mathematics(cell, "prepare_step"):
        run = prepare(table)
        if run is not None:
            return run, table is not None

    def run(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return through_time.one_step(cell, x, cell.State._make(state), noise)

    return run, False
