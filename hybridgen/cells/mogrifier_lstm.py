"""LSTM whose input and previous output gate each other a few times before they meet.

    x^1 = 2 sigmoid(Q_1 h) * x,   h^2 = 2 sigmoid(R_2 x^1) * h,   x^3 = 2 sigmoid(Q_3 h^2) * x^1,   ...
    then an LSTM step on the last x and h

Melis et al. 2020, arXiv:1909.01792. With ``rank`` each Q and R is a product of two thin matrices.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell, HiddenAndCell
from hybridgen.cells.handwritten import Kernel
from hybridgen.cells.initialise import initialise_, set_forget_bias_
from hybridgen.cells.matmul import add_product_, linear, product, product_to, weight_gradient
from hybridgen.cells.pointwise import doubling, lstm_backward, lstm_forward


class MogrifierLSTM(Cell):
    """Mogrifier LSTM; gate order (i, f, g, o).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        rounds: how often input and output gate each other; 0 is a plain LSTM, 5 the paper's best.
        rank: inner width of the gating matrices; full matrices when omitted.
        bias: learn a bias for every LSTM gate.
        forget_bias: what the forget gate's bias starts at.

    Raises:
        ValueError: if ``rounds`` is below 0, or ``rank`` wider than input or state.
    """

    State = HiddenAndCell
    recurrent_weights = ("weight_hh",)
    memory_component = "c"
    variants = ({}, {"rounds": 2, "rank": 2, "bias": False}, {"rounds": 0})

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        rounds: int = 5,
        rank: int | None = None,
        bias: bool = True,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if rounds < 0:
            raise ValueError(f"rounds is {rounds}: give 0 or more")
        if rank is not None and not 1 <= rank <= min(input_size, hidden_size):
            raise ValueError(
                f"rank is {rank}: it must lie in 1..{min(input_size, hidden_size)}, the narrower of input and state"
            )
        self.rounds = rounds
        self.rank = rank
        self.forget_bias = forget_bias
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size)) if bias else None
        # Round k = 0, 2, 4... makes a gate of x from h, the others a gate of h from x; each a chain of matrices.
        for k, names in enumerate(self._names_of_rounds()):
            wide, narrow = (input_size, hidden_size) if k % 2 == 0 else (hidden_size, input_size)
            shapes = [(wide, narrow)] if rank is None else [(rank, narrow), (wide, rank)]
            for name, shape in zip(names, shapes, strict=True):
                self.register_parameter(name, nn.Parameter(torch.empty(*shape)))
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; gating matrices are uniform by Glorot & Bengio 2010."""
        initialise_(self, scheme)
        set_forget_bias_(self, 1)
        for chain in self.mogrifiers:
            for matrix in chain:
                nn.init.xavier_uniform_(matrix)

    def _names_of_rounds(self) -> list[tuple[str, ...]]:
        """Names of the matrices of every round, in the order in which they are multiplied with."""
        if self.rank is None:
            return [(f"mogrifier_{k}",) for k in range(self.rounds)]
        return [(f"mogrifier_{k}_in", f"mogrifier_{k}_out") for k in range(self.rounds)]

    @property
    def mogrifiers(self) -> list[list[Tensor]]:
        """The chain of matrices of every round: one, or ``(rank, narrow)`` and ``(wide, rank)``."""
        return [[getattr(self, name) for name in names] for names in self._names_of_rounds()]

    @property
    def kernel(self) -> Kernel:
        """The hand-written mathematics; see :mod:`~hybridgen.cells.handwritten`."""
        return _kernel(tuple(self._names_of_rounds()))

    def project(self, inputs: Tensor) -> Tensor:
        # Nothing can be done ahead of time: the input is gated by the state first.
        return inputs

    def advance(self, projected: Tensor, state: HiddenAndCell, read: Tensor) -> HiddenAndCell:
        x, h = projected, read
        for k, chain in enumerate(self.mogrifiers):
            gate = h if k % 2 == 0 else x
            for matrix in chain:
                gate = linear(gate, matrix)
            if k % 2 == 0:
                x = 2 * torch.sigmoid(gate) * x
            else:
                h = 2 * torch.sigmoid(gate) * h
        i, f, g, o = (linear(x, self.weight_ih, self.bias) + linear(h, self.weight_hh)).chunk(4, -1)
        c = torch.sigmoid(f) * state.c + torch.sigmoid(i) * torch.tanh(g)
        return HiddenAndCell(torch.sigmoid(o) * torch.tanh(c), c)


# The hand-written way leaves the factors 2 out of x and h, and puts them, powers of two and so exact, into the weights
# that read them: a round is then a product, a sigmoid and a multiplication.


def _spared(times_gated: int) -> float:
    """The factor that x or h lacks after it was gated so often."""
    return 2.0**times_gated


def _chains(matrices: tuple[Tensor, ...], rounds: int) -> list[list[Tensor]]:
    """The matrices of every round, the first of each with the factor that what it reads was spared."""
    length = len(matrices) // max(1, rounds)
    chains = [matrices[k * length : (k + 1) * length] for k in range(rounds)]
    # What round k reads was gated in every other round before.
    return [[_spared((k + 1) // 2) * chain[0], *chain[1:]] for k, chain in enumerate(chains)]


def _joined(weight_ih: Tensor, weight_hh: Tensor, rounds: int) -> Tensor:
    """Input and recurrent weights side by side, ``(4H, I + H)``: one product for the last x and h."""
    return torch.cat([_spared((rounds + 1) // 2) * weight_ih, _spared(rounds // 2) * weight_hh], 1)


def _forward(
    rounds: int,
    inputs: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    *matrices: Tensor,
) -> Any:
    time, rows, width = inputs.shape
    hidden = weight_hh.shape[1]
    gates = inputs.new_empty(time, rows, 4 * hidden)
    if bias is None:
        gates.zero_()
    else:
        gates.copy_(bias)
    joined = _joined(weight_ih, weight_hh, rounds).t().contiguous()  # (I + H, 4H)
    for part in (gates, joined):
        part[..., 2 * hidden : 3 * hidden] *= doubling(gates)
    tanh_c, advance = lstm_forward(gates)
    chains = [[matrix.t().contiguous() for matrix in chain] for chain in _chains(matrices, rounds)]
    # Between the matrices of a chain, and after the last: its sigmoid.
    made = [[gates.new_empty(time, rows, matrix.shape[1]) for matrix in chain] for chain in chains]
    steps = [[part.unbind(0) for part in parts] for parts in made]
    per_step, xs = gates.unbind(0), inputs.unbind(0)
    last = gates.new_empty(rows, width + hidden)
    last_x, last_h = last[:, :width], last[:, width:]

    def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
        last_x.copy_(xs[t])
        last_h.copy_(read)
        for k, chain in enumerate(chains):
            source, target = (last_h, last_x) if k % 2 == 0 else (last_x, last_h)
            for matrix, part in zip(chain, steps[k], strict=True):
                source = product_to(part[t], source, matrix)
            target.mul_(source.sigmoid_())
        add_product_(per_step[t], last, joined)
        advance(t, previous[1], *new)

    return step, (gates, tanh_c, *(part for parts in made for part in parts))


def _backward(
    rounds: int,
    saved: tuple[Tensor, ...],
    inputs: Tensor,
    previous: tuple[Tensor, ...],
    reads: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    *matrices: Tensor,
) -> Any:
    gates, tanh_c, *parts = saved
    width = inputs.shape[-1]
    slopes, back = lstm_backward(gates, previous[1], tanh_c)
    per_step = slopes.unbind(0)
    joined = _joined(weight_ih, weight_hh, rounds)
    chains = _chains(matrices, rounds)
    length = len(matrices) // max(1, rounds)
    # x and h before every round; of each round its sigmoid, and the gradient of what the sigmoid is taken of.
    x, h = inputs, reads
    sources, sigmoids, grads_of_gates = [], [], []
    for k in range(rounds):
        sigmoid = parts[(k + 1) * length - 1]
        sources.append(h if k % 2 == 0 else x)
        gated = sigmoid * (x if k % 2 == 0 else h)
        x, h = (gated, h) if k % 2 == 0 else (x, gated)
        sigmoids.append(sigmoid.unbind(0))
        grads_of_gates.append(gated - gated * sigmoid)  # times the gradient of the gated
    gates_of_step = [grad.unbind(0) for grad in grads_of_gates]
    grad_inputs = torch.empty_like(inputs)
    grads_of_x = grad_inputs.unbind(0)
    # With thin matrices, the gradient between the two.
    between = [torch.empty_like(parts[k * length]) if length > 1 else None for k in range(rounds)]

    def step(t: int, grads: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        grad_c = back(t, *grads)
        of_x, of_h = product(per_step[t], joined).tensor_split([width], 1)
        for k in range(rounds - 1, -1, -1):
            source, target = (of_h, of_x) if k % 2 == 0 else (of_x, of_h)
            grad = gates_of_step[k][t].mul_(target)
            target.mul_(sigmoids[k][t])
            if between[k] is not None:
                grad = product_to(between[k][t], grad, chains[k][1])
            add_product_(source, grad, chains[k][0])
        grads_of_x[t].copy_(of_x)
        return of_h.contiguous(), [None, grad_c]

    def finish() -> tuple[Tensor | None, ...]:
        found = []
        for k in range(rounds):
            outer = grads_of_gates[k]
            if between[k] is None:
                found.append(_spared((k + 1) // 2) * weight_gradient(sources[k], outer))
            else:
                found.append(_spared((k + 1) // 2) * weight_gradient(sources[k], between[k]))
                found.append(weight_gradient(parts[k * length], outer))
        grad_bias = None if bias is None else slopes.sum((0, 1))
        return (
            grad_inputs,
            _spared((rounds + 1) // 2) * weight_gradient(x, slopes),
            _spared(rounds // 2) * weight_gradient(h, slopes),
            grad_bias,
            *found,
        )

    return step, finish


@functools.cache
def _kernel(names: tuple[tuple[str, ...], ...]) -> Kernel:
    weights = ("weight_ih", "weight_hh", "bias", *(name for chain in names for name in chain))
    return Kernel(weights, functools.partial(_forward, len(names)), functools.partial(_backward, len(names)))
