"""LSTM with layer normalisation of both products and of the cell state.

    i, f, g, o = LN(W x[t]; gain_ih) + LN(U h[t-1]; gain_hh) + b
    c[t] = sigmoid(f) * c[t-1] + sigmoid(i) * tanh(g)
    h[t] = sigmoid(o) * tanh(LN(c[t]; gain_c, bias_c))

LN normalises over all four gates at once. Ba et al. 2016, arXiv:1607.06450, equations 20 to 22.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.cells.base import Cell, HiddenAndCell
from hybridgen.cells.handwritten import Kernel
from hybridgen.cells.initialise import initialise_, set_forget_bias_
from hybridgen.cells.matmul import input_gradients, input_product, linear, product, weight_gradient
from hybridgen.cells.normalisation import EPSILON, layer_norm, norm_gradients
from hybridgen.cells.pointwise import doubling, lstm_gates_, lstm_slopes, tanh_slope, tanh_to


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

    def reset_parameters(self, scheme: str | float = "orthogonal") -> None:
        """Draw the weights anew; gains start at one."""
        initialise_(self, scheme)
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
    gates, *statistics_x = torch.native_layer_norm(of_x, of_x.shape[-1:], gain_ih, bias, EPSILON)
    of_h = torch.empty_like(gates)
    recurrent = weight_hh.t().contiguous()  # (H, 4H)
    candidate = slice(2 * hidden, 3 * hidden)
    gates[..., candidate] *= doubling(gates)
    gain = gain_hh.clone()
    gain[candidate] *= doubling(gates)
    activate_ = lstm_gates_(gates)
    cells = gates.new_empty(*gates.shape[:2], hidden)
    tanh_c = torch.empty_like(cells)
    # Mean and inverse standard deviation of the product with h, then of c, at every step.
    statistics = gates.new_empty(4, *gates.shape[:2], 1)
    per_step, of_hs, cs, tanh_cs = (x.unbind(0) for x in (gates, of_h, cells, tanh_c))
    means_h, deviations_h, means_c, deviations_c = (s.unbind(0) for s in statistics)
    i, f, g, o = (gate.unbind(0) for gate in gates.chunk(4, -1))
    wide, narrow = (4 * hidden,), (hidden,)

    def step(t: int, read: Tensor, previous: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
        h, c = new
        of_hs[t].copy_(product(read, recurrent))
        normed, mean, deviation = torch.native_layer_norm(of_hs[t], wide, gain, None, EPSILON)
        means_h[t].copy_(mean)
        deviations_h[t].copy_(deviation)
        per_step[t].add_(normed)
        activate_(t)
        c.copy_(torch.mul(f[t], previous[1], out=cs[t]).addcmul_(i[t], g[t]))
        normed, mean, deviation = torch.native_layer_norm(c, narrow, gain_c, bias_c, EPSILON)
        means_c[t].copy_(mean)
        deviations_c[t].copy_(deviation)
        torch.mul(o[t], tanh_to(tanh_cs[t], normed), out=h)

    return step, (gates, of_x, of_h, cells, tanh_c, statistics, *statistics_x)


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
    gates, of_x, of_h, cells, tanh_c, statistics, *statistics_x = saved
    _, f, _, o = gates.chunk(4, -1)
    slopes = lstm_slopes(gates, previous[1], tanh_c)
    slope_o = slopes.chunk(4, -1)[3]
    grad_normed = tanh_slope(o, tanh_c, out=torch.empty_like(tanh_c))  # becomes the gradient of LN(c)
    grad_of_h = torch.empty_like(of_h)
    per_step, of_o, fs, of_normed = (x.unbind(0) for x in (slopes, slope_o, f, grad_normed))
    of_hs, cs, grad_of_hs = (x.unbind(0) for x in (of_h, cells, grad_of_h))
    of_ifg = slopes.unflatten(-1, (4, -1))[:, :, :3].unbind(0)  # (B, 3, H)
    of_each_h, of_each_c = (list(zip(*(s.unbind(0) for s in pair), strict=True)) for pair in statistics.chunk(2))

    def step(t: int, grads: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        grad_h, grad_c = grads
        grad_c.add_(norm_gradients(of_normed[t].mul_(grad_h), cs[t], of_each_c[t], gain_c, "v")[0])
        of_o[t].mul_(grad_h)
        of_ifg[t].mul_(grad_c.unsqueeze(1))
        grad_of_hs[t].copy_(norm_gradients(per_step[t], of_hs[t], of_each_h[t], gain_hh, "v")[0])
        return product(grad_of_hs[t], weight_hh), [None, grad_c.mul_(fs[t])]

    def finish() -> tuple[Tensor | None, ...]:
        grad_of_x, grad_gain_ih, grad_bias = norm_gradients(slopes, of_x, tuple(statistics_x), gain_ih, "vgb")
        statistics_h, statistics_c = (tuple(pair) for pair in statistics.chunk(2))
        _, grad_gain_hh, _ = norm_gradients(slopes, of_h, statistics_h, gain_hh, "g")
        _, grad_gain_c, grad_bias_c = norm_gradients(grad_normed, cells, statistics_c, gain_c, "gb")
        grad_inputs, grad_ih, _ = input_gradients(grad_of_x, inputs, weight_ih, None)
        return (
            grad_inputs,
            grad_ih,
            weight_gradient(reads, grad_of_h),
            grad_gain_ih,
            grad_gain_hh,
            grad_gain_c,
            None if bias is None else grad_bias,
            None if bias_c is None else grad_bias_c,
        )

    return step, finish


_KERNEL = Kernel(("weight_ih", "weight_hh", "gain_ih", "gain_hh", "gain_c", "bias", "bias_c"), _forward, _backward)
