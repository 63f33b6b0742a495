"""The gated recurrent unit, with its reset gate in either place.

    r, z = sigmoid(W x[t] + U h[t-1] + b)
    n    = tanh(W_n x[t] + b_n + r * (U_n h[t-1] + b_hn))      reset after the product (cuDNN, torch)
    n    = tanh(W_n x[t] + b_n + U_n (r * h[t-1]))             reset before it (the paper)
    h[t] = (1 - z) * n + z * h[t-1]

Cho et al. 2014, arXiv:1406.1078 (its first version puts the reset after).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell, Hidden
from hybridgen.cells.handwritten import Kernel
from hybridgen.cells.matmul import (
    add_product_,
    input_gradients,
    input_product,
    linear,
    product,
    product_into,
    weight_gradient,
)
from hybridgen.cells.pointwise import doubling, sigmoid_slope, tanh_of_doubled_, tanh_slope, tanh_to


class GRU(Cell):
    """The gated recurrent unit, with the weights and gate order (r, z, n) of ``torch.nn.GRU``.

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        bias: learn a bias for every gate, and one inside the reset gate's product (reset after only).
        reset: ``"after"`` or ``"before"`` the candidate's recurrent product; "after" is torch's and the faster.

    Raises:
        ValueError: if ``reset`` is another word.
    """

    recurrent_weights = ("weight_hh",)
    variants = ({}, {"bias": False}, {"reset": "before"}, {"reset": "before", "bias": False})

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True, reset: str = "after") -> None:
        super().__init__(input_size, hidden_size)
        if reset not in ("after", "before"):
            raise ValueError(f"reset is {reset!r}: choose 'after' (as torch.nn.GRU) or 'before' (as the paper)")
        self.reset = reset
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size)) if bias else None
        self.bias_hn = nn.Parameter(torch.empty(hidden_size)) if bias and reset == "after" else None
        self.reset_parameters()

    @property
    def kernel(self) -> Kernel:
        """The hand-written mathematics; see :mod:`~hybridgen.cells.handwritten`."""
        return _RESET_AFTER if self.reset == "after" else _RESET_BEFORE

    def project(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight_ih, self.bias)

    def advance(self, projected: Tensor, state: Hidden, read: Tensor) -> Hidden:
        hidden = self.hidden_size
        if self.reset == "after":
            recurrent = linear(read, self.weight_hh)  # (B, 3H)
            r, z = torch.sigmoid(projected[:, : 2 * hidden] + recurrent[:, : 2 * hidden]).chunk(2, -1)
            inner = recurrent[:, 2 * hidden :]
            inner = inner if self.bias_hn is None else inner + self.bias_hn
            n = torch.tanh(projected[:, 2 * hidden :] + r * inner)
        else:
            of_gates = linear(read, self.weight_hh[: 2 * hidden])
            r, z = torch.sigmoid(projected[:, : 2 * hidden] + of_gates).chunk(2, -1)
            n = torch.tanh(projected[:, 2 * hidden :] + linear(r * read, self.weight_hh[2 * hidden :]))
        return Hidden(torch.lerp(n, state.h, z))

    def fused_step(self, input: Tensor, state: Hidden) -> Hidden | None:
        """One step by torch's cell function; see :func:`fused.step`."""
        if self.reset == "before":
            return None
        inner = None
        if self.bias_hn is not None:
            inner = torch.cat([self.bias_hn.new_zeros(2 * self.hidden_size), self.bias_hn])
        return Hidden(torch.gru_cell(input, state.h, self.weight_ih, self.weight_hh, self.bias, inner))

    def prepare_step(self, table: Tensor | None) -> Callable[[Tensor, Any], tuple[Tensor, Any]] | None:
        """Steps with the weights as they are now, laid out for products of few rows.

        Args:
            table: ``(V, I)``: the step then takes row numbers ``(B,)`` of it, whose products are taken beforehand.

        Returns:
            ``(x (B, I), (h,)) -> (h, (h,))`` on a CPU, for one thread at a time, or None where the reset gate acts
            before the product.
        """
        if self.reset == "before":
            return None
        hidden = self.hidden_size
        of_x, of_h = (weight.detach().t().contiguous() for weight in (self.weight_ih, self.weight_hh))
        bias = of_x.new_zeros(3 * hidden) if self.bias is None else self.bias.detach().clone()
        inner_bias = torch.zeros_like(bias)
        if self.bias_hn is not None:
            inner_bias[2 * hidden :] = self.bias_hn.detach()
        projected = None if table is None else torch.addmm(bias, table, of_x)

        def cut(gates: Tensor) -> tuple[Tensor, ...]:
            return gates[:, : 2 * hidden], *gates.chunk(3, 1)

        of_element, of_state = product_into(of_x, cut), product_into(of_h, cut)

        def step(x: Tensor, state: Any) -> tuple[Tensor, Any]:
            (h,) = state
            _, (both, r, z, inner) = of_state(h, inner_bias)
            added, _, _, n = of_element(x, bias)[1] if projected is None else cut(projected.index_select(0, x))
            both.add_(added).sigmoid_()
            h = torch.lerp(torch.addcmul(n, r, inner).tanh_(), h, z)
            return h, (h,)

        return step

    def fused_weights(self) -> tuple[str, list[Tensor]] | None:
        """torch's function and weights; see :mod:`~hybridgen.cells.fused`."""
        if self.reset == "before":
            return None
        zeros = self.weight_ih.new_zeros(3 * self.hidden_size)
        if self.bias is None:
            return "gru", [self.weight_ih, self.weight_hh, zeros, zeros]
        recurrent_bias = torch.cat([zeros[: 2 * self.hidden_size], self.bias_hn])
        return "gru", [self.weight_ih, self.weight_hh, self.bias, recurrent_bias]


def _forward_after(
    inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, bias_hn: Tensor | None
) -> Any:
    hidden = weight_hh.shape[1]
    gates = input_product(inputs, weight_ih, bias)  # (T, B, 3H)
    recurrent = weight_hh.t().contiguous()  # (H, 3H)
    factor = doubling(gates)
    gates[..., 2 * hidden :] *= factor
    recurrent[:, 2 * hidden :] *= factor
    inner_bias = None if bias_hn is None else torch.cat([bias_hn.new_zeros(2 * hidden), bias_hn * factor])
    inner = gates.new_empty(*gates.shape[:2], hidden)  # factor * (U_n h + b_hn)
    r, _, n = (gate.unbind(0) for gate in gates.chunk(3, -1))
    z, rz, inners = (x.unbind(0) for x in (gates[..., hidden : 2 * hidden], gates[..., : 2 * hidden], inner))

    def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
        of_h = product(read, recurrent, inner_bias)
        rz[t].add_(of_h[:, : 2 * hidden]).sigmoid_()
        inners[t].copy_(of_h[:, 2 * hidden :])
        tanh_of_doubled_(n[t].addcmul_(r[t], inners[t]))
        torch.lerp(n[t], previous[0], z[t], out=new[0])

    return step, (gates, inner)


def _backward_after(
    saved: tuple[Tensor, ...],
    inputs: Tensor,
    previous: tuple[Tensor, ...],
    reads: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    bias_hn: Tensor | None,
) -> Any:
    gates, inner = saved
    hidden = inner.shape[-1]
    r, z, n = gates.chunk(3, -1)
    slope_n = tanh_slope(1 - z, n, out=torch.empty_like(inner))  # d h / d (n before tanh)
    slopes = torch.empty_like(gates)  # of what the recurrent product adds to r, z and, inside the reset gate, n
    slope_r, slope_z, slope_inner = slopes.chunk(3, -1)
    sigmoid_slope(slope_n * inner / doubling(inner), r, out=slope_r)
    sigmoid_slope(previous[0] - n, z, out=slope_z)
    torch.mul(slope_n, r, out=slope_inner)
    per_step, of_n, zs = slopes.unbind(0), slope_n.unbind(0), z.unbind(0)
    by_gate = slopes.unflatten(-1, (3, hidden)).unbind(0)  # (B, 3, H)

    def step(t: int, grads: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        (grad_h,) = grads
        of_n[t].mul_(grad_h)
        by_gate[t].mul_(grad_h.unsqueeze(1))
        return product(per_step[t], weight_hh), [grad_h.mul_(zs[t])]

    def finish() -> tuple[Tensor | None, ...]:
        grad_gates = torch.cat([slopes[..., : 2 * hidden], slope_n], -1)
        grad_inputs, grad_ih, grad_bias = input_gradients(grad_gates, inputs, weight_ih, bias)
        grad_inner = None if bias_hn is None else slopes[..., 2 * hidden :].sum((0, 1))
        return grad_inputs, grad_ih, weight_gradient(reads, slopes), grad_bias, grad_inner

    return step, finish


def _forward_before(inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None) -> Any:
    hidden = weight_hh.shape[1]
    gates = input_product(inputs, weight_ih, bias)  # (T, B, 3H)
    of_gates, of_n = (w.t().contiguous() for w in weight_hh.split([2 * hidden, hidden]))
    reset_read = gates.new_empty(*gates.shape[:2], hidden)  # r * h
    r, z, n = (gate.unbind(0) for gate in gates.chunk(3, -1))
    rz, reset_reads = gates[..., : 2 * hidden].unbind(0), reset_read.unbind(0)

    def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
        add_product_(rz[t], read, of_gates).sigmoid_()
        torch.mul(r[t], read, out=reset_reads[t])
        add_product_(n[t], reset_reads[t], of_n)
        torch.lerp(tanh_to(n[t], n[t]), previous[0], z[t], out=new[0])

    return step, (gates, reset_read)


def _backward_before(
    saved: tuple[Tensor, ...],
    inputs: Tensor,
    previous: tuple[Tensor, ...],
    reads: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
) -> Any:
    gates, reset_read = saved
    hidden = reset_read.shape[-1]
    r, z, n = gates.chunk(3, -1)
    weight_gates, weight_n = weight_hh.split([2 * hidden, hidden])
    slopes = torch.empty_like(gates)
    slope_r, slope_z, slope_n = slopes.chunk(3, -1)
    sigmoid_slope(reads, r, out=slope_r)
    sigmoid_slope(previous[0] - n, z, out=slope_z)
    tanh_slope(1 - z, n, out=slope_n)
    rs, zs, of_r = r.unbind(0), z.unbind(0), slope_r.unbind(0)
    of_gates, of_n = slopes[..., : 2 * hidden].unbind(0), slope_n.unbind(0)
    of_zn = slopes.unflatten(-1, (3, hidden))[:, :, 1:].unbind(0)  # (B, 2, H)

    def step(t: int, grads: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        (grad_h,) = grads
        of_zn[t].mul_(grad_h.unsqueeze(1))
        grad_reset_read = product(of_n[t].contiguous(), weight_n)
        of_r[t].mul_(grad_reset_read)
        grad_read = product(of_gates[t].contiguous(), weight_gates).addcmul_(grad_reset_read, rs[t])
        return grad_read, [grad_h.mul_(zs[t])]

    def finish() -> tuple[Tensor | None, ...]:
        grad_inputs, grad_ih, grad_bias = input_gradients(slopes, inputs, weight_ih, bias)
        grad_gates = weight_gradient(reads, slopes[..., : 2 * hidden])
        grad_n = weight_gradient(reset_read, slopes[..., 2 * hidden :])
        return grad_inputs, grad_ih, torch.cat([grad_gates, grad_n]), grad_bias

    return step, finish


_RESET_AFTER = Kernel(("weight_ih", "weight_hh", "bias", "bias_hn"), _forward_after, _backward_after)
_RESET_BEFORE = Kernel(("weight_ih", "weight_hh", "bias"), _forward_before, _backward_before)
