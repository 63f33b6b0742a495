import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen.generation import DecodingOptions, warpers

INF = torch.inf


@st.composite
def logits(draw, ties=False):
    """`(B, V)` logits; with ties they lie on a coarse grid, and some tokens are already forbidden."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 40)))
    values = torch.randn(shape, generator=generator) * draw(st.sampled_from([0.1, 1.0, 5.0, 30.0]))
    if ties:
        values = values.round()
        values[:, 1:][torch.rand(shape[0], shape[1] - 1, generator=generator) < 0.3] = -INF
    return values


FILTERS = {
    "top_k": lambda values, x: warpers.top_k(values, 1 + int(x * 10)),
    "top_p": lambda values, x: warpers.top_p(values, x),
    "min_p": lambda values, x: warpers.min_p(values, x),
    "typical_p": lambda values, x: warpers.typical_p(values, x),
}
strength = st.floats(0.01, 0.99)


@pytest.mark.parametrize("name", FILTERS)
@given(values=st.one_of(logits(), logits(ties=True)), x=strength)
@settings(deadline=None, max_examples=40)
def test_a_filter_removes_some_tokens_and_leaves_the_others_as_they_were(name, values, x):
    before = values.clone()
    result = FILTERS[name](values, x)
    assert torch.equal(values, before), "the input was changed"
    kept = result > -INF
    assert torch.equal(result[kept], values[kept])
    assert bool(kept.any(-1).all()), "a row lost all its tokens"
    assert torch.allclose(result.softmax(-1).sum(-1), torch.ones(len(values)))


@pytest.mark.parametrize("name", ["top_k", "min_p"])
@given(values=st.one_of(logits(), logits(ties=True)), x=strength)
@settings(deadline=None, max_examples=40)
def test_idempotent(name, values, x):
    once = FILTERS[name](values, x)
    assert torch.equal(FILTERS[name](once, x), once)


def test_top_p_is_not_idempotent():
    values = torch.tensor([[0.60, 0.25, 0.15]]).log()
    once = warpers.top_p(values, 0.7)
    assert (once > -INF).tolist() == [[True, True, False]]
    assert (warpers.top_p(once, 0.7) > -INF).tolist() == [[True, False, False]]


@given(values=logits(), k=st.integers(1, 50))
@settings(deadline=None)
def test_top_k_keeps_exactly_k_where_nothing_is_tied(values, k):
    kept = warpers.top_k(values, k) > -INF
    assert kept.sum(-1).tolist() == [min(k, values.shape[1])] * len(values)
    least_kept, best_removed = values.masked_fill(~kept, INF).amin(-1), values.masked_fill(kept, -INF).amax(-1)
    assert bool((least_kept > best_removed).all())


def test_top_k_keeps_all_tokens_tied_with_the_last():
    values = torch.tensor([[1.0, 3.0, 1.0, 0.0, 1.0]])
    assert (warpers.top_k(values, 2) > -INF).tolist() == [[True, True, True, False, True]]


@given(values=logits(), p=strength)
@settings(deadline=None)
def test_top_p_keeps_the_smallest_most_probable_set_of_that_mass(values, p):
    probabilities = values.double().softmax(-1)
    kept = warpers.top_p(values, p) > -INF
    for row, mask in zip(probabilities, kept, strict=True):
        inside, outside = row[mask], row[~mask]
        assert outside.numel() == 0 or inside.min() >= outside.max()
        assert inside.sum() >= p - 1e-5
        assert inside.sum() - inside.min() < p + 1e-5 or inside.numel() == 1


@pytest.mark.parametrize("p", [1e-3, 1e-9, 1e-40])
def test_top_p_keeps_one_token_however_small_it_is(p):
    assert (warpers.top_p(torch.tensor([[0.0, 2.0, 1.0]]), p) > -INF).tolist() == [[False, True, False]]


def test_top_p_of_tied_tokens_keeps_as_many_as_are_needed():
    assert (warpers.top_p(torch.zeros(1, 4), 0.5) > -INF).tolist() == [[False, False, True, True]]


@given(values=logits(), fraction=strength)
@settings(deadline=None)
def test_min_p_keeps_what_is_that_fraction_of_the_best(values, fraction):
    ratios = (values - values.amax(-1, keepdim=True)).double().exp()
    kept = warpers.min_p(values, fraction) > -INF
    assert bool((ratios[kept] >= fraction * (1 - 1e-5)).all())
    assert bool((ratios[~kept] < fraction * (1 + 1e-5)).all())


@given(values=logits(), mass=strength)
@settings(deadline=None)
def test_typical_p_keeps_the_smallest_set_nearest_the_entropy(values, mass):
    log_probs = values.double().log_softmax(-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1, keepdim=True)
    distances = (-log_probs - entropy).abs()
    kept = warpers.typical_p(values, mass) > -INF
    for distance, probability, mask in zip(distances, log_probs.exp(), kept, strict=True):
        assert mask.all() or distance[mask].max() <= distance[~mask].min() + 1e-4
        assert probability[mask].sum() >= mass - 1e-5
        farthest = distance[mask] >= distance[mask].max() - 1e-4
        assert probability[mask][~farthest].sum() < mass + 1e-5


def test_typical_p_may_remove_the_most_probable_token():
    values = torch.tensor([[0.4] + [0.06] * 10]).log()
    assert (warpers.typical_p(values, 0.3) > -INF).tolist() == [[False] + [True] * 10]


def test_warpers_are_applied_in_the_documented_order():
    probabilities = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    # top-k first leaves 4/7 and 3/7, and the first reaches 0.5 alone; top-p first would have kept two.
    kept = warpers.warp_logits(probabilities.log(), DecodingOptions(top_k=2, top_p=0.5)) > -INF
    assert kept.tolist() == [[True, False, False, False]]
    # A temperature of 1/2 squares: 16, 9, 4, 1 of 30; 0.2 of the best keeps three, and would keep all without it.
    kept = warpers.warp_logits(probabilities.log(), DecodingOptions(temperature=0.5, min_p=0.2)) > -INF
    assert kept.tolist() == [[True, True, True, False]]


def test_temperature_divides():
    values = torch.tensor([[1.0, -2.0, -INF]])
    assert warpers.temperature(values, 0.5).tolist() == [[2.0, -4.0, -INF]]
    assert math.isclose(warpers.temperature(values, 3.0)[0, 0], 1 / 3, rel_tol=1e-6)
