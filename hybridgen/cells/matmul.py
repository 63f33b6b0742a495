"""Matrix products of the cells: oneDNN where it beats the default BLAS.

A recurrent step is a thin product, ``(B, H) @ (H, G)`` with B of tens, and most of a cell's time is spent in
it. The BLAS behind ``torch.mm`` (MKL in the published wheels) repacks the weight on every call and, on AMD
processors, does not use their widest vector units; oneDNN, which the same wheels carry for convolutions and
for ``nn.LSTM``, was measured 1.8 to 3.5 times faster there (``scripts/benchmark_cells.py --products`` does so on any
machine). The rule, which never depends on a measurement at run time, so that results do not either:

* CPU, float32, oneDNN compiled in and switched on (``torch.backends.mkldnn.flags(enabled=False)`` switches it
  off), and at least ``SMALLEST_ONEDNN_PRODUCT`` multiplications: oneDNN;
* but on processors whose widest vectors are those of AVX2, where the BLAS does use them, only from
  ``FEWEST_ONEDNN_ROWS`` rows on: a thin product by oneDNN was measured 1.0 to 1.9 times slower there (most where rows
  lie whole pages apart), a long one 1.1 times faster;
* everything else (GPU, other types, tiny products such as one generated token): ``torch.mm``.

Both compute the same sums in another order; they agree to float32 rounding.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hybridgen.cells.precision import autocasts, plain_operations_only

#: Multiplications below which setting up a oneDNN call (about 11 microseconds) costs more than it saves.
SMALLEST_ONEDNN_PRODUCT = 500_000
#: Rows from which oneDNN is used where there is no AVX-512.
FEWEST_ONEDNN_ROWS = 512

_ONEDNN_COMPILED_IN = torch.backends.mkldnn.is_available()
_ONEDNN_LINEAR = torch.ops.mkldnn._linear_pointwise.default if _ONEDNN_COMPILED_IN else None
_BLAS_IS_WIDE = torch.backends.cpu.get_cpu_capability() == "AVX2"


def uses_onednn(a: Tensor, b: Tensor) -> bool:
    """Whether :func:`product` of ``a (M, K)`` and ``b (K, N)`` is done by oneDNN (the rule above)."""
    return (
        _ONEDNN_COMPILED_IN
        and a.dtype is torch.float32
        and b.dtype is torch.float32
        and a.device.type == "cpu"
        and a.shape[0] * b.numel() >= SMALLEST_ONEDNN_PRODUCT
        and (a.shape[0] >= FEWEST_ONEDNN_ROWS or not _BLAS_IS_WIDE)
        and torch.backends.mkldnn.enabled
    )


def _dense(matrix: Tensor) -> Tensor:
    """The matrix with its rows or columns side by side: oneDNN takes others by a reference loop, 100 times slower."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """``a (M, K) @ b (K, N) + bias (N)`` without a gradient; fastest when ``b`` is contiguous."""
    if uses_onednn(a, b):
        return _ONEDNN_LINEAR(_dense(a), _dense(b).t(), bias, "none", [], "")
    return torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)


def add_product_(out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``out (M, N) += a (M, K) @ b (K, N)`` in place, without a gradient."""
    if uses_onednn(a, b):
        return out.add_(_ONEDNN_LINEAR(_dense(a), _dense(b).t(), None, "none", [], ""))
    return out.addmm_(a, b)


def product_to(out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``a (M, K) @ b (K, N)`` written to ``out (M, N)``, without a gradient."""
    if uses_onednn(a, b):
        return out.copy_(_ONEDNN_LINEAR(_dense(a), _dense(b).t(), None, "none", [], ""))
    return torch.mm(a, b, out=out)


def product_into(
    weight: Tensor, cut: Callable[[Tensor], tuple[Tensor, ...]]
) -> Callable[[Tensor, Tensor], tuple[Tensor, tuple[Tensor, ...]]]:
    """Products of few rows with one weight, again and again, into one buffer of which the parts are cut beforehand.

    Args:
        weight: ``(K, N)``, contiguous.
        cut: ``(M, N) ->`` the parts that are wanted, as views.

    Returns:
        ``(rows (M, K), added (M, N) or (N,)) -> (rows @ weight + added (M, N), its parts)``, without a gradient. The
        next call writes over them; one thread may call it at a time.
    """
    # Where rows lie whole pages apart, oneDNN was measured twice as slow as torch.mm.
    by_mm = weight.shape[1] % 1024 == 0
    buffer, views = weight.new_empty(0, weight.shape[1]), ()

    def run(rows: Tensor, added: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        nonlocal buffer, views
        if buffer.shape[0] != rows.shape[0]:
            # Not of inference mode, which would keep it from being written to anywhere else.
            with torch.inference_mode(False):
                buffer = weight.new_empty(rows.shape[0], weight.shape[1])
                views = cut(buffer)
        if by_mm or not uses_onednn(rows, weight):
            torch.addmm(added, rows, weight, out=buffer)
        else:
            torch.add(product(rows, weight), added, out=buffer)
        return buffer, views

    return run


def weight_gradient(inputs: Tensor, grad_outputs: Tensor) -> Tensor:
    """Gradient of ``weight (O, I)`` in ``outputs = inputs @ weight.T``, as one product over all rows.

    Args:
        inputs: ``(..., I)``.
        grad_outputs: ``(..., O)``.

    Returns:
        ``(O, I)``; computed as ``inputs.T @ grad_outputs`` and transposed, the orientation that reads both
        operands along their rows.
    """
    return product(inputs.flatten(0, -2).t(), grad_outputs.flatten(0, -2)).t()


def input_product(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``inputs (T, B, I) @ weight (O, I).T + bias (O)`` without a gradient: ``(T, B, O)``."""
    return product(inputs.flatten(0, 1), weight.t(), bias).unflatten(0, inputs.shape[:2])


def input_gradients(
    grad_gates: Tensor, inputs: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of the inputs, weight and bias of :func:`input_product` from ``grad_gates (T, B, O)``."""
    grad_inputs = product(grad_gates.flatten(0, 1), weight).unflatten(0, inputs.shape[:2])
    grad_bias = None if bias is None else grad_gates.sum((0, 1))
    return grad_inputs, weight_gradient(inputs, grad_gates), grad_bias


class _Linear(torch.autograd.Function):
    """``rows (N, I) @ weight (O, I).T + bias`` by :func:`product`, with gradients of every order."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.has_bias = bias is not None
        return product(rows, weight.t(), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        grad_bias = grad.sum(0) if ctx.has_bias else None
        if torch.is_grad_enabled():
            return _multiply(grad, weight), _multiply(rows.t(), grad).t(), grad_bias
        grad_rows = product(grad, weight) if ctx.needs_input_grad[0] else None
        grad_weight = weight_gradient(rows, grad) if ctx.needs_input_grad[1] else None
        return grad_rows, grad_weight, grad_bias


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """``a (M, K) @ b (K, N)`` under autograd."""
    return _Linear.apply(a, b.t(), None)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``inputs (..., I) @ weight (O, I).T + bias (O)``, differentiable any number of times.

    Under autocast, under ``torch.compile`` and wherever the rule above says ``torch.mm``, this is
    ``torch.nn.functional.linear``.
    """
    if plain_operations_only() or autocasts(inputs.device.type):
        return F.linear(inputs, weight, bias)
    deferral = _DEFERRAL.get()
    if deferral is not None and weight.requires_grad:
        outputs = deferral.multiply(inputs, weight)
        return outputs if bias is None else outputs + bias
    few = inputs.numel() * weight.shape[0] < SMALLEST_ONEDNN_PRODUCT
    if few or not uses_onednn(rows := inputs.flatten(0, -2), weight.t()):
        return F.linear(inputs, weight, bias)
    return _Linear.apply(rows, weight, bias).unflatten(0, inputs.shape[:-1])


@contextlib.contextmanager
def weight_gradients_at_the_end() -> Iterator[None]:
    """Inside, every :func:`linear` with the same weight adds to one weight gradient, taken as one product.

    Under plain autograd a weight used at T steps gets T gradients of its full size, each a thin product, added
    up one by one; that is most of the cost of a recurrent loop.
    """
    token = _DEFERRAL.set(_Deferral())
    try:
        yield
    finally:
        _DEFERRAL.reset(token)


class _Deferral:
    """The weights that were used inside one :func:`weight_gradients_at_the_end`."""

    def __init__(self) -> None:
        self.weights: dict[int, tuple[Tensor, Tensor, list]] = {}  # by id: weight, its collected alias, uses

    def multiply(self, inputs: Tensor, weight: Tensor) -> Tensor:
        if id(weight) not in self.weights:
            uses: list[tuple[int, Tensor, Tensor]] = []
            self.weights[id(weight)] = (weight, _Collect.apply(weight, uses), uses)
        _, alias, uses = self.weights[id(weight)]
        return _Use.apply(inputs, alias, uses)


class _Collect(torch.autograd.Function):
    """The weight itself; its gradient is that of all its uses together."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, uses: list[tuple[int, Tensor, Tensor]]) -> Tensor:
        ctx.uses = uses
        ctx.set_materialize_grads(False)
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None]:
        # Only what this very backward pass left: an earlier one may have asked for other gradients.
        task = torch._C._current_graph_task_id()
        mine = [(inputs, grads) for number, inputs, grads in ctx.uses if number == task]
        ctx.uses.clear()
        if mine:
            inputs, grads = (torch.cat(part) for part in zip(*mine, strict=True))
            collected = weight_gradient(inputs, grads)
            grad = collected if grad is None else grad + collected
        return grad, None


class _Use(torch.autograd.Function):
    """One product with a collected weight."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, uses: list) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.uses = uses
        return product(inputs.flatten(0, -2), weight.t()).unflatten(0, inputs.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        rows, grad_rows = inputs.flatten(0, -2), grad.flatten(0, -2)
        if torch.is_grad_enabled():
            # Asked for a graph of the gradient: nothing is left for later.
            return _multiply(grad_rows, weight).view_as(inputs), _multiply(rows.t(), grad_rows).t(), None
        # Left only if this pass goes on to the weight, detached: otherwise nobody would ever collect it.
        if torch._C._will_engine_execute_node(ctx.next_functions[1][0]):
            ctx.uses.append((torch._C._current_graph_task_id(), rows.detach(), grad_rows))
        grad_inputs = product(grad_rows, weight).view_as(inputs) if ctx.needs_input_grad[0] else None
        return grad_inputs, None, None


_DEFERRAL: ContextVar[_Deferral | None] = ContextVar("deferral", default=None)
