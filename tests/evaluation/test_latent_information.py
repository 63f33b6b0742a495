"""Mutual information against its closed form, active units, KL per dimension and the verdict on collapse."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal

from hybridgen.evaluation.latent import (
    active_units,
    collapse_verdict,
    kl_per_dimension,
    mutual_information,
    mutual_information_of,
    shuffle_between,
)


def gaussian_channel(n, signal, *, seed=0):
    """Posteriors ``N(s, 1)`` with ``s ~ N(0, signal)``: information 0.5 ln(1 + signal) for each dimension."""
    generator = torch.Generator().manual_seed(seed)
    signal = torch.tensor(signal)
    mean = torch.randn(n, len(signal), generator=generator) * signal.sqrt()
    return mean, torch.zeros_like(mean), float(0.5 * torch.log1p(signal).sum())


def test_information_of_a_gaussian_channel():
    mean, log_variance, exact = gaussian_channel(4000, [3.0, 1.0, 0.0])
    found = mutual_information(mean, log_variance, num_draws=4)
    assert found.num_samples == 4000
    assert found.ceiling == pytest.approx(math.log(4000))
    assert found.nats == pytest.approx(exact, abs=max(0.03, 3 * found.standard_error))
    # It does not change when the latent is measured in other units or from elsewhere.
    moved = mutual_information(mean * 10 + 500, log_variance + 2 * math.log(10), num_draws=4)
    assert moved.nats == pytest.approx(found.nats, abs=1e-4)


def test_information_inside_a_small_batch_cannot_be_seen():
    mean, log_variance, exact = gaussian_channel(2000, [1000.0] * 4)
    small = mutual_information(mean[:32], log_variance[:32])
    assert exact > 10
    assert small.nats <= math.log(32) + 1e-9
    assert small.nats == pytest.approx(3.4657, abs=0.01)
    assert mutual_information(mean, log_variance).nats == pytest.approx(math.log(2000), abs=0.1)


def test_equal_posteriors_carry_nothing():
    found = mutual_information(torch.full((50, 3), 4.0), torch.full((50, 3), -1.0))
    assert found.nats == pytest.approx(0, abs=1e-9)
    assert found.standard_error == pytest.approx(0, abs=1e-9)
    assert mutual_information(torch.zeros(1, 2), torch.zeros(1, 2)).nats == 0


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 40), chunk_size=st.integers(1, 41), scale=st.floats(0, 50), seed=st.integers(0, 99))
def test_chunks_and_ceiling(n, chunk_size, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(n, 3, generator=generator) * scale
    log_variance = torch.randn(n, 3, generator=generator)
    whole = mutual_information(mean, log_variance, chunk_size=100)
    assert mutual_information(mean, log_variance, chunk_size=chunk_size)[0] == pytest.approx(whole.nats, abs=1e-9)
    assert whole.nats <= whole.ceiling + 1e-9


def test_any_family_by_its_log_density():
    mean, log_variance, _ = gaussian_channel(300, [2.0, 0.5])
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    posterior = Independent(Normal(mean.double(), (0.5 * log_variance.double()).exp()), 1)
    z = mean + noise * (0.5 * log_variance.double()).exp()
    general = mutual_information_of(lambda z: posterior.log_prob(z.unsqueeze(1)), z, chunk_size=70)
    assert general.nats == pytest.approx(mutual_information(mean, log_variance).nats, abs=1e-9)
    with pytest.raises(ValueError, match="not one row of 300"):
        mutual_information_of(lambda z: posterior.log_prob(z.unsqueeze(1))[:, :5], z)


def test_information_refuses_what_does_not_fit():
    good = torch.zeros(4, 2)
    cases = [
        ((good, torch.zeros(4, 3)), {}, "log_variance has shape"),
        ((torch.zeros(0, 2), torch.zeros(0, 2)), {}, "neither of them 0"),
        ((good * math.nan, good), {}, "not finite"),
        ((good, good), {"num_draws": 0}, "num_draws is 0"),
        ((good, good), {"chunk_size": 0}, "chunk_size is 0"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            mutual_information(*arguments, **options)


def test_active_units_are_those_that_vary():
    means = torch.randn(5000, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0]) + 7
    found = active_units(means)
    assert found.count == 2
    torch.testing.assert_close(found.variances, torch.tensor([1.0, 0.04, 0.0025, 0]).double(), atol=0.03, rtol=0.1)
    assert active_units(means, 0.001).count == 3
    with pytest.raises(ValueError, match="at least 2"):
        active_units(means[:1])


def test_kl_of_each_dimension():
    kl = torch.rand(100, 5)
    found = kl_per_dimension(kl)
    torch.testing.assert_close(found.mean, kl.double().mean(0))
    torch.testing.assert_close(found.standard_error, kl.double().std(0) / 10)
    with pytest.raises(ValueError, match="not finite"):
        kl_per_dimension(torch.full((2, 2), math.inf))


@given(n=st.integers(2, 60), seed=st.integers(0, 999))
def test_nobody_keeps_its_own_latent(n, seed):
    order = shuffle_between(n, generator=torch.Generator().manual_seed(seed))
    assert sorted(order.tolist()) == list(range(n))
    assert all(int(order[i]) != i for i in range(n))


def test_one_sentence_cannot_be_shuffled():
    with pytest.raises(ValueError, match="at least 2"):
        shuffle_between(1)


HEALTHY = {"kl": 6.0, "mutual_information": 4.0, "active_units": 12, "latent_size": 32, "shuffle_change": 5.0}


@pytest.mark.parametrize(
    ("figures", "cause", "advice"),
    [
        ({}, "none", "the latent is used"),
        ({"kl": 0.01, "mutual_information": 0.0, "active_units": 0, "shuffle_change": 0.0}, "posterior is the prior",
         "free bits"),
        ({"mutual_information": 0.0, "active_units": 0, "shuffle_change": 0.01}, "posterior is constant",
         "same for every sentence"),
        ({"shuffle_change": 0.02}, "decoder ignores the latent", "word dropout"),
        # Significant, and nothing all the same.
        ({"kl": 0.11, "mutual_information": 0.09, "shuffle_change": 0.29, "shuffle_standard_error": 0.06},
         "posterior is the prior", "free bits"),
        ({"shuffle_change": 0.7, "shuffle_standard_error": 0.4}, "decoder ignores the latent", "every input"),
        ({"shuffle_change": 0.7, "shuffle_standard_error": 0.1}, "none", "is used"),
    ],
)  # fmt: skip
def test_verdict(figures, cause, advice):
    verdict = collapse_verdict(**(HEALTHY | figures))
    assert verdict.cause == cause
    assert verdict.ignored == (cause != "none")
    assert advice in verdict.sentence
    assert "of 32 units active" in verdict.sentence
    assert "\n" not in verdict.sentence
