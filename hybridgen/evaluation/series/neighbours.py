"""Nearest neighbours: fidelity, diversity, and whether a generator only repeats its training data.

Precision and recall by neighbours: Kynkäänniemi et al. 2019, arXiv:1904.06991; density and coverage: Naeem et al. 2020,
arXiv:2002.09797. The ratio of distances to training and held-out data is this toolkit's own.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridgen.evaluation.series.inputs import as_pair, check_counts

#: Exact differences: the expansion of the square loses the small distances that matter to memorisation.
_EXACT = "donot_use_mm_for_euclid_dist"


class Manifolds(NamedTuple):
    """How the sets of real and of generated points cover each other, each in 0 to 1 (density may be above 1).

    Attributes:
        precision: share of generated points inside a real point's ball (Kynkaanniemi et al. 2019, arXiv:1904.06991).
        recall: share of real points inside a generated point's ball.
        density: mean number of real balls that a generated point is in, over k (Naeem et al. 2020, arXiv:2002.09797).
        coverage: share of real points whose ball holds a generated point.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifolds(
    real: Any, fake: Any, *, k: int = 5, most: int = 5000, seed: int = 0, standardise: bool = True
) -> Manifolds:
    """Precision, recall, density and coverage, by balls that reach to a point's k-th neighbour of its own set.

    Args:
        real: features ``(N, D)``, or series ``(N, T, F)``, which are flattened.
        fake: likewise.
        k: the neighbour that a ball reaches to.
        most: points of each kind, drawn at random.
        seed: of that draw.
        standardise: divide each feature by its own deviation in the real data. False: all by one deviation, for
            features of one unit, such as pixels of images, keys of piano rolls and bands of spectra, where a feature
            that hardly ever varies must not count as much as any other.

    Raises:
        ValueError: if a shape does not fit, or a set has no more than k points.
    """
    real, fake = _points(real, fake, standardise)
    check_counts(k=k, most=most)
    random = torch.Generator().manual_seed(seed)
    real, fake = (p[torch.randperm(len(p), generator=random)[:most]] for p in (real, fake))
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"k is {k}, but there are {len(real)} real and {len(fake)} generated points: give more than k")
    # The nearest of its own set is the point itself, at distance 0.
    real_reach = torch.cdist(real, real).kthvalue(k + 1, 1).values
    fake_reach = torch.cdist(fake, fake).kthvalue(k + 1, 1).values
    between = torch.cdist(real, fake)  # (N, M)
    inside_real = between <= real_reach.unsqueeze(1)
    return Manifolds(
        precision=float(inside_real.any(0).float().mean()),
        recall=float((between <= fake_reach).any(1).float().mean()),
        density=float(inside_real.float().sum(0).mean() / k),
        coverage=float(inside_real.any(1).float().mean()),
    )


class Memorisation(NamedTuple):
    """How close generated series are to the training data, beside how close unseen real series are.

    Attributes:
        ratio: median distance of a generated series to its nearest training series, over that of a held-out real one.
            1: no closer than real life; well below 1: copies of the training data.
        generated: the former distance: Euclidean, per number, of standardised features.
        held_out: the latter.
        copies: share of generated series closer to a training series than all but 1% of the held-out ones are.
    """

    ratio: float
    generated: float
    held_out: float
    copies: float


def memorisation_ratio(train: Any, held_out: Any, fake: Any, *, standardise: bool = True) -> Memorisation:
    """Nearest-neighbour distance to the training data of generated series, over that of held-out real ones.

    What is held out must not overlap the training windows: split by time, not at random.

    Args:
        train: ``(N, T, F)``, what the generator saw.
        held_out: ``(K, T, F)``, real and unseen.
        fake: ``(M, T, F)``.
        standardise: divide each feature by its own deviation in training; False: all by one, as in :func:`manifolds`.

    Raises:
        ValueError: if a shape does not fit, or every held-out series is a copy of a training series.
    """
    points, unseen = _points(train, held_out, standardise)
    generated = _points(train, fake, standardise)[1]
    of_held_out, of_generated = (nearest_distances(p, points) / p.shape[1] ** 0.5 for p in (unseen, generated))
    if float(of_held_out.median()) == 0:
        raise ValueError(
            "the held-out series are copies of training series: split the data so that they do not overlap"
        )
    return _beside(of_generated, of_held_out)


def memorisation_of_windows(
    windows: Any, starts: Any, fake: Any, *, standardise: bool = True, most: int = 2000
) -> Memorisation:
    """The same for windows of one long table that overlap and were all trained on, so that none is held out.

    In place of held-out series stand training windows, each compared with the training windows that share no row with
    it. A generator that only fills in between neighbouring windows has a ratio well below 1 by this measure.

    Args:
        windows: ``(N, T, F)``, what the generator saw.
        starts: ``(N,)`` whole numbers, the row of the table that each window begins at.
        fake: ``(M, T, F)``.
        standardise: as in :func:`memorisation_ratio`.
        most: windows that stand for held-out ones, evenly spread.

    Raises:
        ValueError: if a shape does not fit, or there are no two windows that share no row.
    """
    points, generated = _points(windows, fake, standardise)
    starts = torch.as_tensor(starts)
    if starts.shape != (len(points),):
        raise ValueError(f"starts have shape {list(starts.shape)} for {len(points)} windows: give one row for each")
    chosen = torch.linspace(0, len(points) - 1, min(len(points), most)).long()
    found = []
    for rows in chosen.split(256):
        distances = torch.cdist(points[rows], points, compute_mode=_EXACT)
        overlap = (starts[rows, None] - starts).abs() < windows.shape[1]
        found.append(distances.masked_fill(overlap, torch.inf).amin(1))
    apart = torch.cat(found) / points.shape[1] ** 0.5
    apart = apart[apart.isfinite()]
    if not len(apart) or float(apart.median()) == 0:
        raise ValueError("there are no two windows that share no row and differ: memorisation cannot be measured")
    of_generated = nearest_distances(generated, points) / points.shape[1] ** 0.5
    return _beside(of_generated, apart)


def _beside(of_generated: Tensor, of_real: Tensor) -> Memorisation:
    """Distances of generated series to the training data beside those of real ones, of which the median is not 0."""
    copies = float((of_generated < of_real.quantile(0.01)).float().mean())
    median, usual = float(of_generated.median()), float(of_real.median())
    return Memorisation(median / usual, median, usual, copies)


def nearest_distances(points: Tensor, among: Tensor, *, chunk: int = 1024) -> Tensor:
    """Euclidean distance of each of ``points (M, D)`` to the nearest of ``among (N, D)``: ``(M,)``."""
    return torch.cat([torch.cdist(piece, among, compute_mode=_EXACT).amin(1) for piece in points.split(chunk)])


def _points(real: Any, fake: Any, standardise: bool) -> tuple[Tensor, Tensor]:
    """Both sets as points ``(N, D)``, in standard deviations of the real one: every feature's own, or one of all."""
    if len(real.shape) == 2:
        real, fake = real[:, None], fake[:, None]
    real, fake = as_pair(real, fake)
    deviation = real.std((0, 1) if standardise else (0, 1, 2), correction=0)
    # What is constant has no scale: divided by next to nothing, it alone would decide every distance.
    deviation = torch.where(deviation < 1e-6, 1.0, deviation)
    # Distances by products (torch.cdist of many points) lose what is small beside the distance from the origin.
    centre = real.mean((0, 1))
    return ((real - centre) / deviation).flatten(1), ((fake - centre) / deviation).flatten(1)
