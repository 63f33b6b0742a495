"""Matrices as int8: one scale for each output channel, symmetric, so that 0 stays 0.

    q[o, i] = round(w[o, i] / s[o]),   s[o] = max over i of |w[o, i]| / 127,   w[o, i] ~ s[o] q[o, i]

Weights alone are rounded, with no data to calibrate on (Jacob et al. 2018, arXiv:1712.05877, section 3; Krishnamoorthi
2018, arXiv:1806.08342, on one scale a channel). Biases, gains and whatever is no matrix stay as they are.
"""

from collections.abc import Container, Mapping

import torch
from torch import Tensor

#: What follows a matrix' name in the file, to name its scales.
SCALE = ".int8_scale"
#: Narrower rows would spend more on their scale than they save.
NARROWEST = 16
_LARGEST = 127


def is_matrix(tensor: Tensor) -> bool:
    """Whether a weight (of any shape) is kept as int8: ``(..., O, I)`` with some rows, I at least :data:`NARROWEST`."""
    rows = tensor.numel() // tensor.shape[-1] if tensor.dim() >= 2 and tensor.shape[-1] else 0
    return tensor.is_floating_point() and rows >= 2 and tensor.shape[-1] >= NARROWEST


def quantise(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix as int8 and its scales.

    Args:
        matrix: ``(..., O, I)``; every row of I numbers is a channel.

    Returns:
        int8 ``(..., O, I)`` in -127..127 and float32 ``(..., O)``; rows of zeros have the scale 1.

    Raises:
        ValueError: if a number is not finite.
    """
    matrix = matrix.detach().float()
    largest = matrix.abs().amax(-1)
    if not bool(torch.isfinite(largest).all()):
        raise ValueError("numbers that are not finite have no scale")
    scale = torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest))
    return (matrix / scale.unsqueeze(-1)).round().clamp(-_LARGEST, _LARGEST).to(torch.int8), scale


def dequantise(values: Tensor, scale: Tensor) -> Tensor:
    """float32 ``(..., O, I)`` of int8 ``(..., O, I)`` and scales ``(..., O)``."""
    return values.float() * scale.unsqueeze(-1)


def quantise_weights(tensors: Mapping[str, Tensor], kept: Container[str] = ()) -> dict[str, Tensor]:
    """Weights by name, matrices ``(..., O, I)`` as int8, their scales ``(..., O)`` under their name and :data:`SCALE`.

    Args:
        tensors: the weights.
        kept: names of those that stay as they are: what was counted or measured and not learned.

    Raises:
        ValueError: if a matrix holds a number that is not finite; the message names it.
    """
    written = {}
    for name, tensor in tensors.items():
        if name in kept or not is_matrix(tensor):
            written[name] = tensor
            continue
        try:
            written[name], written[name + SCALE] = quantise(tensor)
        except ValueError:
            raise ValueError(
                f"the weight {name} holds numbers that are not finite, which int8 cannot: export a checkpoint from "
                "before training went wrong"
            ) from None
    return written


def dequantise_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of :func:`quantise_weights`, matrices ``(..., O, I)`` as float32 again; others are left as they are.

    Raises:
        LookupError: if the scales of an int8 matrix are missing, or are those of another one.
    """
    weights = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        if tensor.dtype is torch.int8:
            scale = tensors.get(name + SCALE)
            if scale is None or scale.shape != tensor.shape[:-1]:
                raise LookupError(f"{name} has no scale for each of its rows")
            tensor = dequantise(tensor, scale)
        weights[name] = tensor
    return weights
