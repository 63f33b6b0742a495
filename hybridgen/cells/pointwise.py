"""Elementwise pieces of the cells; those of the hand-written kernels work in place or into buffers."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hybridgen.cells.precision import plain_operations_only


@functools.cache
def _scalar(value: float, dtype: torch.dtype) -> Tensor:
    # A tensor without dimensions on the CPU combines with tensors on any device.
    return torch.tensor(value, dtype=dtype, device="cpu")


def by_sigmoid(like: Tensor) -> bool:
    """Whether tanh of a tensor of any shape is taken as ``2 sigmoid(2x) - 1``: on a CPU, in float32 and float64.

    There torch's sigmoid is 4 to 8 times faster than its tanh. The error is one unit in the last place of 1, which in
    16 bits would drown small values.
    """
    return like.device.type == "cpu" and like.dtype in (torch.float32, torch.float64)


def doubling(like: Tensor) -> int:
    """What the argument of a tanh is multiplied by ahead of time for :func:`tanh_of_doubled_`."""
    return 2 if by_sigmoid(like) else 1


def tanh_of_doubled_(value: Tensor) -> Tensor:
    """tanh in place, of an argument that was multiplied by :func:`doubling`."""
    return _from_sigmoid_(value.sigmoid_()) if by_sigmoid(value) else value.tanh_()


def lstm_gates_(gates: Tensor) -> Callable[[int], None]:
    """For ``gates (T, B, 4H)`` in the order i, f, g, o: what activates those of step t in place.

    g must have been multiplied by :func:`doubling`; then one sigmoid serves all four.
    """
    *_, g, o = (gate.unbind(0) for gate in gates.chunk(4, -1))
    if by_sigmoid(gates):
        all_four = gates.unbind(0)

        def activate(t: int) -> None:
            all_four[t].sigmoid_()
            _from_sigmoid_(g[t])
    else:
        i_and_f = gates[..., : gates.shape[-1] // 2].unbind(0)

        def activate(t: int) -> None:
            i_and_f[t].sigmoid_()
            g[t].tanh_()
            o[t].sigmoid_()

    return activate


def _from_sigmoid_(value: Tensor) -> Tensor:
    """Turn ``sigmoid(2x)`` into ``tanh(x)`` in place."""
    return torch.add(_scalar(-1.0, value.dtype), value, alpha=2, out=value)


def tanh_to(out: Tensor, value: Tensor) -> Tensor:
    """``tanh(value)`` into ``out``."""
    if not by_sigmoid(value):
        return torch.tanh(value, out=out)
    return _from_sigmoid_(torch.mul(value, 2, out=out).sigmoid_())


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        result = _from_sigmoid_(torch.mul(value, 2).sigmoid_())
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(grad, result)  # differentiable itself


def tanh(value: Tensor) -> Tensor:
    """The hyperbolic tangent of any shape under autograd, the fastest way; differentiable any number of times."""
    return _Tanh.apply(value) if by_sigmoid(value) and not plain_operations_only() else torch.tanh(value)


def sigmoid_slope(factor: Tensor, activation: Tensor, out: Tensor) -> Tensor:
    """``factor * s * (1 - s)`` into ``out``, where ``s`` is the sigmoid's value."""
    return torch.ops.aten.sigmoid_backward.grad_input(factor, activation, grad_input=out)


def tanh_slope(factor: Tensor, activation: Tensor, out: Tensor) -> Tensor:
    """``factor * (1 - y * y)`` into ``out``, where ``y`` is the tanh's value."""
    return torch.ops.aten.tanh_backward.grad_input(factor, activation, grad_input=out)


def lstm_slopes(gates: Tensor, previous_c: Tensor, tanh_c: Tensor) -> Tensor:
    """Slopes of the activated gates i, f, g, o of an LSTM, each times what it multiplies.

    Args:
        gates: ``(T, B, 4H)`` after activation.
        previous_c: ``(T, B, H)``, the cell state before each step.
        tanh_c: ``(T, B, H)``, what the output gate multiplies.

    Returns:
        ``(T, B, 4H)``: times the gradient of c (for o: of h) they are the gradient before activation.
    """
    i, f, g, o = gates.chunk(4, -1)
    slopes = torch.empty_like(gates)
    of_i, of_f, of_g, of_o = slopes.chunk(4, -1)
    sigmoid_slope(g, i, out=of_i)
    sigmoid_slope(previous_c, f, out=of_f)
    tanh_slope(i, g, out=of_g)
    sigmoid_slope(tanh_c, o, out=of_o)
    return slopes


def lstm_forward(gates: Tensor) -> tuple[Tensor, Callable[[int, Tensor, Tensor, Tensor], None]]:
    """For ``gates (T, B, 4H)`` in the order i, f, g, o: an LSTM's step from the sums before activation.

    Returns:
        tanh of c, ``(T, B, H)``, which the steps fill; and ``(t, previous c, h, c) -> None``, which activates the gates
        of step t in place (g must have been multiplied by :func:`doubling`) and writes h and c, ``(B, H)`` each.
    """
    activate_ = lstm_gates_(gates)
    tanh_c = gates.new_empty(*gates.shape[:2], gates.shape[-1] // 4)
    tanh_cs = tanh_c.unbind(0)
    i, f, g, o = (gate.unbind(0) for gate in gates.chunk(4, -1))

    def step(t: int, previous_c: Tensor, h: Tensor, c: Tensor) -> None:
        activate_(t)
        torch.mul(f[t], previous_c, out=c).addcmul_(i[t], g[t])
        torch.mul(o[t], tanh_to(tanh_cs[t], c), out=h)

    return tanh_c, step


def lstm_backward(
    gates: Tensor, previous_c: Tensor, tanh_c: Tensor
) -> tuple[Tensor, Callable[[int, Tensor, Tensor], Tensor]]:
    """The way back of :func:`lstm_forward`; arguments as of :func:`lstm_slopes`.

    Returns:
        The slopes ``(T, B, 4H)``, of which each step makes the gradient before activation; and
        ``(t, gradient of h, gradient of c) -> gradient of the c before``, ``(B, H)`` each, the last in place.
    """
    _, f, _, o = gates.chunk(4, -1)
    slopes = lstm_slopes(gates, previous_c, tanh_c)
    of_c = tanh_slope(o, tanh_c, out=torch.empty_like(tanh_c)).unbind(0)  # d h / d c
    of_o, fs = slopes.chunk(4, -1)[3].unbind(0), f.unbind(0)
    of_ifg = slopes.unflatten(-1, (4, -1))[:, :, :3].unbind(0)  # (B, 3, H)

    def step(t: int, grad_h: Tensor, grad_c: Tensor) -> Tensor:
        grad_c.addcmul_(grad_h, of_c[t])
        of_o[t].mul_(grad_h)
        of_ifg[t].mul_(grad_c.unsqueeze(1))
        return grad_c.mul_(fs[t])

    return slopes, step


def checked_activation(name: str) -> str:
    """``name``, if it is an activation that the simple cells know.

    Raises:
        ValueError: if it is not.
    """
    if name not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity is {name!r}: choose 'tanh' or 'relu'")
    return name


def activation(name: str, value: Tensor) -> Tensor:
    """tanh or relu of any shape, under autograd."""
    return torch.tanh(value) if name == "tanh" else torch.relu(value)


def activate_(name: str, value: Tensor) -> Tensor:
    """tanh or relu of any shape, in place."""
    return tanh_to(value, value) if name == "tanh" else value.relu_()


def slope(name: str, activated: Tensor) -> Tensor:
    """The derivative of tanh or relu from its value of any shape, in a new tensor."""
    return 1 - activated * activated if name == "tanh" else (activated > 0).to(activated.dtype)
