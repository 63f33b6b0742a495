"""The quasi-recurrent network: gates from a short convolution over time, then elementwise pooling.

    z, f, o[, i] = tanh, sigmoid, ... (sum over j < k of W_j x[t-j] + b)
    c[t] = f * c[t-1] + (1 - f) * z        (pooling "f", "fo");   f * c[t-1] + i * z    ("ifo")
    h[t] = c[t] ("f"),   o * c[t] ("fo", "ifo")

Bradbury et al. 2017, arXiv:1611.01576.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell
from hybridgen.cells.matmul import linear
from hybridgen.cells.pointwise import tanh
from hybridgen.cells.precision import plain_operations_only


class MemoryAndWindow(NamedTuple):
    """State of a QRNN."""

    c: Tensor  # (B, H)
    window: Tensor  # (B, (k - 1) * I), the previous inputs, newest first


class QRNN(Cell):
    """The quasi-recurrent network; gate order (z, f, o, i).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        window: number k of inputs that the gates see, the present one included.
        pooling: ``"f"``, ``"fo"`` or ``"ifo"``: which gates there are.
        bias: learn a bias for every gate.

    Raises:
        ValueError: if ``window`` is below 1, or ``pooling`` another word.
    """

    State = MemoryAndWindow
    hidden_component = None
    memory_component = "c"
    linear_in_time = True
    reads_previous_inputs = True
    learnable_components = ("c",)  # the inputs before the first are zeros
    variants = ({}, {"window": 3, "pooling": "ifo", "bias": False}, {"window": 1, "pooling": "f"})

    def __init__(
        self, input_size: int, hidden_size: int, *, window: int = 2, pooling: str = "fo", bias: bool = True
    ) -> None:
        super().__init__(input_size, hidden_size)
        if window < 1:
            raise ValueError(f"window is {window}: the gates see at least the present input, 1")
        if pooling not in ("f", "fo", "ifo"):
            raise ValueError(f"pooling is {pooling!r}: choose 'f', 'fo' or 'ifo'")
        self.window = window
        self.pooling = pooling
        self.gates = 1 + len(pooling)
        # Columns: the present input, then the previous ones, newest first.
        self.weight_ih = nn.Parameter(torch.empty(self.gates * hidden_size, window * input_size))
        self.bias = nn.Parameter(torch.empty(self.gates * hidden_size)) if bias else None
        self.reset_parameters()

    def state_widths(self) -> dict[str, int]:
        return {"c": self.hidden_size, "window": (self.window - 1) * self.input_size}

    def project_step(self, input: Tensor, state: MemoryAndWindow) -> tuple[Tensor, ...]:
        seen = torch.cat([input, state.window.to(input.dtype)], -1)  # (B, k * I)
        return *self._gates(seen), seen[:, : (self.window - 1) * self.input_size]

    def project_sequence(self, inputs: Tensor, state: MemoryAndWindow, resets: Tensor | None) -> tuple[Tensor, ...]:
        before = state.window.to(inputs.dtype).unflatten(-1, (self.window - 1, self.input_size)).flip(1)
        widen = _windows if plain_operations_only() else _Windows.apply
        seen = widen(inputs, before)  # (B, T, k * I)
        if resets is not None:
            # An element is seen only from inside its own segment; what came before the call is segment 0.
            segment = torch.cat([resets.new_zeros(before.shape[:2]), resets], 1).cumsum(1)
            same = segment.unfold(1, self.window, 1).flip(2) == segment[:, self.window - 1 :].unsqueeze(-1)  # (B, T, k)
            seen = (seen.unflatten(-1, (self.window, -1)) * same.unsqueeze(-1)).flatten(-2)
        return *self._gates(seen), seen[..., : (self.window - 1) * self.input_size]

    def states_of_sequence(self, projected: tuple[Tensor, ...], values: Tensor) -> MemoryAndWindow:
        return MemoryAndWindow(values, projected[-1])

    def advance(self, projected: tuple[Tensor, ...], state: MemoryAndWindow, read: Tensor) -> MemoryAndWindow:
        gain, addition = self.coefficients(projected)
        return MemoryAndWindow(gain * state.c + addition, projected[-1])

    def coefficients(self, projected: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        z, f = projected[0], torch.sigmoid(projected[1])
        write = torch.sigmoid(projected[3]) if self.pooling == "ifo" else 1 - f
        return f, write * tanh(z)

    def emit(self, projected: tuple[Tensor, ...], state: MemoryAndWindow) -> Tensor:
        return state.c if self.pooling == "f" else torch.sigmoid(projected[2]) * state.c

    def _gates(self, seen: Tensor) -> tuple[Tensor, ...]:
        """Before activation: z, f, then o and i as far as there are; cut once, for the gradient's sake."""
        return linear(seen, self.weight_ih, self.bias).chunk(self.gates, -1)


class _Windows(torch.autograd.Function):
    """Each of ``inputs (B, T, I)`` beside those before it, newest first: ``(B, T, k * I)``.

    ``before (B, k - 1, I)`` are the inputs before the first, oldest first. The gradient is added up in place, where
    autograd would make one of full size for every shift.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, before: Tensor) -> Tensor:
        ctx.sizes = inputs.shape, before.shape
        return _windows(inputs, before)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():
            # A graph of the gradient is asked for. The function is linear: it has this gradient everywhere.
            where = [grad.new_zeros(size).requires_grad_() for size in ctx.sizes]
            return torch.autograd.grad(_windows(*where), where, grad, create_graph=True)
        (_, time, width), (_, number, _) = ctx.sizes
        of_inputs, of_before = grad[..., :width].clone(), grad.new_zeros(ctx.sizes[1])
        for j in range(1, number + 1):
            part, old = grad[..., j * width : (j + 1) * width], min(j, time)
            of_inputs[:, : time - old].add_(part[:, old:])
            of_before[:, number - j : number - j + old].add_(part[:, :old])
        return of_inputs, of_before


def _windows(inputs: Tensor, before: Tensor) -> Tensor:
    (time, number), padded = (inputs.shape[1], before.shape[1]), torch.cat([before, inputs], 1)
    return torch.cat([padded[:, number - j : number - j + time] for j in range(number + 1)], -1)
