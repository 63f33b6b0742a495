"""The scalar-memory LSTM of xLSTM: exponential input gate, normaliser, stabiliser.

    i, f, z, o = W x[t] + U h[t-1] + b            U block-diagonal over heads
    log f = log sigmoid(f)  (or f itself, an exponential forget gate)
    m[t] = max(log f + m[t-1], i)                  stabiliser: keeps the exponentials finite, cancels in h
    c[t] = exp(log f + m[t-1] - m[t]) * c[t-1] + exp(i - m[t]) * tanh(z)
    n[t] = exp(log f + m[t-1] - m[t]) * n[t-1] + exp(i - m[t])
    h[t] = sigmoid(o) * c[t] / n[t]

Beck et al. 2024, arXiv:2405.04517, equations 8 to 17.
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.cells.base import Cell
from hybridgen.cells.handwritten import Kernel
from hybridgen.cells.initialise import initialise_, orthogonal_
from hybridgen.cells.matmul import add_product_, input_gradients, input_product, linear, product, weight_gradient
from hybridgen.cells.pointwise import doubling, sigmoid_slope, tanh_of_doubled_, tanh_slope

#: The stabiliser of an empty memory: log of nothing, finite in every floating type.
EMPTY = -1e4


class SLSTMState(NamedTuple):
    """State of an sLSTM; c and n are in units of exp(m)."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)
    n: Tensor  # (B, H)
    m: Tensor  # (B, H)


class SLSTM(Cell):
    """The scalar-memory LSTM of xLSTM; gate order (i, f, z, o).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        num_heads: the recurrent weights are this many diagonal blocks; must divide H.
        forget_gate: ``"sigmoid"`` or ``"exponential"``.

    Raises:
        ValueError: if ``num_heads`` does not divide ``hidden_size``, or ``forget_gate`` is another word.
    """

    State = SLSTMState
    recurrent_weights = ("weight_hh",)
    learnable_components = ("h",)  # an empty memory has nothing to learn from
    starts_at = {"m": EMPTY}  # noqa: RUF012 (declared ClassVar in Cell)
    variants = ({}, {"forget_gate": "exponential"}, {"num_heads": 2, "forget_gate": "exponential"})

    def __init__(self, input_size: int, hidden_size: int, *, num_heads: int = 1, forget_gate: str = "sigmoid") -> None:
        super().__init__(input_size, hidden_size)
        if num_heads < 1 or hidden_size % num_heads:
            raise ValueError(f"num_heads is {num_heads}: it must divide hidden_size {hidden_size}")
        if forget_gate not in ("sigmoid", "exponential"):
            raise ValueError(f"forget_gate is {forget_gate!r}: choose 'sigmoid' or 'exponential'")
        self.num_heads = num_heads
        self.forget_gate = forget_gate
        width = hidden_size // num_heads
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        # Rows as for a dense matrix, gate by gate and head by head; columns are those of the row's own head.
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, width))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; forget biases run from 3 to 6, memory spans from short to long."""
        initialise_(self, scheme)
        with torch.no_grad():
            for block in self.weight_hh.chunk(4 * self.num_heads):
                orthogonal_(block)
            start, end = self.hidden_size, 2 * self.hidden_size
            self.bias[start:end] = torch.linspace(3, 6, self.hidden_size)

    @property
    def kernel(self) -> Kernel | None:
        """The hand-written mathematics, of one head; see :mod:`~hybridgen.cells.handwritten`."""
        return None if self.num_heads > 1 else _KERNELS[self.forget_gate]

    def project(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight_ih, self.bias)

    def advance(self, projected: Tensor, state: SLSTMState, read: Tensor) -> SLSTMState:
        i, f, z, o = (projected + self._recurrent(read)).chunk(4, -1)
        log_f = F.logsigmoid(f) if self.forget_gate == "sigmoid" else f
        kept = log_f + state.m
        m = torch.maximum(kept, i)
        keep, write = torch.exp(kept - m), torch.exp(i - m)
        c = keep * state.c + write * torch.tanh(z)
        n = keep * state.n + write
        return SLSTMState(torch.sigmoid(o) * c / n, c, n, m)

    def _recurrent(self, read: Tensor) -> Tensor:
        if self.num_heads == 1:
            return linear(read, self.weight_hh)
        heads = read.unflatten(-1, (self.num_heads, -1))  # (B, heads, width)
        blocks = self.weight_hh.unflatten(0, (4, self.num_heads, -1))  # (4, heads, width, width)
        return torch.einsum("bhi,ghoi->bgho", heads, blocks).flatten(1)  # (B, 4H)


def _forward(by_sigmoid: bool, inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Any:
    hidden = weight_hh.shape[1]
    gates = input_product(inputs, weight_ih, bias)  # (T, B, 4H); becomes write, keep, tanh(z), sigmoid(o)
    recurrent = weight_hh.t().contiguous()  # (H, 4H)
    gates[..., 2 * hidden : 3 * hidden] *= doubling(gates)
    recurrent[:, 2 * hidden : 3 * hidden] *= doubling(gates)
    log_f = gates.new_empty(*gates.shape[:2], hidden)
    per_step, log_fs = gates.unbind(0), log_f.unbind(0)
    i, f, z, o = (gate.unbind(0) for gate in gates.chunk(4, -1))

    def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
        h, c, n, m = new
        _, old_c, old_n, old_m = previous
        add_product_(per_step[t], read, recurrent)
        log_fs[t].copy_(F.logsigmoid(f[t]) if by_sigmoid else f[t])
        kept = log_fs[t] + old_m
        torch.maximum(kept, i[t], out=m)
        torch.sub(kept, m, out=f[t]).exp_()
        i[t].sub_(m).exp_()
        tanh_of_doubled_(z[t])
        o[t].sigmoid_()
        torch.mul(f[t], old_c, out=c).addcmul_(i[t], z[t])
        torch.mul(f[t], old_n, out=n).add_(i[t])
        torch.mul(o[t], c, out=h).div_(n)

    return step, (gates, log_f)


def _backward(
    by_sigmoid: bool,
    saved: tuple[Tensor, ...],
    inputs: Tensor,
    previous: tuple[Tensor, ...],
    reads: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
) -> Any:
    gates, log_f = saved
    write, keep, z, o = gates.chunk(4, -1)
    _, old_c, old_n, _ = previous
    # The new memory as the output read it, before anything between the steps.
    kept_c, kept_n, written = keep * old_c, keep * old_n, write * z
    n = kept_n + write
    ratio = (kept_c + written) / n
    # The stabiliser follows what it is the larger of; as torch.maximum, half of each where they are equal.
    follows_f, follows_i = (keep == 1).to(keep.dtype), (write == 1).to(keep.dtype)
    share = follows_f / (follows_f + follows_i)
    of_c = o / n
    of_n = -of_c * ratio
    slopes = torch.empty_like(gates)  # of the gates before activation
    to_i, to_f, slope_z, slope_o = slopes.chunk(4, -1)
    tanh_slope(write, z, out=slope_z)
    sigmoid_slope(ratio, o, out=slope_o)
    of_f = -torch.expm1(log_f) if by_sigmoid else None  # d log f / d f = sigmoid(-f)
    per_step, of_cs, of_ns, shares = (x.unbind(0) for x in (slopes, of_c, of_n, share))
    to_is, to_fs, of_zs, of_os = (x.unbind(0) for x in (to_i, to_f, slope_z, slope_o))
    kept_cs, kept_ns, writtens, writes, keeps = (x.unbind(0) for x in (kept_c, kept_n, written, write, keep))

    def step(t: int, grads: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        grad_h, grad_c, grad_n, grad_m = grads
        grad_c.addcmul_(grad_h, of_cs[t])
        grad_n.addcmul_(grad_h, of_ns[t])
        of_os[t].mul_(grad_h)
        of_zs[t].mul_(grad_c)
        # Of the exponents of keep and of write, then what is left for the stabiliser in both.
        grad_kept = (grad_c * kept_cs[t]).addcmul_(grad_n, kept_ns[t])
        grad_i = torch.mul(grad_c, writtens[t], out=to_is[t]).addcmul_(grad_n, writes[t])
        rest = grad_m.sub_(grad_kept).sub_(grad_i)
        of_m = rest * shares[t]
        grad_kept.add_(of_m)
        grad_i.add_(rest.sub_(of_m))
        to_fs[t].copy_(grad_kept)
        if of_f is not None:
            to_fs[t].mul_(of_f[t])
        return product(per_step[t], weight_hh), [None, grad_c.mul_(keeps[t]), grad_n.mul_(keeps[t]), grad_kept]

    def finish() -> tuple[Tensor | None, ...]:
        grad_inputs, grad_ih, grad_bias = input_gradients(slopes, inputs, weight_ih, bias)
        return grad_inputs, grad_ih, weight_gradient(reads, slopes), grad_bias

    return step, finish


_KERNELS = {
    name: Kernel(
        ("weight_ih", "weight_hh", "bias"),
        functools.partial(_forward, name == "sigmoid"),
        functools.partial(_backward, name == "sigmoid"),
    )
    for name in ("sigmoid", "exponential")
}
