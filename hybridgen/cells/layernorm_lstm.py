"""LSTM with layer normalisation of both products and of the cell state.

    i, f, g, o = LN(W x[t]; gain_ih) + LN(U h[t-1]; gain_hh) + b
    c[t] = sigmoid(f) * c[t-1] + sigmoid(i) * tanh(g)
    h[t] = sigmoid(o) * tanh(LN(c[t]; gain_c, bias_c))

LN normalises over all four gates at once. Ba et al. 2016, arXiv:1607.06450, equations 20 to 22.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.cells.base import Cell, HiddenAndCell
from hybridgen.cells.handwritten import Kernel
from hybridgen.cells.initialise import initialise_, set_forget_bias_
from hybridgen.cells.matmul import input_product, linear, product, weight_gradient
from hybridgen.cells.pointwise import sigmoid_slope, tanh_from_sigmoid_, tanh_slope, tanh_to

#: Added to the variance before its root, as torch.nn.LayerNorm does.
EPSILON = 1e-5


class LayerNormLSTM(Cell):
    """LSTM with layer normalisation; gate order (i, f, g, o).

    Args:
        input_size: width I of an input element.
        hidden_size: width H of the state.
        bias: learn a bias for every gate and for the normalised cell state.
        forget_bias: what the forget gate's bias starts at.
    """

    State = HiddenAndCell
    recurrent_weights = ("weight_hh",)
    memory_component = "c"
    variants = ({}, {"bias": False})

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True, forget_bias: float = 1.0) -> None:
        super().__init__(input_size, hidden_size)
        self.forget_bias = forget_bias
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.gain_ih = nn.Parameter(torch.empty(4 * hidden_size))
        self.gain_hh = nn.Parameter(torch.empty(4 * hidden_size))
        self.gain_c = nn.Parameter(torch.empty(hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size)) if bias else None
        self.bias_c = nn.Parameter(torch.empty(hidden_size)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, scheme: str = "orthogonal") -> None:
        """Draw the weights anew; gains start at one."""
        initialise_(self, scheme, gates=4)
        for gain in (self.gain_ih, self.gain_hh, self.gain_c):
            nn.init.ones_(gain)
        set_forget_bias_(self, 1)

    @property
    def kernel(self) -> Kernel:
        """The hand-written mathematics; see :mod:`~hybridgen.cells.handwritten`."""
        return _KERNEL

    def project(self, inputs: Tensor) -> Tensor:
        return layer_norm(linear(inputs, self.weight_ih), self.gain_ih, self.bias)

    def advance(self, projected: Tensor, state: HiddenAndCell, read: Tensor) -> HiddenAndCell:
        i, f, g, o = (projected + layer_norm(linear(read, self.weight_hh), self.gain_hh)).chunk(4, -1)
        c = torch.sigmoid(f) * state.c + torch.sigmoid(i) * torch.tanh(g)
        return HiddenAndCell(torch.sigmoid(o) * torch.tanh(layer_norm(c, self.gain_c, self.bias_c)), c)


def layer_norm(value: Tensor, gain: Tensor, bias: Tensor | None = None) -> Tensor:
    """Normalise over the last dimension, then scale by ``gain`` and shift by ``bias``."""
    return F.layer_norm(value, value.shape[-1:], gain, bias, EPSILON)


def _statistics(value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised value and, for the backward pass, mean and inverse standard deviation ``(..., 1)``."""
    return torch.native_layer_norm(value, value.shape[-1:], None, None, EPSILON)


def _norm_gradient(grad: Tensor, value: Tensor, mean: Tensor, deviation: Tensor, gain: Tensor) -> Tensor:
    shape, wanted = value.shape[-1:], [True, False, False]
    return torch.ops.aten.native_layer_norm_backward(grad, value, shape, mean, deviation, gain, None, wanted)[0]


def _forward(
    inputs: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    gain_ih: Tensor,
    gain_hh: Tensor,
    gain_c: Tensor,
    bias: Tensor | None,
    bias_c: Tensor | None,
) -> Any:
    hidden = weight_hh.shape[1]
    of_x = input_product(inputs, weight_ih, None)  # (T, B, 4H), before normalisation; so is of_h
    gates = layer_norm(of_x, gain_ih, bias)
    of_h = torch.empty_like(gates)
    recurrent = weight_hh.t().contiguous()  # (H, 4H)
    # tanh(g) is taken as 2 sigmoid(2g) - 1, so that one call serves all four gates.
    candidate = slice(2 * hidden, 3 * hidden)
    gates[..., candidate] *= 2
    gain = gain_hh.clone()
    gain[candidate] *= 2
    cells = gates.new_empty(*gates.shape[:2], hidden)
    tanh_c = torch.empty_like(cells)
    per_step, of_hs, cs, tanh_cs = (x.unbind(0) for x in (gates, of_h, cells, tanh_c))
    i, f, g, o = (gate.unbind(0) for gate in gates.chunk(4, -1))

    def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
        h, c = new
        of_hs[t].copy_(product(read, recurrent))
        per_step[t].add_(layer_norm(of_hs[t], gain)).sigmoid_()
        tanh_from_sigmoid_(g[t])
        c.copy_(torch.mul(f[t], previous[1], out=cs[t]).addcmul_(i[t], g[t]))
        torch.mul(o[t], tanh_to(tanh_cs[t], layer_norm(c, gain_c, bias_c)), out=h)

    return step, (gates, of_x, of_h, cells, tanh_c)


def _backward(
    saved: tuple[Tensor, ...],
    inputs: Tensor,
    previous: tuple[Tensor, ...],
    reads: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    gain_ih: Tensor,
    gain_hh: Tensor,
    gain_c: Tensor,
    bias: Tensor | None,
    bias_c: Tensor | None,
) -> Any:
    gates, of_x, of_h, cells, tanh_c = saved
    i, f, g, o = gates.chunk(4, -1)
    slopes = torch.empty_like(gates)
    slope_i, slope_f, slope_g, slope_o = slopes.chunk(4, -1)
    sigmoid_slope(g, i, out=slope_i)
    sigmoid_slope(previous[1], f, out=slope_f)
    tanh_slope(i, g, out=slope_g)
    sigmoid_slope(tanh_c, o, out=slope_o)
    grad_normed = tanh_slope(o, tanh_c, out=torch.empty_like(tanh_c))  # becomes the gradient of LN(c)
    normed_h, *statistics_h = _statistics(of_h)
    normed_c, *statistics_c = _statistics(cells)
    grad_of_h = torch.empty_like(of_h)
    per_step, of_o, fs, of_normed = (x.unbind(0) for x in (slopes, slope_o, f, grad_normed))
    of_hs, cs, grad_of_hs = (x.unbind(0) for x in (of_h, cells, grad_of_h))
    of_ifg = slopes.unflatten(-1, (4, -1))[:, :, :3].unbind(0)  # (B, 3, H)
    norm_h, norm_c = (list(zip(*(s.unbind(0) for s in pair), strict=True)) for pair in (statistics_h, statistics_c))

    def step(t: int, grads: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        grad_h, grad_c = grads
        grad_c.add_(_norm_gradient(of_normed[t].mul_(grad_h), cs[t], *norm_c[t], gain_c))
        of_o[t].mul_(grad_h)
        of_ifg[t].mul_(grad_c.unsqueeze(1))
        grad_of_hs[t].copy_(_norm_gradient(per_step[t], of_hs[t], *norm_h[t], gain_hh))
        return product(grad_of_hs[t], weight_hh), [None, grad_c.mul_(fs[t])]

    def finish() -> tuple[Tensor | None, ...]:
        normed_x, *statistics_x = _statistics(of_x)
        grad_of_x = _norm_gradient(slopes, of_x, *statistics_x, gain_ih)
        return (
            product(grad_of_x.flatten(0, 1), weight_ih).unflatten(0, inputs.shape[:2]),
            weight_gradient(inputs, grad_of_x),
            weight_gradient(reads, grad_of_h),
            (slopes * normed_x).sum((0, 1)),
            (slopes * normed_h).sum((0, 1)),
            (grad_normed * normed_c).sum((0, 1)),
            None if bias is None else slopes.sum((0, 1)),
            None if bias_c is None else grad_normed.sum((0, 1)),
        )

    return step, finish


_KERNEL = Kernel(("weight_ih", "weight_hh", "gain_ih", "gain_hh", "gain_c", "bias", "bias_c"), _forward, _backward)
