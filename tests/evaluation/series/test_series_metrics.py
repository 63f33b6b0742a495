"""Every other metric of series: exact values where they are known, order where they are not."""

import math

import numpy as np
import pytest
import torch

from hybridgen.evaluation import series


def waves(number, features=3, steps=12, seed=0):
    random = np.random.default_rng(seed)
    frequency, phase = random.uniform(0.1, 0.6, (2, number, 1, features))
    return (np.sin(frequency * np.arange(steps)[:, None] + phase) + 1) / 2


REAL, FRESH = waves(150), waves(150, seed=1)
NOISY = REAL + 0.02 * np.random.default_rng(2).standard_normal(REAL.shape)


# The strong critic ----------------------------------------------------------------------------------------------


def test_strong_critic_sees_noise_that_the_published_one_does_not():
    options = {"iterations": 60, "batch_size": 32, "hidden_size": 16}
    same = series.strong_critic_score(REAL, FRESH, **options)
    noisy = series.strong_critic_score(REAL, NOISY, **options)
    assert same.score < 0.2
    assert abs(same.area - 0.5) < 0.2
    assert noisy.score > 0.3
    assert noisy.area > 0.9
    assert series.discriminative_score(REAL, NOISY, runs=2, iterations=60, batch_size=32).mean < 0.15


def test_strong_critic_takes_lengths():
    lengths = np.random.default_rng(0).integers(2, 13, 150)
    junk = REAL.copy()
    for row, end in zip(junk, lengths, strict=True):
        row[end:] = 1e6
    options = {"iterations": 5, "real_lengths": lengths, "fake_lengths": lengths}
    clean = series.strong_critic_score(REAL, FRESH, **options)
    assert series.strong_critic_score(junk, FRESH, **options) == clean
    assert series.strong_critic_score(REAL, FRESH, **options, seed=1) != clean


def test_area_under_roc():
    area = series.area_under_roc
    assert area(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 1
    assert area(torch.tensor([1.0, 1.0]), torch.tensor([1.0])) == 0.5
    one, other = torch.randn(50), torch.randn(40) + 0.3
    pairs = one[:, None] - other
    np.testing.assert_allclose(area(one, other), float(((pairs > 0).double() + 0.5 * (pairs == 0)).mean()))


# Frechet distance -----------------------------------------------------------------------------------------------


def test_frechet_distance_is_known_for_gaussians():
    one = torch.randn(200, 4, dtype=torch.float64)
    assert series.frechet_distance(one, one) < 1e-9
    np.testing.assert_allclose(series.frechet_distance(one, one + 2), 16, rtol=1e-6)
    scaled = series.frechet_distance(one, one.mean(0) + 3 * (one - one.mean(0)))
    np.testing.assert_allclose(scaled, 4 * float(torch.cov(one.T).trace()), rtol=1e-6)  # (3 - 1)^2 tr S


def test_frechet_distance_is_that_of_scipy():
    linalg = pytest.importorskip("scipy.linalg")
    one, other = torch.randn(60, 5).double(), (torch.randn(70, 5) @ torch.randn(5, 5)).double()
    covariances = [np.cov(x.numpy().T) for x in (one, other)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    np.testing.assert_allclose(series.frechet_distance(one, other), float(expected), rtol=1e-6)


def test_frechet_distance_refuses_what_it_cannot_take():
    with pytest.raises(ValueError, match="N at least 2"):
        series.frechet_distance(torch.zeros(1, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="not finite"):
        series.frechet_distance(torch.full((4, 3), math.nan), torch.zeros(4, 3))


def test_context_fid_orders_sets_and_repeats():
    options = {"iterations": 20, "features": 8}
    same = series.context_fid(REAL, REAL, **options)
    fresh = series.context_fid(REAL, FRESH, **options)
    still = series.context_fid(REAL, np.repeat(REAL[:, :1], 12, 1), **options)
    assert same < 1e-6
    assert fresh < 0.3 * still
    assert series.context_fid(REAL, FRESH, **options) == fresh
    before = torch.get_rng_state()
    series.context_fid(REAL[:20], FRESH[:20], iterations=1)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's draws change


def test_encoder_learns_what_belongs_together():
    encoder = series.train_encoder(torch.tensor(REAL, dtype=torch.float32), iterations=40, features=8)
    features = encoder.encode(torch.tensor(REAL, dtype=torch.float32))
    near = encoder.encode(torch.tensor(REAL + 0.005, dtype=torch.float32))
    distances = torch.cdist(features, near)
    assert (distances.argmin(1) == torch.arange(150)).float().mean() > 0.9


# Statistics -----------------------------------------------------------------------------------------------------


def test_correlational_score_is_that_of_numpy():
    mixed = FRESH @ np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    one, other = (np.corrcoef(s.reshape(-1, 3).T) for s in (REAL, mixed))
    expected = np.abs(np.tril(one - other)).sum() / 10
    np.testing.assert_allclose(series.correlational_score(REAL, mixed), expected, rtol=1e-4)
    assert series.correlational_score(REAL, REAL) == 0
    assert series.correlational_score(REAL, np.ones_like(REAL)) < math.inf


def test_autocorrelation_of_an_autoregression():
    random = np.random.default_rng(0)
    x = np.zeros((400, 60, 1))
    x[:, 0] = random.standard_normal((400, 1)) / np.sqrt(1 - 0.7**2)
    for t in range(1, 60):
        x[:, t] = 0.7 * x[:, t - 1] + random.standard_normal((400, 1))
    found = series.autocorrelation(x, max_lag=4).squeeze(1)
    np.testing.assert_allclose(found, 0.7 ** np.arange(1, 5), atol=0.03)
    assert series.autocorrelation_difference(x, x) == 0
    assert series.autocorrelation_difference(x, random.standard_normal(x.shape), max_lag=4) > 0.3
    assert len(series.autocorrelation(x)) == 59


def test_mean_discrepancy_is_the_sum_over_pairs():
    one, other = np.random.default_rng(0).standard_normal((2, 6, 2, 2))
    found = series.mean_discrepancy(one, other, bandwidth=1.5)
    flat = [s.reshape(6, 4) for s in (one, other)]

    def kernel(a, b):
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * 1.5**2))

    off = ~np.eye(6, dtype=bool)
    expected = sum(kernel(s, s)[off].mean() for s in flat) - 2 * kernel(*flat).mean()
    np.testing.assert_allclose(found.squared, expected, rtol=1e-5)
    assert found.bandwidth == 1.5


def test_mean_discrepancy_orders_sets():
    same = series.mean_discrepancy(REAL, FRESH)
    shifted = series.mean_discrepancy(REAL, FRESH + 0.3)
    assert abs(same.squared) < 0.01
    assert shifted.squared > 0.05
    assert same.bandwidth == shifted.bandwidth  # it is of the real series


# Neighbours -----------------------------------------------------------------------------------------------------


def test_manifolds_of_known_points():
    line = torch.arange(10.0).view(-1, 1)
    same = series.manifolds(line, line, k=1)
    assert same[:2] == (1, 1)
    assert same.coverage == 1
    far = series.manifolds(line, line + 100, k=1)
    assert far == (0, 0, 0, 0)
    collapsed = series.manifolds(line, torch.full((10, 1), 4.0) + 0.01 * torch.rand(10, 1), k=1)
    assert collapsed.precision == 1
    assert collapsed.recall < 0.2
    assert collapsed.coverage < 0.5


def test_memorisation_ratio():
    held_out = waves(100, seed=5)
    fresh = series.memorisation_ratio(REAL, held_out, FRESH)
    copies = series.memorisation_ratio(REAL, held_out, REAL + 1e-4)
    assert 0.8 < fresh.ratio < 1.25
    assert fresh.copies < 0.1
    assert copies.ratio < 0.05
    assert copies.copies == 1
    with pytest.raises(ValueError, match="copies of training series"):
        series.memorisation_ratio(REAL, REAL[:10], FRESH)


def test_memorisation_of_windows_that_overlap():
    """Windows of one long walk: what lies between neighbours is near, what begins elsewhere is as far as any other."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(600, 2, generator=generator)
    starts = torch.arange(0, 590)
    windows = torch.stack([table[s : s + 10] for s in starts.tolist()])
    fresh = torch.randn(400, 10, 2, generator=generator)
    apart = series.memorisation_of_windows(windows, starts, fresh)
    assert 0.9 < apart.ratio < 1.1
    between = series.memorisation_of_windows(windows, starts, windows + 0.05 * torch.randn(590, 10, 2))
    assert between.ratio < 0.2
    assert between.copies == 1
    # By hand, of the first window: the nearest of those that begin ten rows later or more.
    scaled = windows.flatten(1) / windows.std((0, 1), correction=0).repeat(10)
    nearest = torch.cdist(scaled[:1], scaled[10:]).min() / 20**0.5
    alone = series.memorisation_of_windows(windows, starts, windows, most=1)
    torch.testing.assert_close(torch.tensor(alone.held_out), nearest)
    with pytest.raises(ValueError, match="no two windows that share no row"):
        series.memorisation_of_windows(windows[:9], starts[:9], fresh)
    with pytest.raises(ValueError, match="give one row for each"):
        series.memorisation_of_windows(windows, starts[:3], fresh)


@pytest.mark.parametrize("standardise", [True, False])
def test_a_feature_that_is_constant_or_nearly_does_not_decide_distances(standardise):
    real, held_out, fresh = (
        np.concatenate([w, np.zeros_like(w[..., :1])], -1) for w in (REAL, waves(100, seed=5), FRESH)
    )
    stray = fresh.copy()
    stray[:, 3, -1] = 0.01  # a constant feature of the real data, in which generated ones differ a little
    found = series.memorisation_ratio(real, held_out, stray, standardise=standardise)
    assert found.ratio == pytest.approx(series.memorisation_ratio(real, held_out, fresh).ratio, abs=0.1)
    assert series.manifolds(real, stray, standardise=standardise).precision > 0.5
    # A feature that varied once: of one unit with the others it hardly counts, by its own deviation it counts fully.
    real[0, 0, -1] = 0.01
    found = series.memorisation_ratio(real, held_out, stray, standardise=standardise)
    assert (found.ratio > 3) == standardise
    # One deviation of everything changes no ratio of distances.
    one, other = (
        series.memorisation_ratio(factor * REAL, factor * held_out[..., :3], factor * FRESH, standardise=False)
        for factor in (1, 8)
    )
    assert one == pytest.approx(other)


def test_nearest_distances_are_exact_and_chunks_do_not_matter():
    among, points = torch.randn(50, 6) + 1000, torch.randn(30, 6) + 1000
    expected = (points[:, None] - among).double().square().sum(2).sqrt().amin(1)
    for chunk in (7, 1024):
        torch.testing.assert_close(series.nearest_distances(points, among, chunk=chunk), expected.float())


# All at once ----------------------------------------------------------------------------------------------------


def test_report_holds_every_figure_and_says_the_honest_ones_in_one_line():
    report = series.evaluate_series(REAL, NOISY, held_out=waves(60, seed=4), runs=2, iterations=0.01)
    line, metrics = report.line(), report.metrics()
    assert "real vs real" in line
    assert "strong critic" in line
    assert "memorisation" in line
    assert "\n" not in line
    assert all(isinstance(v, float) and math.isfinite(v) for v in metrics.values())
    assert {"discriminative_score", "predictive_score", "context_fid", "memorisation_ratio"} <= set(metrics)
    assert metrics["memorisation_ratio"] < 0.6  # noisy copies
    import json

    assert json.loads(json.dumps(report.to_dict()))["discriminative"]["values"] == list(report.discriminative.values)
    without = series.evaluate_series(REAL[:20], FRESH[:20], runs=1, iterations=0.001)
    assert "memorisation_ratio" not in without.metrics()
    with pytest.raises(ValueError, match="iterations is 2"):
        series.evaluate_series(REAL, FRESH, iterations=2)


def test_pictures_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    paths = series.save_pictures(REAL[:20], FRESH[:20], tmp_path / "new", names=["a", "b", "c"])
    assert sorted(p.name for p in paths) == ["autocorrelation.png", "pca.png", "series.png", "tsne.png"]
    assert all(p.read_bytes()[:4] == b"\x89PNG" and p.stat().st_size > 5000 for p in paths)
    points = series.projections(REAL[:20], FRESH[:15])
    assert [len(s) for s in points["tsne"]] == [20, 15]
    assert all(np.isfinite(s).all() for sets in points.values() for s in sets)
    with pytest.raises(ValueError, match="names has 1 names for 3 features"):
        series.save_pictures(REAL[:40], FRESH[:40], tmp_path, names=["a"])


def test_missing_extras_are_one_clear_sentence(monkeypatch, tmp_path):
    import sys

    for module in ("sklearn.decomposition", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match="pip install scikit-learn"):
        series.projections(REAL, FRESH)
    with pytest.raises(ValueError, match="pip install matplotlib"):
        series.save_pictures(REAL, FRESH, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_manifolds_do_not_depend_on_where_the_data_lie():
    torch.manual_seed(0)
    real, fake = torch.randn(300, 6, 2), torch.randn(300, 6, 2)
    at_home = series.manifolds(real, fake)
    far = [0.001 * points + torch.tensor([0.0, 0.9]) for points in (real, fake)]
    for one, other in zip(at_home, series.manifolds(*far), strict=True):
        assert other == pytest.approx(one, abs=0.02)
