"""The Frechet distance between the Gaussians that fit two sets of features, and Context-FID, which is it for series.

    d^2 = |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1^1/2 S_2 S_1^1/2)^1/2)

Heusel et al. 2017, arXiv:1706.08500. Context-FID: Jeha et al. 2022 (PSA-GAN), with features of an encoder that learned
from the real series. Theirs is TS2Vec (Yue et al. 2022, arXiv:2106.10466): ten blocks of dilated convolutions, 320
features. Ours (:mod:`~hybridgen.evaluation.series.context_encoder`) is smaller and trains in seconds: the figure
compares models here, and is never to be set beside a published Context-FID. It depends on the encoder's seed and on the
number of series (fewer give more): compare at the same seed and number, beside the distance between two halves of the
real series.
"""

from typing import Any

import torch
from torch import Tensor

from hybridgen.evaluation.series.context_encoder import train_encoder
from hybridgen.evaluation.series.inputs import as_pair


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Squared Frechet distance between two sets of features.

    Args:
        one: ``(N, D)``, N at least 2.
        other: ``(M, D)``, M at least 2.

    Raises:
        ValueError: if a shape does not fit or a feature is not finite.
    """
    for features in (one, other):
        if features.dim() != 2 or len(features) < 2 or features.shape[1] != one.shape[1]:
            shapes = f"{tuple(one.shape)} and {tuple(other.shape)}"
            raise ValueError(f"features must be (N, D) with N at least 2 and the same D but are {shapes}")
        if not features.isfinite().all():
            raise ValueError("features hold numbers that are not finite")
    one, other = one.double(), other.double()
    mean = (one.mean(0) - other.mean(0)).square().sum()
    first, second = torch.cov(one.T).reshape(one.shape[1], -1), torch.cov(other.T).reshape(one.shape[1], -1)
    root = _root(first)
    # The product's trace by eigenvalues, which rounding can push a little below zero.
    middle = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    return max(0.0, float(mean + first.trace() + second.trace() - 2 * middle))


def context_fid(real: Any, fake: Any, *, iterations: int = 400, features: int = 32, seed: int = 0) -> float:
    """Frechet distance between real and generated series as an encoder of the real ones sees them; 0 is best.

    Args:
        real: ``(N, T, F)``, whole series; many more than ``features`` of them, or the figure says little.
        fake: ``(M, T, F)``.
        iterations: training steps of the encoder.
        features: width D of what it makes of a series.
        seed: of the encoder.

    Raises:
        ValueError: if a shape does not fit.
    """
    real, fake = as_pair(real, fake)
    encoder = train_encoder(real, iterations=iterations, features=features, seed=seed)
    return frechet_distance(encoder.encode(real), encoder.encode(fake))


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
