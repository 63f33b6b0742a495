"""The hand-written way: one autograd function that walks any cell whose mathematics is a :class:`Kernel`.

A plain loop under autograd records a dozen small operations a step and adds a weight gradient of full size at
each. Here the loop runs outside autograd: the input product is done once for the whole sequence, gates are
written over it in place, what the gradient needs and does not depend on it is computed for all steps at once,
and each weight gradient is one product at the end.

Everything that happens BETWEEN the steps (resets, zoneout, dropout on the state, row ends) is done here, once
for all cells; a kernel knows one step forward and one step backward. Layout inside is time-major, ``(T, B, F)``.

The function is differentiable twice by rule: when ``backward`` runs under ``create_graph=True`` it repeats the
forward pass by the plain loop and differentiates that.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hybridgen.cells.call import Call
from hybridgen.cells.loop import loop, with_weights
from hybridgen.cells.mathematics import defines_mathematics
from hybridgen.cells.noise import Noise
from hybridgen.cells.precision import without_autocast

if TYPE_CHECKING:
    from hybridgen.cells.base import Cell

# One step forward: (t, read (B, H), previous state, buffers for the new state) -> None, writes the buffers.
ForwardStep = Callable[[int, Tensor, tuple[Tensor, ...], tuple[Tensor, ...]], None]
# One step backward: (t, gradient of the new state, mine to overwrite)
#   -> (gradient of `read`, gradient of the previous state beside that; None for a component that has none).
BackwardStep = Callable[[int, list[Tensor]], tuple[Tensor, list[Tensor | None]]]


class Kernel(NamedTuple):
    """The mathematics of one cell, forward and backward.

    Attributes:
        weights: names of the parameters it takes, in order (a parameter may be None).
        forward: ``(inputs (T, B, I), *weights) -> (step, saved)`` where ``saved`` are tensors that the steps
            fill and the gradient needs.
        backward: ``(saved, inputs, previous, reads, *weights) -> (step, finish)``; ``previous`` is the state
            before every step, ``(T, B, H)`` each, ``reads (T, B, H)`` the outputs as the recurrent weights read
            them; ``finish()`` returns the gradients of the inputs and of each weight.
    """

    weights: tuple[str, ...]
    forward: Callable[..., tuple[ForwardStep, tuple[Tensor, ...]]]
    backward: Callable[..., tuple[BackwardStep, Callable[[], tuple[Tensor, ...]]]]


def offered(cell: "Cell") -> bool:
    """Whether the cell has a kernel (some options of a cell may not)."""
    return getattr(cell, "kernel", None) is not None and defines_mathematics(cell, "kernel")


def run(call: Call) -> tuple[Tensor, Any, Any]:
    """Walk a call; the contract of :func:`through_time.walk`'s ways."""
    cell = call.cell
    # Copies: the gradient reads them again, and callers reuse such buffers for the next batch.
    lengths = None if call.lengths is None else call.lengths.clone()
    call = replace(call, lengths=lengths, resets=None if call.resets is None else call.resets.clone())
    weights = (getattr(cell, name) for name in cell.kernel.weights)
    fresh = () if call.fresh is None else call.fresh
    # Under autocast the recurrence still accumulates in the type of its state.
    dtype = call.state[0].dtype
    tensors = [None if t is None else t.to(dtype) for t in (call.inputs, *call.state, *fresh, *weights)]
    with without_autocast(call.inputs):
        results = _Walk.apply(call, tensors[0].transpose(0, 1), *tensors[1:])
    count = len(call.state)
    outputs = results[0].transpose(0, 1)
    last = cell.State(*results[1 : 1 + count])
    states = None
    if call.return_states:
        states = cell.State(outputs, *(s.transpose(0, 1) for s in results[1 + count :]))
    return outputs, last, states


class _Between:
    """What happens between two steps, the same forward and backward."""

    def __init__(self, call: Call, noise: Noise, time: int) -> None:
        self.read_mask = noise.read
        update = noise.update or {}
        self.taken: list[Sequence | None] = []  # for each component, the zoneout masks (B, H) over time
        for name in call.cell.State._fields:
            mask = update.get(name)
            if mask is not None:
                mask = mask.unbind(1) if isinstance(mask, Tensor) else [mask] * time
            self.taken.append(mask)
        self.resets = None if call.resets is None else call.resets.t().unsqueeze(-1)  # (T, B, 1)
        # Most steps reset no row: knowing which do keeps the others free of extra work.
        self.has_reset = [] if call.resets is None else call.resets.any(0).tolist()
        # Rows that end after step t, for each t at which some do; length 0 is the key -1.
        self.ending: dict[int, Tensor] | None = None
        if call.lengths is not None:
            self.ending = {n - 1: (call.lengths == n).nonzero().squeeze(1) for n in set(call.lengths.tolist())}


class _Arguments(NamedTuple):
    """The differentiable arguments of :class:`_Walk` by their roles."""

    inputs: Tensor  # (T, B, I)
    state: tuple[Tensor, ...]
    fresh: tuple[Tensor, ...]  # the state at resets; empty without resets
    weights: tuple[Tensor | None, ...]

    @classmethod
    def of(cls, call: Call, inputs: Tensor, *tensors: Tensor | None) -> "_Arguments":
        count = len(call.cell.State._fields)
        split = count if call.resets is None else 2 * count
        return cls(inputs, tensors[:count], tensors[count:split], tensors[split:])


class _Walk(torch.autograd.Function):
    """Arguments: the call, inputs ``(T, B, I)``, then the initial state, the state at resets, the weights."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        inputs, state, fresh, weights = _Arguments.of(call, *tensors)
        time, batch_size = inputs.shape[:2]
        between = _Between(call, call.noise, time)
        step, saved = call.cell.kernel.forward(inputs, *weights)

        sequences = [torch.empty(time, batch_size, s.shape[1], dtype=s.dtype, device=s.device) for s in state]
        buffers = list(zip(*(s.unbind(0) for s in sequences), strict=True))
        previous = tuple(state)
        for t in range(time):
            if between.resets is not None and between.has_reset[t]:
                now = between.resets[t]
                previous = tuple(torch.where(now, f, p) for f, p in zip(fresh, previous, strict=True))
            read = previous[0] if between.read_mask is None else previous[0] * between.read_mask
            new = buffers[t]
            step(t, read, previous, new)
            for k, taken in enumerate(between.taken):
                if taken is not None:
                    torch.lerp(previous[k], new[k], taken[t], out=new[k])
            previous = new

        # Whatever is large goes through save_for_backward, which lets it go as soon as it has been used; an
        # attribute of ctx would live as long as the loss does.
        masks, ctx.noise = _without_masks(call.noise)
        ctx.call = replace(call, inputs=None, state=None, fresh=None, noise=Noise())
        ctx.numbers = (len(sequences), len(saved), len(masks))
        ctx.save_for_backward(*sequences, *saved, *masks, *tensors)
        ctx.set_materialize_grads(False)
        last = tuple(_last(s, i, between.ending) for s, i in zip(sequences, state, strict=True))
        return (sequences[0], *last, *(sequences[1:] if call.return_states else ()))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        held, parts = list(ctx.saved_tensors), []
        for number in ctx.numbers:
            parts.append(held[:number])
            held = held[number:]
        sequences, saved, masks = parts
        noise = _with_masks(ctx.noise, masks)
        if torch.is_grad_enabled():
            return (None, *_again_by_loop(ctx.call, noise, held, grads))
        return (
            None,
            *_backward(ctx.call, noise, sequences, tuple(saved), _Arguments.of(ctx.call, *held), grads),
        )


def _without_masks(noise: Noise) -> tuple[list[Tensor], Noise]:
    """The masks of a noise, and the noise with a placeholder for each."""
    masks = [m for m in (noise.read, *(noise.update or {}).values()) if isinstance(m, Tensor)]
    update = {n: None if isinstance(m, Tensor) else m for n, m in (noise.update or {}).items()}
    return masks, Noise(noise.read is not None or None, update)


def _with_masks(noise: Noise, masks: list[Tensor]) -> Noise:
    """Undo :func:`_without_masks`."""
    rest = iter(masks)
    read = next(rest) if noise.read else None
    return Noise(read, {n: next(rest) if m is None else m for n, m in noise.update.items()})


def _last(sequence: Tensor, initial: Tensor, ending: dict[int, Tensor] | None) -> Tensor:
    """The last value of each row, ``(B, H)``; a copy, since the sequence is an output of its own."""
    if ending is None:
        return sequence[-1].clone()
    last = torch.empty_like(initial, memory_format=torch.contiguous_format)
    for t, rows in ending.items():
        last[rows] = initial[rows] if t < 0 else sequence[t, rows]
    return last


def _backward(
    call: Call,
    noise: Noise,
    sequences: list[Tensor],
    saved: tuple[Tensor, ...],
    arguments: _Arguments,
    grads: tuple[Tensor | None, ...],
) -> tuple[Tensor | None, ...]:
    inputs, state, fresh, weights = arguments
    time, count = inputs.shape[0], len(state)
    between = _Between(call, noise, time)
    resets, mask, ending = between.resets, between.read_mask, between.ending
    grad_last = grads[1 : 1 + count]
    grad_sequences = [grads[0], *(grads[1 + count :] if call.return_states else [None] * (count - 1))]

    previous = tuple(torch.cat([i.unsqueeze(0), s[:-1]]) for s, i in zip(sequences, state, strict=True))
    if resets is not None:
        previous = tuple(torch.where(resets, f, p) for f, p in zip(fresh, previous, strict=True))
    reads = previous[0] if mask is None else previous[0] * mask
    step, finish = call.cell.kernel.backward(saved, inputs, previous, reads, *weights)

    per_step = [None if g is None else g.unbind(0) for g in grad_sequences]
    current = [torch.zeros_like(s, memory_format=torch.contiguous_format) for s in state]
    grad_fresh = [torch.zeros_like(f, memory_format=torch.contiguous_format) for f in fresh]
    if ending is None:
        _add(current, grad_last)
    for t in range(time - 1, -1, -1):
        _add(current, [None if g is None else g[t] for g in per_step])
        if ending is not None and t in ending:
            _add(current, grad_last, ending[t])
        kept = [None] * count
        for k, taken in enumerate(between.taken):
            if taken is not None:
                new = current[k] * taken[t]
                kept[k] = current[k].sub_(new)
                current[k] = new
        grad_read, current = step(t, current)
        if mask is not None:
            grad_read.mul_(mask)
        current = [grad_read if current[0] is None else current[0].add_(grad_read), *current[1:]]
        _add(current, kept)
        if resets is not None and between.has_reset[t]:
            for g, whole in zip(grad_fresh, current, strict=True):
                g.add_(whole * resets[t])
                whole.masked_fill_(resets[t], 0.0)
    if ending is not None and -1 in ending:
        _add(current, grad_last, ending[-1])
    grad_inputs, *grad_weights = finish()
    return (grad_inputs, *current, *grad_fresh, *grad_weights)


def _add(to: list[Tensor], grads: Sequence[Tensor | None], rows: Tensor | None = None) -> None:
    """Add what there is, to all rows or to some."""
    for whole, grad in zip(to, grads, strict=True):
        if grad is None:
            continue
        if rows is None:
            whole.add_(grad)
        else:
            whole[rows] += grad[rows]


def _again_by_loop(
    call: Call, noise: Noise, tensors: list[Tensor | None], grads: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """The same gradients as a differentiable graph: repeat the pass by the loop, differentiate with a graph."""
    cell = call.cell
    # Aliases, so that a tensor that plays two roles (h and c both one tensor of zeros) gets two gradients.
    tensors = [None if t is None else t.view_as(t) for t in tensors]
    inputs, state, fresh, weights = _Arguments.of(call, *tensors)
    again = replace(
        call,
        inputs=inputs.transpose(0, 1),
        state=cell.State(*state),
        fresh=cell.State(*fresh) if fresh else None,
        noise=noise,
    )
    given = {n: w for n, w in zip(cell.kernel.weights, weights, strict=True) if w is not None}
    outputs, last, states = loop(replace(again, cell=with_weights(cell, given)))
    results = [outputs, *last, *(states[1:] if call.return_states else ())]
    time_major = [r.transpose(0, 1) if r.dim() == 3 else r for r in results]
    used = [(r, g) for r, g in zip(time_major, grads, strict=True) if g is not None and r.requires_grad]
    wanted = [t for t in tensors if t is not None and t.requires_grad]
    found = iter(
        torch.autograd.grad([r for r, _ in used], wanted, [g for _, g in used], create_graph=True, allow_unused=True)
    )
    return tuple(next(found) if t is not None and t.requires_grad else None for t in tensors)
