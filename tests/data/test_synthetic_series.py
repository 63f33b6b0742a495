"""Series that need no file are drawn as they were published."""

import numpy as np
import pytest

from hybridgen.data import DataError
from hybridgen.data.synthetic_series import ar_gaussian, sines, sines_paper, synthetic_table


def test_sines_are_those_of_the_authors_code():
    series = sines(2000, 24, 3, seed=0)
    assert series.shape == (2000, 24, 3)
    assert series.min() >= 0.5  # less than half a period: frequency and phase are below 0.1
    angles = np.arcsin(series[:, :12] * 2 - 1)  # below pi / 2 until step 14
    steps = np.diff(angles, axis=1)
    np.testing.assert_allclose(steps, steps[:, :1].repeat(11, axis=1), atol=1e-6)
    for drawn in (steps[:, 0], angles[:, 0]):  # frequency and phase, uniform in 0 to 0.1
        assert drawn.min() >= -1e-9
        assert drawn.max() <= 0.1
        assert drawn.mean() == pytest.approx(0.05, abs=0.002)
        assert drawn.std() == pytest.approx(0.1 / 12**0.5, abs=0.002)


def test_sines_of_the_paper_use_the_whole_circle():
    series = sines_paper(2000, 24, 2, seed=0)
    assert series.min() < -0.99
    assert series.max() > 0.99
    assert abs(series.mean()) < 0.02


@pytest.mark.parametrize(("phi", "sigma"), [(0.2, 0.8), (0.8, 0.2), (0.0, -0.2)])
def test_autoregressive_gaussians_have_the_covariances_of_the_paper(phi, sigma):
    series = ar_gaussian(20_000, 5, 3, seed=1, phi=phi, sigma=sigma)
    noise = series[:, 1:] - phi * series[:, :-1]
    covariance = np.cov(noise.reshape(-1, 3).T)
    np.testing.assert_allclose(covariance, sigma * np.ones((3, 3)) + (1 - sigma) * np.eye(3), atol=0.03)
    for step in (0, 4):  # stationary from the first step on
        assert series[:, step].var() == pytest.approx(1 / (1 - phi**2), rel=0.05)


@pytest.mark.parametrize("source", ["sines", "sines_paper", "ar_gaussian"])
def test_a_seed_draws_the_same(source):
    def make(seed):
        return synthetic_table(source, number=4, length=6, num_features=2, seed=seed, phi=0.5, sigma=0.5)

    table = make(3)
    assert (table.num_series, table.num_rows, list(table.columns)) == (4, 24, ["x1", "x2"])
    assert all(np.array_equal(table.columns[name], make(3).columns[name]) for name in table.columns)
    assert not np.array_equal(table.columns["x1"], make(4).columns["x1"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"phi": 1.0}, "phi=1.0 must be at least 0 and below 1"),
        ({"sigma": 1.2}, "sigma=1.2 must be -0.5 to 1 for 3 features"),
        ({"sigma": -0.6}, "sigma=-0.6 must be -0.5 to 1"),
        ({"number": 0}, "num_series=0 must be a whole number"),
        (
            {"number": 10**13},
            r"num_series, length and num_features would draw 1\.2e\+14 numbers, more than 200,000,000",
        ),
        ({"number": 1, "length": 2, "num_features": 10**7}, "the covariances of num_features would draw 1e.14 numbers"),
        ({"length": 1}, "length=1 must be a whole number of at least 2"),
    ],
)
def test_what_cannot_be_drawn_ends_in_one_sentence(options, sentence):
    options = {"number": 2, "length": 4, "num_features": 3, "seed": 0, "phi": 0.5, "sigma": 0.5, **options}
    with pytest.raises(DataError, match=sentence):
        synthetic_table("ar_gaussian", **options)
