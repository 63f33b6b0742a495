"""The matrix-memory LSTM of xLSTM: keys and values in a matrix per head, exponential gates.

    q, k, v = W_q x[t], W_k x[t] / sqrt(d), W_v x[t]           per head, width d
    i, f    = w_i . x[t] + b_i, w_f . x[t] + b_f               scalars per head
    m[t] = max(log sigmoid(f) + m[t-1], i)                     stabiliser
    C[t] = f' C[t-1] + i' v k^T,   n[t] = f' n[t-1] + i' k     f', i' the gates divided by exp(m[t])
    h[t] = sigmoid(W_o x[t]) * C[t] q / max(|n[t] . q|, exp(-m[t]))

Beck et al. 2024, arXiv:2405.04517, equations 19 to 27, without the biases of q, k, v and o. The state enters no gate,
so a sequence is computed in chunks: inside a chunk as masked products of queries, keys and values, between chunks by
the recurrence.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.cells.base import Cell
from hybridgen.cells.call import Call
from hybridgen.cells.initialise import initialise_
from hybridgen.cells.loop import loop
from hybridgen.cells.matmul import linear
from hybridgen.cells.precision import in_state_type, without_autocast
from hybridgen.cells.slstm import EMPTY


class MatrixMemory(NamedTuple):
    """State of an mLSTM; C and n are in units of exp(m)."""

    c: Tensor  # (B, heads * d * d), rows of C are values, columns keys
    n: Tensor  # (B, heads * d)
    m: Tensor  # (B, heads)


class MLSTM(Cell):
    """The matrix-memory LSTM of xLSTM.

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the output, all heads together.
        num_heads: number of matrices; must divide H. The state has H * H / num_heads numbers.
        chunk: number of steps that a sequence is computed in at once.

    Raises:
        ValueError: if ``num_heads`` does not divide ``hidden_size``, ``chunk`` is below 1, or the initial state is to
            be learned.
    """

    State = MatrixMemory
    hidden_component = None
    starts_at = {"m": EMPTY}  # noqa: RUF012 (declared ClassVar in Cell)
    variants = ({}, {"num_heads": 2, "chunk": 3})

    def __init__(self, input_size: int, hidden_size: int, *, num_heads: int = 1, chunk: int = 64) -> None:
        super().__init__(input_size, hidden_size)
        if num_heads < 1 or hidden_size % num_heads:
            raise ValueError(f"num_heads is {num_heads}: it must divide hidden_size {hidden_size}")
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}: give 1 or more")
        self.num_heads = num_heads
        self.chunk = chunk
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))  # q, k, v, o
        self.weight_gates = nn.Parameter(torch.empty(2 * num_heads, input_size))  # i, f
        self.bias = nn.Parameter(torch.empty(2 * num_heads))
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; forget biases run from 3 to 6, memory spans from short to long."""
        initialise_(self, scheme)
        with torch.no_grad():
            self.bias[self.num_heads :] = torch.linspace(3, 6, self.num_heads)

    def learn_initial_state(self) -> None:
        """Refused: an empty matrix memory has nothing to learn from.

        Raises:
            ValueError: always.
        """
        raise ValueError("the initial state of mlstm cannot be learned: its memory starts empty")

    def state_widths(self) -> dict[str, int]:
        width = self.hidden_size // self.num_heads
        return {"c": self.hidden_size * width, "n": self.hidden_size, "m": self.num_heads}

    def project(self, inputs: Tensor) -> tuple[Tensor, ...]:
        q, k, v, o = linear(inputs, self.weight_ih).chunk(4, -1)
        i, f = linear(inputs, self.weight_gates, self.bias).chunk(2, -1)
        k = k / math.sqrt(self.hidden_size // self.num_heads)
        return q, k, v, torch.sigmoid(o), i, F.logsigmoid(f)

    def advance(self, projected: tuple[Tensor, ...], state: MatrixMemory, read: Tensor) -> MatrixMemory:
        _, k, v, _, i, log_f = projected
        heads = (self.num_heads, -1)
        k, v = k.unflatten(-1, heads), v.unflatten(-1, heads)  # (B, heads, d)
        kept = log_f + state.m
        m = torch.maximum(kept, i)
        keep, write = torch.exp(kept - m).unsqueeze(-1), torch.exp(i - m).unsqueeze(-1)  # (B, heads, 1)
        c = state.c.unflatten(-1, (self.num_heads, v.shape[-1], -1))  # (B, heads, d, d)
        c = keep.unsqueeze(-1) * c + (write * v).unsqueeze(-1) * k.unsqueeze(-2)
        n = keep * state.n.unflatten(-1, heads) + write * k
        return MatrixMemory(c.flatten(1), n.flatten(1), m)

    def emit(self, projected: tuple[Tensor, ...], state: MatrixMemory) -> Tensor:
        q, _, _, o, _, _ = projected
        q = q.unflatten(-1, (self.num_heads, -1))
        c = state.c.unflatten(-1, (self.num_heads, q.shape[-1], -1))
        value = torch.einsum("bhvk,bhk->bhv", c, q)
        weight = (state.n.unflatten(-1, (self.num_heads, -1)) * q).sum(-1)
        return o * (value / _floor(weight, state.m).unsqueeze(-1)).flatten(-2)

    def parallel(self, call: Call) -> tuple[Tensor, Any, Any]:
        """The chunked way; a call that asks for every matrix of the memory is walked by the loop instead.

        Returns:
            Outputs ``(B, T, H)``, the last state, and every state ``(B, T, width)`` where the loop walked, or None.
        """
        if call.return_states:
            return loop(call)
        projected = in_state_type(self.project(call.inputs), call.state)
        with without_autocast(call.inputs):
            return self._in_chunks(projected, call)

    def _in_chunks(self, projected: tuple[Tensor, ...], call: Call) -> tuple[Tensor, Any, Any]:
        q, k, v, o, i, log_f = projected
        valid = call.valid
        if valid is not None:
            # Past a row's end nothing is forgotten and nothing is written.
            log_f = log_f.masked_fill(~valid.unsqueeze(-1), 0.0)
            i = i.masked_fill(~valid.unsqueeze(-1), 2 * EMPTY)
        split = tuple(x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, heads, T, d)
        gates = tuple(x.transpose(1, 2) for x in (i, log_f))  # (B, heads, T)
        state = (
            call.state.c.unflatten(-1, (self.num_heads, self.hidden_size // self.num_heads, -1)),
            call.state.n.unflatten(-1, (self.num_heads, -1)),
            call.state.m,
        )
        outputs = []
        for start in range(0, q.shape[1], self.chunk):
            part = slice(start, start + self.chunk)
            resets = None if call.resets is None else call.resets[:, part]
            output, state = _chunk(*(x[:, :, part] for x in (*split, *gates)), state, resets)
            outputs.append(output)
        values = torch.cat(outputs, 2).transpose(1, 2).flatten(2)  # (B, T, H)
        c, n, m = state
        return o * values, MatrixMemory(c.flatten(1), n.flatten(1), m), None


def _floor(weight: Tensor, m: Tensor) -> Tensor:
    """What a memory's content is divided by: its weight, at least 1 in natural units."""
    # Bounded, since the gradient of an infinite floor is not a number; exp(60) already makes the output nothing.
    return torch.maximum(weight.abs(), torch.exp((-m).clamp(max=60.0)))


def _chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    log_f: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    resets: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """One chunk: ``q, k, v (B, heads, L, d)``, gates ``(B, heads, L)``; returns outputs and the state after it."""
    c, n, m = state
    length = q.shape[2]
    forgotten = log_f.cumsum(-1)  # (B, heads, L), log of what is left at t of the memory before the chunk
    # Log weight at t of what was written at s: decay from s to t, times the input gate at s.
    weights = forgotten.unsqueeze(-1) - forgotten.unsqueeze(-2) + i.unsqueeze(-2)  # (B, heads, t, s)
    hidden = ~torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    carried = forgotten + m.unsqueeze(-1)  # log weight at t of the memory before the chunk
    if resets is not None:
        segment = resets.cumsum(-1)  # (B, L)
        hidden = hidden | (segment.unsqueeze(-1) != segment.unsqueeze(-2)).unsqueeze(1)
        carried = carried.masked_fill((segment > 0).unsqueeze(1), EMPTY)
    weights = weights.masked_fill(hidden, -torch.inf)
    stabiliser = torch.maximum(weights.amax(-1), carried)  # (B, heads, L)
    scores = (q @ k.transpose(-1, -2)) * torch.exp(weights - stabiliser.unsqueeze(-1))
    from_before = torch.exp(carried - stabiliser).unsqueeze(-1)  # (B, heads, L, 1)
    if resets is not None:
        from_before = from_before.masked_fill((segment > 0)[:, None, :, None], 0.0)
    value = scores @ v + from_before * (q @ c.transpose(-1, -2))
    weight = scores.sum(-1) + from_before.squeeze(-1) * (q * n.unsqueeze(2)).sum(-1)
    outputs = value / _floor(weight, stabiliser).unsqueeze(-1)
    # The memory after the chunk: the last row of weights says how much of each step is left in it.
    last = torch.exp(weights[:, :, -1] - stabiliser[:, :, -1:]).unsqueeze(-1)  # (B, heads, L, 1)
    kept = from_before[:, :, -1]  # (B, heads, 1)
    c = kept.unsqueeze(-1) * c + (last * v).transpose(-1, -2) @ k
    n = kept * n + (last * k).sum(2)
    return outputs, (c, n, stabiliser[:, :, -1])
