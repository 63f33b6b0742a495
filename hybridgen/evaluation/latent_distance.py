"""How far two sets of latents are from one distribution."""

import torch
from torch import Tensor


@torch.no_grad()
def energy_distance(one: Tensor, other: Tensor, *, chunk_size: int = 1024) -> float:
    """The energy distance of two distributions, estimated without bias from a sample of each.

        2 E|x - y| - E|x - x'| - E|y - y'|

    Zero only where the distributions are the same, and in the unit of the latents; an estimate can be a little below
    zero. Szekely & Rizzo 2013, "Energy statistics".

    Args:
        one: ``(N, D)``, N at least 2.
        other: ``(M, D)``, M at least 2.
        chunk_size: rows compared with all others at a time; decides the memory, not the result.

    Raises:
        ValueError: if a shape does not fit.
    """
    if one.dim() != 2 or other.dim() != 2 or one.shape[1] != other.shape[1] or min(len(one), len(other)) < 2:
        raise ValueError(
            f"both sets of latents must be (N, D) with N at least 2 but are {list(one.shape)} and {list(other.shape)}"
        )
    one, other = one.double(), other.double()

    def total(a: Tensor, b: Tensor) -> float:
        return sum(float(torch.cdist(piece, b).sum()) for piece in a.split(chunk_size))

    n, m = len(one), len(other)
    within = total(one, one) / (n * (n - 1)) + total(other, other) / (m * (m - 1))
    return 2 * total(one, other) / (n * m) - within
