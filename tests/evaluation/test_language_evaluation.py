"""Carried and cold evaluation against models that are scored by hand, token by token."""

import itertools
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CLASSES, TinyModel, nats_by_hand, text
from torch.nn import functional as F

from hybridgen.evaluation import LanguageScore, carried_nats, cold_nats
from hybridgen.heads import CategoricalHead

lengths = st.integers(2, 30)
starts = st.none() | st.integers(0, CLASSES - 1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    return TinyModel()


def close(score, nats):
    assert score.tokens == len(nats)
    assert score.nats == pytest.approx(sum(nats), abs=1e-10)


@settings(deadline=None, max_examples=40)
@given(length=lengths, start=starts, chunk_length=st.integers(1, 31))
def test_carried(model, length, start, chunk_length):
    tokens = text(length)
    score = carried_nats(model.run, model.head, tokens, start=start, chunk_length=chunk_length)
    close(score, nats_by_hand(model, tokens, start=start)[0])
    assert score.tokens == length - (start is None)
    assert score.protocol == "carried state"


@settings(deadline=None, max_examples=40)
@given(length=lengths, start=starts, lanes=st.integers(1, 6), chunk_length=st.integers(1, 12))
def test_lanes_count_every_token_once(model, length, start, lanes, chunk_length):
    tokens = text(length)
    count = length - (start is None)
    if lanes > count:
        lanes = count
    score = carried_nats(model.run, model.head, tokens, start=start, lanes=lanes, chunk_length=chunk_length)
    every, more = divmod(count, lanes)
    fresh = {lane * every + min(lane, more) for lane in range(lanes)}
    close(score, nats_by_hand(model, tokens, start=start, fresh=fresh)[0])
    assert (f"{lanes} lanes" in score.protocol) == (lanes > 1)


@settings(deadline=None, max_examples=40)
@given(length=lengths, start=starts, window=st.integers(1, 31), batch_size=st.integers(1, 5))
def test_cold(model, length, start, window, batch_size):
    tokens = text(length)
    score = cold_nats(model.run, model.head, tokens, window=window, start=start, batch_size=batch_size)
    fresh = range(0, length, window)
    close(score, nats_by_hand(model, tokens, start=start, fresh=fresh)[0])
    assert score.protocol == f"cold windows of {window}"


def test_one_cold_window_is_the_carried_text(model):
    tokens = text()
    carried = carried_nats(model.run, model.head, tokens)
    for window in (len(tokens) - 1, len(tokens), 1000):
        cold = cold_nats(model.run, model.head, tokens, window=window)
        assert cold.nats == pytest.approx(carried.nats, abs=1e-10)
        assert cold.tokens == carried.tokens
    assert cold_nats(model.run, model.head, tokens, window=3).nats != pytest.approx(carried.nats, abs=1e-3)


def test_resets_are_fresh_states_before_what_predicts_a_token(model):
    tokens = text()
    resets = torch.zeros(len(tokens), dtype=torch.bool)
    resets[[7, 15]] = True  # tokens, so predictions 6 and 14 where the first token is only read
    nats = nats_by_hand(model, tokens, fresh={6, 14})[0]
    close(carried_nats(model.run, model.head, tokens, resets=resets, chunk_length=4), nats)
    close(cold_nats(model.run, model.head, tokens, resets=resets, window=100), nats)
    nats = nats_by_hand(model, tokens, start=2, fresh={7, 15})[0]
    close(carried_nats(model.run, model.head, tokens, resets=resets, start=2), nats)
    nats = nats_by_hand(model, tokens, start=2, fresh={0, 5, 7, 10, 15, 20})[0]
    close(cold_nats(model.run, model.head, tokens, resets=resets, start=2, window=5), nats)


def test_a_markov_chain_has_the_nats_of_its_transitions():
    chain = torch.softmax(torch.randn(CLASSES, CLASSES, dtype=torch.float64), -1)
    head = CategoricalHead(CLASSES, CLASSES, bias=False).double().eval()
    with torch.no_grad():
        head.weight.copy_(chain.log().t())

    def run(inputs, state, resets):
        return F.one_hot(inputs, CLASSES).double(), None

    tokens = text()
    sequence = tokens.tolist()
    nats = [-math.log(chain[x, y]) for x, y in itertools.pairwise(sequence)]
    first = [-math.log(chain[4, sequence[0]])]
    # It has no memory, so the protocol makes no difference.
    for options in ({}, {"lanes": 4}, {"chunk_length": 3}):
        close(carried_nats(run, head, tokens, **options), nats)
        close(carried_nats(run, head, tokens, start=4, **options), first + nats)
    close(cold_nats(run, head, tokens, window=4), nats)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_tokens_of_any_integer_type(model, dtype):
    tokens = text()
    expected = carried_nats(model.run, model.head, tokens)
    assert carried_nats(model.run, model.head, tokens.to(dtype)) == expected


def test_no_gradient_and_no_change(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []

    def run(*arguments):
        seen.append(torch.is_grad_enabled())
        return model.run(*arguments)

    carried_nats(run, model.head, text())
    cold_nats(run, model.head, text(), window=4)
    assert set(seen) == {False}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_score_units():
    score = LanguageScore(protocol="p", nats=10 * math.log(4), tokens=10, byte_count=5)
    assert score.perplexity == pytest.approx(4.0)
    assert score.bits_per_token == pytest.approx(2.0)
    assert score.bits_per_byte == pytest.approx(4.0)
    assert json.loads(json.dumps(score.to_dict()))["nats_per_token"] == pytest.approx(math.log(4))
    assert LanguageScore(protocol="p", nats=1.0, tokens=1).bits_per_byte is None
    with pytest.raises(AttributeError):
        score.nats = 0.0


def test_bytes_are_passed_on(model):
    for score in (
        carried_nats(model.run, model.head, text(), byte_count=40),
        cold_nats(model.run, model.head, text(), window=4, byte_count=40),
    ):
        assert score.bits_per_byte == pytest.approx(score.nats / 40 / math.log(2))


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (text(1), {}, "a text of 1 tokens has nothing to predict"),
        (text(0), {"start": 0}, "a text of 0 tokens has nothing to predict"),
        (text().double(), {}, "tokens must be whole numbers"),
        (text().view(1, -1), {}, "tokens must be whole numbers"),
        (text(), {"resets": torch.zeros(3, dtype=torch.bool)}, "resets must be bool"),
        (text(5), {"lanes": 5}, "lanes is 5 but only 4 tokens"),
        (text(), {"lanes": 0}, "lanes is 0"),
        (text(), {"chunk_length": 0}, "chunk_length is 0"),
    ],
)
def test_what_does_not_fit(model, tokens, options, message):
    with pytest.raises(ValueError, match=message):
        carried_nats(model.run, model.head, tokens, **options)


def test_window_that_does_not_fit_and_a_model_in_training(model):
    with pytest.raises(ValueError, match="window is 0"):
        cold_nats(model.run, model.head, text(), window=0)
    training = TinyModel().train()
    with pytest.raises(ValueError, match="training mode"):
        cold_nats(training.run, training.head, text(), window=5)
