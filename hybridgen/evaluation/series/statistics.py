"""What two sets of series share without any network: correlations, autocorrelation, mean discrepancy.

With autocorrelations, generated series were compared by Wiese et al. 2020, "Quant GANs", arXiv:1907.06673.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybridgen.evaluation.series.inputs import as_pair, as_series, check_counts


def correlational_score(real: Any, fake: Any) -> float:
    """Difference of the correlations between features: 0 is best.

    ``sum over i >= j |corr_ij(real) - corr_ij(fake)| / 10`` with correlations over all series and steps: the
    correlational score of Diffusion-TS's code (Yuan & Qiao 2024, arXiv:2403.01742; from Ni et al. 2020,
    arXiv:2006.05421), which takes the mean of it over five random subsets of 1,000; here it is of all series.

    Args:
        real: ``(N, T, F)``.
        fake: ``(M, T, F)``.

    Raises:
        ValueError: if a shape does not fit.
    """
    real, fake = as_pair(real, fake)
    difference = (_correlations(real) - _correlations(fake)).abs()
    return float(difference.tril().sum() / 10)


def _correlations(series: Tensor) -> Tensor:
    """Correlations ``(F, F)`` over all series and steps; 0 with a feature that is constant."""
    rows = series.flatten(0, 1).double()
    rows = rows - rows.mean(0)
    deviation = rows.square().mean(0).sqrt()
    rows = torch.where(deviation > 1e-12, rows / deviation.clamp(min=1e-12), 0.0)
    return rows.T @ rows / len(rows)


def autocorrelation(series: Any, *, max_lag: int = 64) -> Tensor:
    """Autocorrelation of each feature at lags 1 to ``max_lag``, at most T - 1: ``(lags, F)``.

    Series are centred and scaled by mean and variance over the whole set, so that what differs between series counts.

    Args:
        series: ``(N, T, F)``, T at least 2.
        max_lag: the longest lag.

    Raises:
        ValueError: if the shape or the lag does not fit.
    """
    series = as_series(series, "series").double()
    check_counts(max_lag=max_lag)
    if series.shape[1] < 2:
        raise ValueError("a series of one step has no autocorrelation: give at least 2 steps")
    centred = series - series.mean((0, 1))
    variance = centred.square().mean((0, 1)).clamp(min=1e-24)
    lags = range(1, min(max_lag, series.shape[1] - 1) + 1)
    return torch.stack([(centred[:, lag:] * centred[:, :-lag]).mean((0, 1)) / variance for lag in lags])


def autocorrelation_difference(real: Any, fake: Any, *, max_lag: int = 64) -> float:
    """Mean absolute difference of :func:`autocorrelation` over lags and features: 0 is best."""
    real, fake = as_pair(real, fake)
    return float((autocorrelation(real, max_lag=max_lag) - autocorrelation(fake, max_lag=max_lag)).abs().mean())


class MeanDiscrepancy(NamedTuple):
    """A maximum mean discrepancy.

    Attributes:
        squared: unbiased estimate of MMD^2; about 0, and possibly below, for equal sets.
        bandwidth: sigma of the kernel ``exp(-|x - y|^2 / (2 sigma^2))``.
    """

    squared: float
    bandwidth: float


def mean_discrepancy(
    real: Any, fake: Any, *, bandwidth: float | None = None, most: int = 2000, seed: int = 0
) -> MeanDiscrepancy:
    """Maximum mean discrepancy with a Gaussian kernel between whole series (Gretton et al. 2012).

    Args:
        real: ``(N, T, F)``, N at least 2.
        fake: ``(M, T, F)``, M at least 2.
        bandwidth: sigma; by default the median distance between two real series, which is told with the result.
        most: series of each kind that are compared, drawn at random.
        seed: of that draw.

    Raises:
        ValueError: if a shape or an option does not fit.
    """
    real, fake = as_pair(real, fake)
    if min(len(real), len(fake)) < 2:
        raise ValueError("the mean discrepancy needs at least 2 real and 2 generated series")
    if bandwidth is not None and not bandwidth > 0:
        raise ValueError(f"bandwidth is {bandwidth}: give a number above 0")
    random = np.random.default_rng(seed)
    one, other = (s[torch.from_numpy(random.permutation(len(s))[:most])].flatten(1).double() for s in (real, fake))
    if bandwidth is None:
        bandwidth = float(torch.pdist(one[:1000]).median())
        bandwidth = bandwidth if bandwidth > 0 else 1.0

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a, b).square() / (2 * bandwidth**2))

    def within(a: Tensor) -> Tensor:
        return (kernel(a, a).sum() - len(a)) / (len(a) * (len(a) - 1))

    return MeanDiscrepancy(float(within(one) + within(other) - 2 * kernel(one, other).mean()), bandwidth)
