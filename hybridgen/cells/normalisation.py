"""Layer normalisation of the cells, and its gradient for those that are written by hand."""

import torch
from torch import Tensor
from torch.nn import functional as F

#: Added to the variance before its root, as torch.nn.LayerNorm does.
EPSILON = 1e-5


def layer_norm(value: Tensor, gain: Tensor, bias: Tensor | None = None) -> Tensor:
    """Normalise ``(..., H)`` over the last dimension, then scale by ``gain (H,)`` and shift by ``bias (H,)``.

    Ba et al. 2016, arXiv:1607.06450.
    """
    return F.layer_norm(value, value.shape[-1:], gain, bias, EPSILON)


def norm_gradients(
    grad: Tensor, value: Tensor, statistics: tuple[Tensor, ...], gain: Tensor, wanted: str
) -> tuple[Tensor | None, ...]:
    """Gradients of a normalisation of ``value (..., H)``, by hand.

    Args:
        grad: of what it gave, ``(..., H)``.
        value: what was normalised.
        statistics: its mean and inverse standard deviation, ``(..., 1)`` each, as of ``torch.native_layer_norm``.
        gain: ``(H,)``.
        wanted: the first letters of those that are wanted, of ``value``, ``gain`` and ``bias``.

    Returns:
        The three gradients, None for those not wanted.
    """
    mask = [letter in wanted for letter in "vgb"]
    # torch gives a bias gradient only where it is handed a bias; its value does not matter.
    return torch.ops.aten.native_layer_norm_backward(grad, value, value.shape[-1:], *statistics, gain, gain, mask)
