"""How gradients vanish or explode through time.

    n[k] = mean over rows of || dL / ds[T-k] ||,   s the cell's whole state, L read off its output at step T alone

With a loss at the last step only, this is what Pascanu et al. 2013, arXiv:1211.5063, and Hochreiter & Schmidhuber 1997
look at: each lag multiplies by one more Jacobian of the cell. For an LSTM-like cell the state is its output and its
memory: what flows past the gates is in the memory.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor


def lag_norms(cell: Any, inputs: Tensor, gradient: Tensor, state: Any = None, *, max_lag: int = 64) -> Tensor:
    """Norm of the gradient with respect to the state, for each lag before the last step.

    Noise of training (dropout, zoneout) is left out. The cell's parameters and their gradients are not touched.

    Args:
        cell: a cell, or a stack that is not bidirectional.
        inputs: ``(B, T, I)``, T at least 2.
        gradient: ``(B, H)``, of the loss with respect to the output of the last step.
        state: the state before the first step.
        max_lag: the furthest lag; T - 1 where that is less.

    Returns:
        ``(K + 1,)`` for lags 0 (the gradient given) to K, on the CPU.

    Raises:
        ValueError: if a shape does not fit.
    """
    if inputs.dim() != 3 or inputs.shape[1] < 2 or gradient.dim() != 2 or len(gradient) != len(inputs):
        raise ValueError(
            f"inputs must have shape (B, T, I) with T at least 2, and gradient (B, H), but they have "
            f"{tuple(inputs.shape)} and {tuple(gradient.shape)}"
        )
    lags = min(max_lag, inputs.shape[1] - 1)
    was_training = cell.training
    cell.eval()
    try:
        with torch.autocast(inputs.device.type, enabled=False):
            dtype = next(cell.parameters()).dtype
            inputs, gradient = inputs.detach().to(dtype), gradient.detach().to(dtype)
            if state is not None:
                state = type(state)(*(part.detach().to(dtype) for part in state))
            return _norms(cell, inputs, gradient, state, lags)
    finally:
        cell.train(was_training)


def _norms(cell: Any, inputs: Tensor, gradient: Tensor, state: Any, lags: int) -> Tensor:
    steps = inputs.unbind(1)
    with torch.no_grad():
        _, state = cell(inputs[:, : len(steps) - lags], state)
    walked = []
    for number, step in enumerate(steps[-lags:]):
        # Every state is a leaf, so that its gradient is that of all of it at once: within a step, components of a
        # state depend on each other.
        with torch.enable_grad():
            before = type(state)(*(part.detach().clone().requires_grad_() for part in state))
            output, after = cell.step(step, before)
        walked.append((before, [output] if number == lags - 1 else list(after)))
        state = after
    found = [gradient.norm(dim=1).mean()]
    flowing: list[Tensor | None] = [gradient]
    for before, reached in reversed(walked):
        pairs = [(r, g) for r, g in zip(reached, flowing, strict=True) if g is not None and r.requires_grad]
        inner = torch.autograd.grad([r for r, _ in pairs], list(before), [g for _, g in pairs], allow_unused=True)
        flowing = list(inner)
        squares = [g.square().sum(1) for g in flowing if g is not None]
        found.append(torch.stack(squares).sum(0).sqrt().mean() if squares else gradient.new_zeros(()))
    return torch.stack(found).float().cpu()


def factor_per_step(norms: Tensor) -> float:
    """What one step of lag multiplies the norm by: below 1 gradients vanish, above 1 they explode.

    Args:
        norms: ``(K + 1,)``, of :func:`lag_norms`.

    Returns:
        The exponential of the slope of log norm over lags 1 to K, where the norm is above 0; NaN for fewer than two.
    """
    values = norms[1:].double()
    kept = (values > torch.finfo(torch.float32).tiny) & values.isfinite()
    if int(kept.sum()) < 2:
        return math.nan
    lags = torch.arange(1, len(norms), dtype=torch.float64)[kept]
    logs, lags = values[kept].log(), lags - lags.mean()
    return float(torch.exp((lags * logs).sum() / lags.square().sum()))


def lag_figure(curves: Mapping[str, Tensor], *, title: str) -> Figure:
    """Norm against lag, one line for each cell or layer.

    Args:
        curves: of :func:`lag_norms`, by name.
        title: what it is of.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    draw_lags(figure.subplots(), curves)
    figure.suptitle(title)
    return figure


def draw_lags(axes: Any, curves: Mapping[str, Tensor]) -> None:
    """:func:`lag_figure` into axes."""
    for name, norms in curves.items():
        relative = (norms / norms[0].clamp(min=torch.finfo(norms.dtype).tiny)).numpy()
        axes.plot(range(len(relative)), relative, label=f"{name} (× {factor_per_step(norms):.3g} a step)")
    axes.set(xlabel="lag, steps before the loss", ylabel="norm of the gradient, over that at lag 0")
    if any(bool((norms > 0).any()) for norms in curves.values()):
        axes.set_yscale("log")
    axes.axhline(1.0, color="#a0aec0", linewidth=0.8)
    if curves:
        axes.legend(fontsize="small")
