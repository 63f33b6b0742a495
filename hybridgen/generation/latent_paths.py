"""Ways through a latent space: interpolation, attribute vectors, nearest neighbours. Functions of tensors alone."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PATHS = ("slerp", "lerp")
METRICS = ("cosine", "euclidean")

#: Below this sine an arc is as good as its chord (the two differ by its square).
_STRAIGHT = 1e-4


def lerp(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """The straight line from one latent to another.

    Args:
        start: ``(D,)``.
        end: ``(D,)``.
        steps: points on it, both ends included; at least 2.

    Returns:
        ``(steps, D)``; the first row is ``start`` and the last ``end``.

    Raises:
        ValueError: if the shapes differ or there are fewer than 2 steps.
    """
    _check_ends(start, end, steps)
    fraction = _fractions(start, steps)
    return torch.lerp(start.expand(steps, -1), end.expand(steps, -1), fraction)


def slerp(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """The great arc from one latent to another (Shoemake 1985, "Animating rotation with quaternion curves").

    The direction turns by equal angles while the length goes straight from one norm to the other, so that the points
    between two draws from a Gaussian prior are as far from the origin as draws are; for equal norms it is Shoemake's
    formula. Where an arc is no different from the line it is :func:`lerp`: parallel latents, and those of length zero,
    which have no direction of their own and take the other's.

    Args:
        start: ``(D,)``.
        end: ``(D,)``.
        steps: points on it, both ends included; at least 2.

    Returns:
        ``(steps, D)``; the first row is ``start`` and the last ``end``.

    Raises:
        ValueError: if the shapes differ, there are fewer than 2 steps, or the latents point in opposite directions:
            then no arc is the shortest.
    """
    _check_ends(start, end, steps)
    a, b = start.double(), end.double()
    norms = a.norm(), b.norm()
    if not norms[0] or not norms[1]:
        return lerp(start, end, steps)
    directions = a / norms[0], b / norms[1]
    # The half-angle formula is exact for small angles, where arccos of the cosine is not.
    angle = 2 * torch.atan2((directions[0] - directions[1]).norm(), (directions[0] + directions[1]).norm())
    if torch.sin(angle) < _STRAIGHT:
        if torch.cos(angle) < 0:
            raise ValueError(
                "the two latents point in opposite directions, between which no arc is the shortest: use lerp"
            )
        return lerp(start, end, steps)
    fraction = _fractions(a, steps)
    turned = torch.sin((1 - fraction) * angle) * directions[0] + torch.sin(fraction * angle) * directions[1]
    points = torch.lerp(norms[0], norms[1], fraction) * turned / torch.sin(angle)  # (steps, D)
    points[0], points[-1] = a, b
    return points.to(start.dtype)


def path_between(start: Tensor, end: Tensor, steps: int, path: Literal["slerp", "lerp"] = "slerp") -> Tensor:
    """:func:`slerp` or :func:`lerp` by name.

    Raises:
        ValueError: if there is no such path, or the latents or steps do not fit.
    """
    if path not in PATHS:
        raise ValueError(f"path is {path!r}: choose one of {', '.join(PATHS)}")
    return (slerp if path == "slerp" else lerp)(start, end, steps)


def attribute_vector(plus: Tensor, minus: Tensor) -> Tensor:
    """From what lacks an attribute to what has it: the difference of the two means.

    Args:
        plus: ``(N, D)`` latents of examples that have it; N at least 1.
        minus: ``(M, D)`` latents of examples that lack it; M at least 1.

    Returns:
        ``(D,)``, to be added to latents (Mikolov et al. 2013; for sentences Shen et al. 2020, arXiv:1905.12777).

    Raises:
        ValueError: if there is no example on one side, or the sizes differ.
    """
    for name, latents in (("plus", plus), ("minus", minus)):
        if latents.dim() != 2 or not len(latents):
            raise ValueError(f"{name} must have shape (N, D) with N at least 1 but has {list(latents.shape)}")
    if plus.shape[1] != minus.shape[1]:
        raise ValueError(f"plus has latents of size {plus.shape[1]} and minus of size {minus.shape[1]}: give one size")
    return plus.mean(0) - minus.mean(0)


class Neighbours(NamedTuple):
    """The nearest rows of a corpus, nearest first.

    Attributes:
        indices: ``(K,)`` int64 rows of the corpus.
        distances: ``(K,)``, 1 - cosine, or the Euclidean distance.
    """

    indices: Tensor
    distances: Tensor


def nearest(query: Tensor, corpus: Tensor, k: int, *, metric: Literal["cosine", "euclidean"] = "cosine") -> Neighbours:
    """The k latents of a corpus that are nearest to one.

    Args:
        query: ``(D,)``.
        corpus: ``(N, D)``.
        k: how many, 1 to N.
        metric: ``cosine`` (direction alone; a latent of length zero is at distance 1 from all) or ``euclidean``.

    Raises:
        ValueError: if k is not in 1 to N, there is no such metric, or the shapes do not fit.
    """
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}: choose one of {', '.join(METRICS)}")
    if query.dim() != 1 or corpus.dim() != 2 or corpus.shape[1] != len(query):
        raise ValueError(f"query must be (D,) and corpus (N, D) but are {list(query.shape)} and {list(corpus.shape)}")
    if not 1 <= k <= len(corpus):
        raise ValueError(f"k is {k}: give 1 to {len(corpus)}, the sentences there are")
    query, corpus = query.double(), corpus.double()
    if metric == "cosine":
        distances = 1 - F.cosine_similarity(query, corpus, dim=1)
    else:
        distances = (corpus - query).norm(dim=1)
    # A stable sort: of equal distances the first in the corpus is the nearer.
    ordered, indices = distances.sort(stable=True)
    return Neighbours(indices[:k], ordered[:k])


def _fractions(like: Tensor, steps: int) -> Tensor:
    return torch.linspace(0, 1, steps, dtype=like.dtype, device=like.device).unsqueeze(1)  # (steps, 1)


def _check_ends(start: Tensor, end: Tensor, steps: int) -> None:
    if start.dim() != 1 or start.shape != end.shape:
        raise ValueError(f"start and end must both be (D,) but are {list(start.shape)} and {list(end.shape)}")
    if steps < 2:
        raise ValueError(f"steps is {steps}: give at least 2, the two ends")
