"""The energy distance against its closed form."""

import math

import pytest
import torch

from hybridgen.evaluation.latent_distance import energy_distance


def test_the_distance_of_two_normals():
    # Of N(0, 1) and N(d, 1): E|x - y| of a normal of mean d and variance 2, less that of mean 0.
    d = 1.5
    folded = 2 / math.sqrt(math.pi) * math.exp(-d * d / 4) + d * math.erf(d / 2)
    exact = 2 * folded - 2 * 2 / math.sqrt(math.pi)
    one, other = torch.randn(4000, 1), torch.randn(3000, 1) + d
    assert energy_distance(one, other) == pytest.approx(exact, rel=0.06)
    assert energy_distance(one, other, chunk_size=7) == pytest.approx(energy_distance(one, other), abs=1e-9)
    assert energy_distance(other, one) == pytest.approx(energy_distance(one, other), abs=1e-9)


def test_samples_of_one_distribution_are_at_no_distance():
    found = [energy_distance(torch.randn(200, 4), torch.randn(300, 4)) for _ in range(30)]
    assert abs(sum(found) / 30) < 0.01
    assert min(found) < 0  # without bias, so on either side of zero
    assert energy_distance(torch.randn(500, 4), torch.randn(500, 4) * 1.5) > 0.05


def test_sets_that_do_not_fit():
    for one, other in ((torch.zeros(3, 2), torch.zeros(3, 3)), (torch.zeros(1, 2), torch.zeros(3, 2))):
        with pytest.raises(ValueError, match="N at least 2"):
            energy_distance(one, other)
