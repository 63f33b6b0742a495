"""How time is walked: the one place that decides.

A sequence can be walked in up to four ways; :func:`ways` lists those of a cell, :func:`choose` is the rule:

``fused``
    The framework's kernel (oneDNN, cuDNN). Exact for plain ``lstm``, ``gru`` and ``rnn`` only: no resets,
    no zoneout, no dropout on the state.
``handwritten``
    One autograd function (:mod:`~hybridgen.cells.handwritten`) with the cell's own forward and backward
    mathematics: input product hoisted out of the loop, gates saved, every weight gradient one product at the
    end. Serves lengths, resets, zoneout and state dropout.
``parallel``
    For recurrences that are linear in their state: all gates at once, then an elementwise recurrence
    (:mod:`~hybridgen.cells.recurrence`) or, for ``mlstm``, products over chunks.
``loop``
    Plain autograd operations (:mod:`~hybridgen.cells.loop`), one step after the other. Serves everything, slowest,
    and is what ``torch.compile``, ``torch.export`` and the transforms of ``torch.func`` see.

All can be differentiated twice. ``handwritten`` does it by re-running the loop when ``backward`` is called with
``create_graph=True``; the fused kernels of a GPU cannot, so a gradient penalty (WGAN-GP, R1) on a GPU is taken
inside :func:`double_backward`, where they are not chosen.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hybridgen.cells import fused, handwritten, recurrence
from hybridgen.cells.call import Call
from hybridgen.cells.loop import advance, loop
from hybridgen.cells.mathematics import defines_mathematics
from hybridgen.cells.noise import Noise
from hybridgen.cells.precision import in_state_type, plain_operations_only, without_autocast
from hybridgen.cells.state import select_last

if TYPE_CHECKING:
    from hybridgen.cells.base import Cell

_TWICE: ContextVar[bool] = ContextVar("differentiate_twice", default=False)


@contextlib.contextmanager
def double_backward() -> Iterator[None]:
    """Choose only ways whose gradient can itself be differentiated, on every device.

    Needed on a GPU, around the forward pass whose gradient will be penalised; harmless elsewhere.
    """
    token = _TWICE.set(True)
    try:
        yield
    finally:
        _TWICE.reset(token)


def ways(cell: "Cell") -> tuple[str, ...]:
    """The ways this cell can be walked, the slow reference last."""
    own = []
    if fused.offered(cell):
        own.append("fused")
    if handwritten.offered(cell):
        own.append("handwritten")
    if (cell.linear_in_time and defines_mathematics(cell, "coefficients")) or (
        hasattr(cell, "parallel") and defines_mathematics(cell, "parallel")
    ):
        own.append("parallel")
    return (*own, "loop")


def choose(call: Call) -> str:
    """The way a call is walked when none is asked for.

    In this order: the loop under ``torch.compile`` and ``torch.func``; ``parallel`` where the cell has it; ``fused``
    where it is exact for the call and the fastest on the device; ``handwritten``; the loop.
    """
    cell, available = call.cell, ways(call.cell)
    if plain_operations_only():
        return "loop"
    if "parallel" in available:
        return "parallel"
    on_gpu = call.inputs.device.type == "cuda"
    if "fused" in available and fused.refusal(call) is None:
        # On a CPU only the LSTM has a fused kernel (oneDNN, float32); torch's own GRU and RNN are loops that
        # the handwritten way beats.
        on_cpu = not on_gpu and fused.has_onednn_kernel(cell, call.inputs)
        if on_cpu or (on_gpu and not _TWICE.get()):
            return "fused"
    return "handwritten" if "handwritten" in available else "loop"


def walk(call: Call, way: str | None = None) -> tuple[Tensor, Any] | tuple[Tensor, Any, Any]:
    """Run a call; see :meth:`Cell.forward` for arguments and results."""
    cell = call.cell
    way = _checked_way(call, way)
    if call.inputs.shape[1] == 0:
        return _nothing(call)
    valid = call.valid
    if valid is not None:
        # What stands past a row's end may be anything, NaN included, and must reach neither sums nor gradients.
        inputs = call.inputs.masked_fill(~valid.unsqueeze(-1), 0.0)
        call = replace(call, inputs=inputs, resets=None if call.resets is None else call.resets & valid)
    if call.resets is not None:
        call = replace(call, fresh=cell.initial_state(call.inputs.shape[0], device=call.inputs.device))
    if way == "parallel" and hasattr(cell, "parallel"):
        run = cell.parallel
    else:
        run = {"fused": fused.run, "handwritten": handwritten.run, "parallel": _parallel, "loop": loop}[way]
    outputs, last, states = run(call)
    if valid is not None:
        outputs = outputs.masked_fill(~valid.unsqueeze(-1), 0.0)
        if states is not None:
            frozen = (torch.where(valid.unsqueeze(-1), s, e.unsqueeze(1)) for s, e in zip(states, last, strict=True))
            states = cell.State(*frozen)
    return (outputs, last, states) if call.return_states else (outputs, last)


def one_step(cell: "Cell", input: Tensor, state: Any, noise: Noise) -> tuple[Tensor, Any]:
    """One element ``(B, I)``; see :meth:`Cell.step`."""
    new = fused.step(cell, input, state) if noise.read is None and not noise.update else None
    if new is not None:
        return new.h, new
    projected = in_state_type(cell.project_step(input, state), state)
    return advance(cell, projected, state, noise)


def _parallel(call: Call) -> tuple[Tensor, Any, Any]:
    """Cells that are linear in time: gates for all steps at once, then the elementwise recurrence."""
    cell, noise = call.cell, call.noise
    projected = in_state_type(cell.project_sequence(call.inputs, call.state, call.resets), call.state)
    with without_autocast(call.inputs):
        gain, addition = cell.coefficients(projected)  # (B, T, H) each
        name = cell.State._fields[0]
        if noise.update and name in noise.update:
            # m * (a s + b) + (1 - m) * s is linear in s again.
            taken = noise.update[name]
            gain, addition = 1 - taken + taken * gain, taken * addition
        if call.resets is not None:
            resets = call.resets.unsqueeze(-1)
            addition = torch.where(resets, addition + gain * call.fresh[0].unsqueeze(1), addition)
            gain = gain.masked_fill(resets, 0.0)
        values = recurrence.linear_recurrence(gain, addition, call.state[0])  # (B, T, H)
        states = cell.states_of_sequence(projected, values)
        return cell.emit(projected, states), select_last(states, call.lengths, call.state), states


def _nothing(call: Call) -> tuple[Tensor, Any] | tuple[Tensor, Any, Any]:
    """A sequence of no elements: no outputs, the state as it was."""
    batch_size = call.inputs.shape[0]
    outputs = call.inputs.new_zeros(batch_size, 0, call.cell.output_size)
    states = call.cell.State(*(s.new_zeros(batch_size, 0, s.shape[1]) for s in call.state))
    return (outputs, call.state, states) if call.return_states else (outputs, call.state)


def _checked_way(call: Call, way: str | None) -> str:
    if way is None:
        return choose(call)
    available = ways(call.cell)
    if way not in available:
        raise ValueError(f"{type(call.cell).__name__} cannot be walked by {way!r}; it has {', '.join(available)}")
    if way == "fused" and (reason := fused.refusal(call)):
        raise ValueError(f"the fused kernel does not serve this call: {reason}; use 'handwritten' or 'loop'")
    return way
