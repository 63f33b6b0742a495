"""What samples get of the data's statistics: maps between covariances and between distributions."""

import math

import pytest
import torch

from hybridgen.codecs import FeatureGroup
from hybridgen.models.calibration import Calibration, Maps, gaussian_map, interpolated, levels, quantiles

GROUPS = (
    FeatureGroup("a", "unit", 0, 1),
    FeatureGroup("b", "real", 1, 2),
    FeatureGroup("b", "observed", 2, 3),
    FeatureGroup("c", "categorical", 3, 5),
)


def a_covariance(size, rank, seed):
    factor = torch.randn(size, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return factor @ factor.T


def test_the_map_between_gaussians_moves_the_covariance():
    source, target = a_covariance(5, 9, 0), a_covariance(5, 3, 1)
    matrix = gaussian_map(source, target)
    torch.testing.assert_close(matrix.T @ source @ matrix, target, atol=1e-6, rtol=1e-6)
    # The least change is a symmetric map that turns nothing over; nothing is to do where both are the same.
    torch.testing.assert_close(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-8
    torch.testing.assert_close(gaussian_map(source, source), torch.eye(5).double(), atol=1e-6, rtol=0)


def test_of_the_maps_between_gaussians_it_is_the_nearest():
    source, target = a_covariance(3, 9, 0), a_covariance(3, 9, 1)
    matrix = gaussian_map(source, target)
    cost = torch.trace(source + target - 2 * source @ matrix)
    for seed in range(20):
        # Any other map with this covariance is this one after a rotation in the place where the source is white.
        turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)).double()).Q
        values, axes = torch.linalg.eigh(source)
        other = (axes / values.sqrt()) @ axes.T @ turn @ (axes * values.sqrt()) @ axes.T @ matrix
        torch.testing.assert_close(other.T @ source @ other, target, atol=1e-6, rtol=1e-6)
        assert torch.trace(source + target - 2 * source @ other) >= cost - 1e-9


def test_a_collapsed_generator_is_not_blown_up_beyond_numbers():
    assert gaussian_map(torch.zeros(3, 3), torch.eye(3)).isfinite().all()
    assert gaussian_map(a_covariance(4, 1, 0), a_covariance(4, 4, 1)).isfinite().all()


def test_quantiles_are_those_of_torch():
    numbers = torch.randn(5000, generator=torch.Generator().manual_seed(0)).exp()
    torch.testing.assert_close(quantiles(numbers), torch.quantile(numbers, levels()), atol=1e-3, rtol=1e-4)
    assert quantiles(torch.tensor([2.0])).unique().tolist() == [2.0]


def test_a_distribution_becomes_another_and_keeps_its_order():
    generator = torch.Generator().manual_seed(0)
    made = 3 * torch.randn(20_000, generator=generator) + 7
    # Mostly exactly 0, then tens, as a counter of lamps.
    real = (torch.randn(20_000, generator=generator).clamp(min=0) * 3).round() * 10
    mapped = interpolated(made, quantiles(made), quantiles(real))
    order = made.argsort()
    assert bool((mapped[order].diff() >= 0).all())
    assert math.isclose(float((mapped == 0).float().mean()), float((real == 0).float().mean()), abs_tol=0.01)
    assert float((mapped % 10 < 1e-3).float().mean()) > 0.97
    outside = interpolated(torch.tensor([-1e9, 1e9]), quantiles(made), quantiles(real))
    assert outside.tolist() == [float(real.min()), float(real.max())]


def test_a_distribution_of_a_point_becomes_the_middle_of_its_share():
    """Half of what is generated is exactly 0: it stands for the lower half of the data, not for its lowest value."""
    made = torch.cat([torch.zeros(500), torch.linspace(0.1, 1, 500)])
    real = torch.linspace(10, 20, 1001)
    mapped = interpolated(made, quantiles(made), quantiles(real))
    torch.testing.assert_close(mapped[:500], torch.full((500,), 12.5), atol=0.1, rtol=0)
    torch.testing.assert_close(mapped[500:], torch.linspace(15, 20, 500), atol=0.1, rtol=0)


def test_what_was_never_generated_or_never_real_stays_as_it_is():
    calibration = Calibration(GROUPS, 3)
    values = torch.rand(50, 4, 5)
    values[..., 2] = 1.0
    calibration.observe(torch.randn(50, 3), values, None)
    maps = Maps(calibration, torch.randn(50, 3))
    without = values.clone()
    without[..., 2] = 0.0  # among the samples that maps are made from, b is always missing
    maps.see(without, without, None)
    torch.testing.assert_close(maps.values(values + 3, values)[..., 1], values[..., 1])
    maps.see(torch.full_like(values, 5.0), values, None)
    torch.testing.assert_close(maps.values(torch.full_like(values, 5.0), values), values)


@pytest.mark.parametrize("ragged", [False, True])
def test_samples_get_the_statistics_of_the_data(ragged):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 7, (400,), generator=generator) if ragged else None
    values = torch.rand(400, 6, 5, generator=generator)
    values[..., 2] = (values[..., 2] > 0.3).float()  # a third of the cells of b are missing
    values[..., 1] = torch.where(values[..., 2] > 0.5, values[..., 1].exp(), 0.5)
    codes = torch.randn(400, 3, generator=generator) * torch.tensor([1.0, 0.2, 0.05]) + 1
    calibration = Calibration(GROUPS, 3)
    if ragged:
        values[torch.arange(6) >= lengths[:, None]] = math.nan  # what is past an end is nothing
    calibration.observe(codes, values, lengths)

    made = 0.3 * torch.randn(500, 3, generator=generator)
    maps = Maps(calibration, made)
    moved = maps.codes(made)
    torch.testing.assert_close(moved.mean(0), codes.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cov(moved.T), torch.cov(codes.T), atol=1e-4, rtol=1e-3)

    numbers = torch.randn(500, 6, 5, generator=generator)
    features = numbers.clamp(0, 1)
    features[..., 2] = (numbers[..., 2] > 0).float()
    torch.testing.assert_close(maps.values(numbers, features), features)  # nothing was seen yet
    maps.see(numbers, features, None)
    found = maps.values(numbers, features)
    there = features[..., 2] > 0.5
    for column, chosen in ((0, torch.ones_like(there)), (1, there)):
        real = values[..., column][values[..., 2] > 0.5] if column else values[..., column]
        real = real[~real.isnan()]
        got = found[..., column][chosen]
        torch.testing.assert_close(got.mean(), real.mean(), atol=0.01, rtol=0)
        torch.testing.assert_close(got.std(), real.std(), atol=0.01, rtol=0)
    torch.testing.assert_close(found[..., 1][~there], features[..., 1][~there])
    torch.testing.assert_close(found[..., 2:], features[..., 2:])
