"""Series that need no file: sines and autoregressive Gaussians, as Yoon et al. (2019) published them.

J. Yoon, D. Jarrett, M. van der Schaar, "Time-series generative adversarial networks", NeurIPS 2019.
"""

from __future__ import annotations

import numpy as np

from hybridgen.data.errors import DataError, check_count, check_drawn
from hybridgen.data.series_table import SeriesTable

SYNTHETIC = ("sines", "sines_paper", "ar_gaussian")


def sines(number: int, length: int, num_features: int, seed: int) -> np.ndarray:
    """Return `(number, length, num_features)` sines as the authors' code draws them, in 0 to 1.

    Each feature of each series is ``(sin(frequency * t + phase) + 1) / 2`` at ``t = 0, 1, ...`` with frequency and
    phase uniform in 0 to 0.1. The figures in later papers are on this version: ``data_loading.py`` of the authors.
    """
    generator = np.random.default_rng(seed)
    frequency = generator.uniform(0, 0.1, (number, 1, num_features))
    phase = generator.uniform(0, 0.1, (number, 1, num_features))
    return (np.sin(frequency * np.arange(length)[:, None] + phase) + 1) / 2


def sines_paper(number: int, length: int, num_features: int, seed: int) -> np.ndarray:
    """Return `(number, length, num_features)` sines as the paper's text describes them, in -1 to 1.

    ``sin(2 pi frequency t + phase)`` with the frequency uniform in 0 to 1 and the phase in -pi to pi.
    """
    generator = np.random.default_rng(seed)
    frequency = generator.uniform(0, 1, (number, 1, num_features))
    phase = generator.uniform(-np.pi, np.pi, (number, 1, num_features))
    return np.sin(2 * np.pi * frequency * np.arange(length)[:, None] + phase)


def ar_gaussian(number: int, length: int, num_features: int, seed: int, *, phi: float, sigma: float) -> np.ndarray:
    """Return `(number, length, num_features)` series of an autoregressive multivariate Gaussian.

    ``x_t = phi x_{t-1} + n_t`` with ``n_t ~ N(0, sigma 1 + (1 - sigma) I)``: phi is how strongly steps hang together,
    sigma how strongly features do. The first step, of which the paper says nothing, is drawn from the stationary
    distribution, so that all steps are alike.

    Raises:
        DataError: ``phi`` is not in 0 to 1 (1 left out), or ``sigma`` gives no covariance.
    """
    if not 0 <= phi < 1:
        raise DataError(f"phi={phi!r} must be at least 0 and below 1: such a series does not grow without bound")
    lowest = -1 / (num_features - 1) if num_features > 1 else -1.0
    if not lowest <= sigma <= 1:
        raise DataError(f"sigma={sigma!r} must be {lowest:.3g} to 1 for {num_features} features to be so correlated")
    generator = np.random.default_rng(seed)
    covariance = sigma * np.ones((num_features, num_features)) + (1 - sigma) * np.eye(num_features)
    levels, axes = np.linalg.eigh(covariance)
    root = axes * np.sqrt(np.maximum(levels, 0))  # (F, F): root @ root.T is the covariance
    noise = generator.standard_normal((number, length, num_features)) @ root.T
    series = np.empty_like(noise)
    series[:, 0] = noise[:, 0] / np.sqrt(1 - phi**2)
    for step in range(1, length):
        series[:, step] = phi * series[:, step - 1] + noise[:, step]
    return series


def synthetic_table(
    source: str, *, number: int, length: int, num_features: int, seed: int, phi: float, sigma: float
) -> SeriesTable:
    """Return one of :data:`SYNTHETIC` as a table of ``number`` series.

    Raises:
        DataError: An option is not as described.
    """
    check_count(number, "num_series")
    check_count(length, "length", 2)
    check_count(num_features, "num_features")
    check_count(seed, "data_seed", 0)
    check_drawn("num_series, length and num_features", number, length, num_features)
    if source == "ar_gaussian":
        check_drawn("the covariances of num_features", num_features, num_features)
        values = ar_gaussian(number, length, num_features, seed, phi=phi, sigma=sigma)
    else:
        values = {"sines": sines, "sines_paper": sines_paper}[source](number, length, num_features, seed)
    rows = values.reshape(number * length, num_features)
    return SeriesTable(
        where=source,
        columns={f"x{feature + 1}": rows[:, feature].copy() for feature in range(num_features)},
        starts=np.arange(number + 1) * length,
        names=[str(series) for series in range(number)],
    )
