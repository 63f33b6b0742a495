"""Elementwise functions whose gradient is written by hand: fewer passes over memory than autograd's chain needs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridgen.cells.precision import plain_operations_only


class Function(NamedTuple):
    """A function said twice.

    Attributes:
        plain: ``(*inputs) -> outputs`` in torch's operations: what second derivatives and tracing see.
        forward: ``(*inputs) -> (outputs, saved)``, outside autograd.
        backward: ``(saved, inputs, gradients of the outputs) -> gradients of the inputs``.
    """

    plain: Callable[..., tuple[Tensor, ...]]
    forward: Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]
    backward: Callable[..., tuple[Tensor, ...]]


def apply(function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
    """The outputs of a function said twice, by the better way of saying it.

    Inputs and outputs have whatever shapes the function takes and gives; both ways give the same.
    """
    if plain_operations_only() or not torch.is_grad_enabled():
        return function.plain(*inputs)
    return _ByHand.apply(function, *inputs)


class _ByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs, saved = function.forward(*inputs)
        ctx.function, ctx.number = function, len(saved)
        ctx.save_for_backward(*saved, *inputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, inputs = ctx.saved_tensors[: ctx.number], ctx.saved_tensors[ctx.number :]
        if not torch.is_grad_enabled():
            return (None, *ctx.function.backward(saved, inputs, grads))
        # A graph of the gradient is asked for: take it through the plain operations.
        aliases = [x.view_as(x) for x in inputs]
        wanted = [x for x in aliases if x.requires_grad]
        outputs = ctx.function.plain(*aliases)
        found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=True, allow_unused=True))
        return (None, *(next(found) if x.requires_grad else None for x in aliases))
