"""The plain loop: one step after the other in autograd operations, the reference all other ways are tested against."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from hybridgen.cells import matmul
from hybridgen.cells.call import Call
from hybridgen.cells.noise import Noise
from hybridgen.cells.precision import in_state_type, plain_operations_only, without_autocast

if TYPE_CHECKING:
    from hybridgen.cells.base import Cell


def advance(cell: "Cell", projected: Any, state: Any, noise: Noise) -> tuple[Tensor, Any]:
    """One step of a cell and of what regularisation adds to it.

    Args:
        cell: the cell.
        projected: what :meth:`Cell.project` gives for one element.
        state: NamedTuple of ``(B, width)``.
        noise: masks of this step.

    Returns:
        The output ``(B, H)`` and the new state.
    """
    with without_autocast(state[0]):
        read = state[0] if noise.read is None else state[0] * noise.read
        new = _blend(cell.advance(projected, state, read), state, noise)
        return cell.emit(projected, new), new


def _blend(new: Any, old: Any, noise: Noise) -> Any:
    """Zoneout: take only part of the new state."""
    if not noise.update:
        return new
    return new._replace(**{n: torch.lerp(getattr(old, n), getattr(new, n), m) for n, m in noise.update.items()})


def loop(call: Call) -> tuple[Tensor, Any, Any]:
    """The reference: one step after the other in plain autograd operations.

    Returns:
        Outputs ``(B, T, H)``, the last state, and every state ``(B, T, width)`` where the call asks for them, or None.
    """
    if plain_operations_only():
        return _loop(call)
    with matmul.weight_gradients_at_the_end():
        return _loop(call)


def _loop(call: Call) -> tuple[Tensor, Any, Any]:
    cell, state, noise = call.cell, call.state, call.noise
    time = call.inputs.shape[1]
    # unbind, never inputs[:, t]: under autograd each such slice's backward allocates the whole tensor again.
    if cell.reads_previous_inputs:
        elements: list[Any] = list(call.inputs.unbind(1))
    else:
        projected = in_state_type(cell.project(call.inputs), state)
        leaves, spec = pytree.tree_flatten(projected)
        columns = zip(*(leaf.unbind(1) for leaf in leaves), strict=True)
        elements = [pytree.tree_unflatten(list(column), spec) for column in columns]
    resets = None if call.resets is None else call.resets.unsqueeze(-1).unbind(1)
    valid = None if call.lengths is None else call.valid.unsqueeze(-1).unbind(1)
    outputs, states = [], []
    for t in range(time):
        if resets is not None:
            state = cell.State(*(torch.where(resets[t], f, s) for f, s in zip(call.fresh, state, strict=True)))
        element = elements[t]
        if cell.reads_previous_inputs:
            element = in_state_type(cell.project_step(element, state), state)
        output, new = advance(cell, element, state, noise.at(t))
        outputs.append(output)
        if valid is not None:
            new = cell.State(*(torch.where(valid[t], n, s) for n, s in zip(new, state, strict=True)))
        state = new
        if call.return_states:
            states.append(state)
    everything = cell.State(*(torch.stack(s, 1) for s in zip(*states, strict=True))) if call.return_states else None
    return torch.stack(outputs, 1), state, everything


def with_weights(cell: "Cell", weights: dict[str, Tensor]) -> "Cell":
    """The same cell with other tensors in the place of some parameters; the cell itself is not touched.

    ``torch.func.functional_call`` would put them into the module for the time of the call, which other threads see and
    which writes through a parametrisation (spectral norm, weight norm) into the parameter behind it.

    Args:
        cell: a cell.
        weights: by name, each of the shape of the parameter that it stands for.
    """
    kind = parametrize.type_before_parametrizations(cell)
    others = getattr(cell, "parametrizations", {})
    parameters = {**cell._parameters, **{name: getattr(cell, name) for name in others}, **weights}
    shadow = kind.__new__(kind)
    shadow.__dict__.update(cell.__dict__, _parameters=parameters)
    return shadow
