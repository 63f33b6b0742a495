"""The elementwise linear recurrence ``s[t] = a[t] * s[t-1] + b[t]``, by a loop or by an associative scan.

The loop runs one fused multiply-add per step outside autograd; its gradient is the same recurrence backwards in
time, so it can be differentiated any number of times. The scan (Blelloch 1990) does the same in
``O(log T)`` rounds of larger operations.

Both work on the values themselves. The log-space form common elsewhere (Heinsen 2023, arXiv:2311.06281) loses
three digits in float32 and needs positive values; it was also measured slower than the loop on a CPU. The rule:
the loop on a CPU at any length (``scripts/benchmark_cells.py --recurrence`` prints the ratio); on a GPU, where
each step is a kernel launch, the scan from ``SHORTEST_SCAN`` steps on.
"""

import torch
from torch import Tensor

from hybridgen.cells.precision import plain_operations_only

#: Number of steps from which a GPU scans; below, launching the loop's kernels costs no more than the scan's.
SHORTEST_SCAN = 64


def linear_recurrence(gain: Tensor, addition: Tensor, initial: Tensor, way: str | None = None) -> Tensor:
    """All values of ``s[t] = gain[t] * s[t-1] + addition[t]``.

    Args:
        gain: ``(B, T, H)``.
        addition: ``(B, T, H)``.
        initial: ``s[-1]``, ``(B, H)``.
        way: ``"loop"`` or ``"scan"``; by the rule in the module's text when omitted.

    Returns:
        ``(B, T, H)``.

    Raises:
        ValueError: if ``way`` is neither.
    """
    if way is None:
        way = "scan" if gain.device.type == "cuda" and gain.shape[1] >= SHORTEST_SCAN else "loop"
    if way == "loop":
        if plain_operations_only():
            return _plain(gain, addition, initial)
        return _Loop.apply(gain, addition, initial)
    if way == "scan":
        first = addition[:, :1] + gain[:, :1] * initial.unsqueeze(1)
        return _scan(gain, torch.cat([first, addition[:, 1:]], 1))[1]
    raise ValueError(f"way is {way!r}: choose 'loop' or 'scan'")


def _plain(gain: Tensor, addition: Tensor, initial: Tensor) -> Tensor:
    value, values = initial, []
    for a, b in zip(gain.unbind(1), addition.unbind(1), strict=True):
        value = torch.addcmul(b, a, value)
        values.append(value)
    return torch.stack(values, 1)


class _Loop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, gain: Tensor, addition: Tensor, initial: Tensor) -> Tensor:
        values = torch.empty_like(addition, memory_format=torch.contiguous_format)
        _run(gain.unbind(1), addition.unbind(1), initial, values.unbind(1))
        ctx.save_for_backward(gain, initial, values)
        return values

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # With g[t] the whole gradient of s[t]: g[t] = grad[t] + gain[t+1] * g[t+1], the recurrence in reverse.
        gain, initial, values = ctx.saved_tensors
        last = grad[:, -1]
        if gain.shape[1] == 1:
            grads = grad
        elif torch.is_grad_enabled():
            rest = _Loop.apply(gain[:, 1:].flip(1), grad[:, :-1].flip(1), last).flip(1)
            grads = torch.cat([rest, last.unsqueeze(1)], 1)
        else:
            grads = torch.empty_like(values)
            out = grads.unbind(1)
            out[-1].copy_(last)
            _run(gain.unbind(1)[:0:-1], grad.unbind(1)[-2::-1], last, out[-2::-1])
        if torch.is_grad_enabled():
            grad_gain = grads * torch.cat([initial.unsqueeze(1), values[:, :-1]], 1)
        else:
            grad_gain = torch.empty_like(values)
            torch.mul(grads[:, 0], initial, out=grad_gain[:, 0])
            torch.mul(grads[:, 1:], values[:, :-1], out=grad_gain[:, 1:])
        return grad_gain, grads, gain[:, 0] * grads[:, 0]


def _run(gains: tuple, additions: tuple, value: Tensor, out: tuple) -> None:
    for a, b, result in zip(gains, additions, out, strict=True):
        torch.addcmul(b, a, value, out=result)
        value = result


def _scan(gain: Tensor, addition: Tensor) -> tuple[Tensor, Tensor]:
    """Prefixes of the composition of ``s -> gain * s + addition``: pairs first, recursively, then the rest."""
    time = gain.shape[1]
    if time == 1:
        return gain, addition
    even_gain, odd_gain = gain[:, :-1:2], gain[:, 1::2]
    even_addition, odd_addition = addition[:, :-1:2], addition[:, 1::2]
    # Prefixes that end at odd positions 1, 3, 5, ...
    odd_gain, odd_addition = _scan(odd_gain * even_gain, torch.addcmul(odd_addition, odd_gain, even_addition))
    # Those that end at even positions 2, 4, ... extend the odd one before them by one element.
    inner = (time - 1) // 2
    even_gain = gain[:, 2::2] * odd_gain[:, :inner]
    even_addition = torch.addcmul(addition[:, 2::2], gain[:, 2::2], odd_addition[:, :inner])
    return _interleave(gain, odd_gain, even_gain), _interleave(addition, odd_addition, even_addition)


def _interleave(first: Tensor, odd: Tensor, even: Tensor) -> Tensor:
    """``first[0], odd[0], even[0], odd[1], even[1], ...`` along time."""
    pairs = torch.stack([odd[:, : even.shape[1]], even], 2).flatten(1, 2)
    return torch.cat([first[:, :1], pairs, odd[:, even.shape[1] :]], 1)
