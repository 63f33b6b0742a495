"""The neural cache against its definition, and its limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CLASSES, TinyModel, nats_by_hand, text

from hybridgen.evaluation import NeuralCache, cache_nats, carried_nats


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    return TinyModel()


def by_hand(model, tokens, cache, start=None):
    nats, states, targets = nats_by_hand(model, tokens, start=start)
    total = 0.0
    for t, (nll, state, target) in enumerate(zip(nats, states, targets, strict=True)):
        past = range(max(0, t - cache.window), t)
        weights = {i: math.exp(cache.theta * float(states[i] @ state)) for i in past}
        p = math.exp(-nll)
        if weights:
            share = sum(w for i, w in weights.items() if targets[i] == target) / sum(weights.values())
            p = (1 - cache.interpolation) * p + cache.interpolation * share
        total -= math.log(p)
    return total, len(nats)


@settings(deadline=None, max_examples=40)
@given(
    length=st.integers(2, 25),
    start=st.none() | st.integers(0, CLASSES - 1),
    window=st.integers(1, 30),
    theta=st.sampled_from([0.0, 0.7, 3.0]),
    interpolation=st.sampled_from([0.1, 0.9]),
    chunk_length=st.integers(1, 26),
)
def test_equal_to_the_definition(model, length, start, window, theta, interpolation, chunk_length):
    tokens, cache = text(length), NeuralCache(window=window, theta=theta, interpolation=interpolation)
    score = cache_nats(model.run, model.head, tokens, cache=cache, start=start, chunk_length=chunk_length)
    expected, count = by_hand(model, tokens, cache, start)
    assert score.tokens == count
    assert score.nats == pytest.approx(expected, abs=1e-10)


def test_without_a_share_it_is_the_static_model(model):
    cache = NeuralCache(window=5, theta=1.0, interpolation=0.0)
    score = cache_nats(model.run, model.head, text(), cache=cache, chunk_length=4, byte_count=30)
    static = carried_nats(model.run, model.head, text())
    assert score.nats == pytest.approx(static.nats, abs=1e-12)
    assert score.tokens == static.tokens
    assert "neural cache (window 5, theta 1, lambda 0)" in score.protocol
    assert score.byte_count == 30


def test_resets_reach_the_model(model):
    resets = torch.zeros(23, dtype=torch.bool)
    resets[9] = True
    cache = NeuralCache(interpolation=0.0)
    score = cache_nats(model.run, model.head, text(), cache=cache, resets=resets)
    assert score.nats == pytest.approx(sum(nats_by_hand(model, text(), fresh={8})[0]), abs=1e-10)


def test_repetition_is_found(model):
    tokens = torch.tensor([1, 4, 2, 6, 3] * 10)
    cache = NeuralCache(window=100, theta=8.0, interpolation=0.5)
    static = carried_nats(model.run, model.head, tokens)
    assert cache_nats(model.run, model.head, tokens, cache=cache).perplexity < 0.7 * static.perplexity


@pytest.mark.parametrize("window", [3, 100])
def test_all_classes_agree_with_the_targets_and_are_normalised(model, window):
    cache = NeuralCache(window=window, theta=0.7, interpolation=0.3)
    past, tokens = torch.randn(2, 6, 5, dtype=torch.float64), torch.randint(CLASSES, (2, 6))
    hidden = torch.randn(2, 5, dtype=torch.float64)
    log_probs = model.head.log_probs(hidden)
    mixed = cache.log_probs(log_probs, hidden, past, tokens)
    torch.testing.assert_close(mixed.exp().sum(1), torch.ones(2, dtype=torch.float64))
    for b in range(2):
        for v in range(CLASSES):
            one = cache.target_log_probs(
                log_probs[b, v : v + 1], hidden[b : b + 1], torch.tensor([v]), past[b], tokens[b]
            )
            torch.testing.assert_close(one[0], mixed[b, v])
    assert cache.log_probs(log_probs, hidden, past[:, :0], tokens[:, :0]) is log_probs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window is 0"),
        ({"theta": -1.0}, "theta is -1"),
        ({"interpolation": 1.0}, "interpolation is 1"),
        ({"interpolation": -0.1}, "interpolation is -0.1"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        NeuralCache(**options)
