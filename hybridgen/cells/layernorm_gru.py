"""GRU with layer normalisation of both products.

    r, z = sigmoid(LN(W x[t]) + LN(U h[t-1]) + b)
    n    = tanh(LN(W_n x[t]) + b_n + r * LN(U_n h[t-1]))
    h[t] = (1 - z) * n + z * h[t-1]

LN normalises the two gates together and the candidate by itself, as in Ba et al. 2016, arXiv:1607.06450, whose
supplement gives this form.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell, Hidden
from hybridgen.cells.handwritten import Kernel
from hybridgen.cells.initialise import initialise_
from hybridgen.cells.matmul import input_gradients, input_product, linear, product, weight_gradient
from hybridgen.cells.normalisation import EPSILON, layer_norm, norm_gradients
from hybridgen.cells.pointwise import doubling, sigmoid_slope, tanh_of_doubled_, tanh_slope


class LayerNormGRU(Cell):
    """GRU with layer normalisation; gate order (r, z, n).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        bias: learn a bias for every gate.
    """

    recurrent_weights = ("weight_hh",)
    variants = ({}, {"bias": False})

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.gain_ih = nn.Parameter(torch.empty(3 * hidden_size))
        self.gain_hh = nn.Parameter(torch.empty(3 * hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; gains start at one."""
        initialise_(self, scheme)
        nn.init.ones_(self.gain_ih)
        nn.init.ones_(self.gain_hh)

    @property
    def kernel(self) -> Kernel:
        """The hand-written mathematics; see :mod:`~hybridgen.cells.handwritten`."""
        return _KERNEL

    def project(self, inputs: Tensor) -> Tensor:
        projected = self._normed(linear(inputs, self.weight_ih), self.gain_ih)
        return projected if self.bias is None else projected + self.bias

    def advance(self, projected: Tensor, state: Hidden, read: Tensor) -> Hidden:
        of_gates, of_n = _parts(projected)
        gates_of_h, n_of_h = _parts(self._normed(linear(read, self.weight_hh), self.gain_hh))
        r, z = torch.sigmoid(of_gates + gates_of_h).chunk(2, -1)
        return Hidden(torch.lerp(torch.tanh(of_n + r * n_of_h), state.h, z))

    def _normed(self, value: Tensor, gain: Tensor) -> Tensor:
        parts = zip(_parts(value), _parts(gain), strict=True)
        return torch.cat([layer_norm(part, its_gain) for part, its_gain in parts], -1)


def _parts(value: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``(..., 3H)``: what is of the gates r and z, ``(..., 2H)``, and of the candidate, ``(..., H)``."""
    hidden = value.shape[-1] // 3
    return value.split([2 * hidden, hidden], -1)


def _forward(
    inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, gain_ih: Tensor, gain_hh: Tensor, bias: Tensor | None
) -> Any:
    hidden = weight_hh.shape[1]
    # Before normalisation, gates and candidate each in a tensor of its own; so is what is of h.
    of_x = [part.contiguous() for part in _parts(input_product(inputs, weight_ih, None))]
    biases = (None, None) if bias is None else _parts(bias)
    normed = [
        torch.native_layer_norm(part, part.shape[-1:], gain, its_bias, EPSILON)
        for part, gain, its_bias in zip(of_x, _parts(gain_ih), biases, strict=True)
    ]
    statistics_x = [statistic for _, *both in normed for statistic in both]
    gates = torch.cat([values for values, *_ in normed], -1)  # (T, B, 3H)
    factor = doubling(gates)
    gates[..., 2 * hidden :] *= factor
    gain_gates, gain_n = _parts(gain_hh)
    gain_n = gain_n * factor
    recurrent = weight_hh.t().contiguous()  # (H, 3H)
    of_h = [torch.empty_like(part) for part in of_x]
    inner = gates.new_empty(*gates.shape[:2], hidden)  # factor * LN(U_n h)
    statistics = gates.new_empty(4, *gates.shape[:2], 1)
    gates_of_h, n_of_h, inners = (x.unbind(0) for x in (*of_h, inner))
    each = list(zip(*(s.unbind(0) for s in statistics), strict=True))
    r, z, n = (gate.unbind(0) for gate in gates.chunk(3, -1))
    rz = gates[..., : 2 * hidden].unbind(0)

    def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
        recurrent_gates, recurrent_n = _parts(product(read, recurrent))
        of_gates, *found = torch.native_layer_norm(
            gates_of_h[t].copy_(recurrent_gates), (2 * hidden,), gain_gates, None, EPSILON
        )
        of_n, *more = torch.native_layer_norm(n_of_h[t].copy_(recurrent_n), (hidden,), gain_n, None, EPSILON)
        for to, statistic in zip(each[t], (*found, *more), strict=True):
            to.copy_(statistic)
        rz[t].add_(of_gates).sigmoid_()
        tanh_of_doubled_(n[t].addcmul_(r[t], inners[t].copy_(of_n)))
        torch.lerp(n[t], previous[0], z[t], out=new[0])

    return step, (gates, inner, *of_x, *of_h, statistics, *statistics_x)


def _backward(
    saved: tuple[Tensor, ...],
    inputs: Tensor,
    previous: tuple[Tensor, ...],
    reads: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    gain_ih: Tensor,
    gain_hh: Tensor,
    bias: Tensor | None,
) -> Any:
    gates, inner, gates_of_x, n_of_x, gates_of_h, n_of_h, statistics, *statistics_x = saved
    hidden = inner.shape[-1]
    r, z, n = gates.chunk(3, -1)
    slope_n = tanh_slope(1 - z, n, out=torch.empty_like(inner))  # d h / d (n before tanh)
    slope_gates = gates.new_empty(*gates.shape[:2], 2 * hidden)  # of r and z before sigmoid
    slope_r, slope_z = slope_gates.chunk(2, -1)
    sigmoid_slope(slope_n * inner / doubling(inner), r, out=slope_r)
    sigmoid_slope(previous[0] - n, z, out=slope_z)
    slope_inner = slope_n * r
    grad_of_h = torch.empty_like(gates)
    (gain_gates, gain_n), (to_gates, to_n) = _parts(gain_hh), _parts(grad_of_h)
    both = slope_gates.unflatten(-1, (2, hidden)).unbind(0)  # (B, 2, H)
    of_gates, of_n, of_inner, zs = (x.unbind(0) for x in (slope_gates, slope_n, slope_inner, z))
    gates_of_hs, n_of_hs, to_gates, to_n, to_h = (x.unbind(0) for x in (gates_of_h, n_of_h, to_gates, to_n, grad_of_h))
    of_each = [list(zip(*(s.unbind(0) for s in pair), strict=True)) for pair in statistics.chunk(2)]

    def step(t: int, grads: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        (grad_h,) = grads
        of_n[t].mul_(grad_h)
        both[t].mul_(grad_h.unsqueeze(1))
        of_inner[t].mul_(grad_h)
        to_gates[t].copy_(norm_gradients(of_gates[t], gates_of_hs[t], of_each[0][t], gain_gates, "v")[0])
        to_n[t].copy_(norm_gradients(of_inner[t], n_of_hs[t], of_each[1][t], gain_n, "v")[0])
        return product(to_h[t], weight_hh), [grad_h.mul_(zs[t])]

    def finish() -> tuple[Tensor | None, ...]:
        of_x = [
            norm_gradients(grad, value, tuple(pair), gain, "vgb")
            for grad, value, pair, gain in zip(
                (slope_gates, slope_n),
                (gates_of_x, n_of_x),
                (statistics_x[:2], statistics_x[2:]),
                _parts(gain_ih),
                strict=True,
            )
        ]
        grad_of_x, grad_gain_ih, grad_bias = (torch.cat(pair, -1) for pair in zip(*of_x, strict=True))
        of_h = zip((slope_gates, slope_inner), (gates_of_h, n_of_h), statistics.chunk(2), _parts(gain_hh), strict=True)
        grad_gain_hh = [norm_gradients(grad, value, tuple(pair), gain, "g")[1] for grad, value, pair, gain in of_h]
        grad_inputs, grad_ih, _ = input_gradients(grad_of_x, inputs, weight_ih, None)
        return (
            grad_inputs,
            grad_ih,
            weight_gradient(reads, grad_of_h),
            grad_gain_ih,
            torch.cat(grad_gain_hh),
            None if bias is None else grad_bias,
        )

    return step, finish


_KERNEL = Kernel(("weight_ih", "weight_hh", "gain_ih", "gain_hh", "bias"), _forward, _backward)
