import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen.generation import DecodingOptions, drawing
from hybridgen.generation.drawing import choose_tokens, find_candidates, inverse_cdf
from hybridgen.generation.randomness import uniforms
from hybridgen.generation.warpers import warp_logits

from .toy_models import chi_square_is_plausible

INF = torch.inf
NO_HISTORY = torch.zeros(1, 0, dtype=torch.long)


def draws(count, step=0):
    return torch.from_numpy(uniforms(0, np.arange(count), step))


def distribution(scores, options):
    """The distribution `(B, V)` over the vocabulary that the candidates stand for."""
    candidates, ids = find_candidates(scores, options)
    probabilities = candidates.softmax(-1).to(torch.float64)
    if ids is None:
        return probabilities
    return torch.zeros(scores.shape, dtype=torch.float64).scatter(1, ids, probabilities)


option_sets = st.builds(
    DecodingOptions,
    temperature=st.sampled_from([1.0, 0.5, 2.0]),
    top_k=st.sampled_from([0, 0, 1, 3, 20, 10**6]),
    top_p=st.sampled_from([1.0, 1.0, 0.3, 0.9, 0.999]),
    min_p=st.sampled_from([0.0, 0.0, 0.05]),
    typical_p=st.sampled_from([1.0, 1.0, 0.7]),
)


@given(
    options=option_sets,
    vocabulary_size=st.sampled_from([1, 2, 7, 60, 700, 3000]),
    scale=st.sampled_from([0.2, 2.0, 10.0]),
    bans=st.booleans(),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=150)
def test_candidates_stand_for_the_distribution_of_the_plain_warpers(options, vocabulary_size, scale, bans, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, vocabulary_size, generator=generator, dtype=torch.float64) * scale
    if bans:
        scores[:, 1:][torch.rand(3, vocabulary_size - 1, generator=generator) < 0.5] = -INF
    expected = warp_logits(scores, options).softmax(-1)
    assert torch.allclose(distribution(scores, options), expected, atol=1e-12)


@pytest.mark.parametrize("top_k", [0, 4])
@pytest.mark.parametrize("top_p", [1.0, 0.5, 0.95])
def test_candidates_of_tied_tokens_are_those_of_the_plain_warpers(top_k, top_p):
    generator = torch.Generator().manual_seed(0)
    scores = (torch.randn(40, 600, generator=generator) * 1.5).round()  # a dozen distinct values
    options = DecodingOptions(top_k=top_k, top_p=top_p)
    expected = warp_logits(scores.double(), options).softmax(-1)
    assert torch.equal(distribution(scores, options) > 0, expected > 0)


def test_a_zero_probability_is_never_drawn():
    log_weights = torch.tensor([[-INF, -INF, 0.0, -INF, 1.0, -INF], [-200.0, -INF, -INF, 3.0, -INF, -400.0]])
    lowest, highest = 0.0, 1 - 2.0**-53
    for draw in (lowest, 2.0**-53, 0.5, 1 / (1 + torch.e), highest, 1.0):
        columns, log_probs = inverse_cdf(log_weights, torch.full((2,), draw, dtype=torch.float64))
        assert columns[0] in (2, 4)
        assert columns[1] == 3
        assert bool(log_probs.isfinite().all())
    assert inverse_cdf(log_weights, torch.full((2,), lowest, dtype=torch.float64))[0][0] == 2
    assert inverse_cdf(log_weights, torch.full((2,), highest, dtype=torch.float64))[0][0] == 4


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_banned_tokens_are_never_drawn(seed):
    generator = torch.Generator().manual_seed(seed)
    log_weights = torch.randn(1, 300, generator=generator) * 20
    log_weights[torch.rand(1, 300, generator=generator) < 0.9] = -INF
    log_weights[0, 150] = 0.0
    columns, _ = inverse_cdf(log_weights.expand(500, -1), draws(500, seed))
    assert bool((log_weights[0, columns] > -INF).all())


@pytest.mark.parametrize(
    "options",
    [
        DecodingOptions(),
        DecodingOptions(temperature=0.6, top_k=5),
        DecodingOptions(top_p=0.8),
        DecodingOptions(min_p=0.1, typical_p=0.9),
        DecodingOptions(suppress_tokens=[3]),
    ],
)
def test_draws_follow_the_distribution(options):
    count, logits = 20000, torch.randn(1, 12, generator=torch.Generator().manual_seed(1)) * 1.5
    choice = choose_tokens(logits.expand(count, -1), NO_HISTORY.expand(count, 0), draws(count), options)
    banned = logits.index_fill(1, torch.tensor(options.suppress_tokens, dtype=torch.long), -INF)
    log_probs = warp_logits(banned.double(), options).log_softmax(-1)[0]
    counts = torch.bincount(choice.tokens, minlength=12)
    assert chi_square_is_plausible(counts, log_probs.exp() * count)
    assert torch.allclose(choice.sampling_log_probs.double(), log_probs[choice.tokens], atol=1e-5)
    assert torch.allclose(choice.log_probs, logits.log_softmax(-1)[0, choice.tokens], atol=1e-6)


def test_a_token_depends_on_its_own_row_only(monkeypatch):
    generator = torch.Generator().manual_seed(2)
    logits = (torch.randn(12, 900, generator=generator) * 2).bfloat16()  # coarse, so that there are ties
    numbers, history = draws(12), NO_HISTORY.expand(12, 0)
    settings = [{}, {"top_k": 20}, {"top_p": 0.95}, {"top_k": 300, "top_p": 0.9, "typical_p": 0.8}]
    for values, block in itertools.product(settings, (1, 2000, 10**9)):
        monkeypatch.setattr(drawing, "BLOCK_ELEMENTS", block)
        options = DecodingOptions(**values)
        together = choose_tokens(logits, history, numbers, options)
        for row in range(12):
            alone = choose_tokens(logits[row : row + 1], NO_HISTORY, numbers[row : row + 1], options)
            assert [float(x[row]) for x in together] == [float(x[0]) for x in alone]


def test_a_tiny_temperature_is_greedy():
    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(3)) * 100
    greedy = choose_tokens(logits, NO_HISTORY.expand(50, 0), draws(50), DecodingOptions(do_sample=False))
    assert torch.equal(greedy.tokens, logits.argmax(-1))
    assert torch.equal(greedy.sampling_log_probs, torch.zeros(50))
    for temperature in (1e-6, 1e-30, 1e-300):
        options = DecodingOptions(temperature=temperature)
        assert torch.equal(choose_tokens(logits, NO_HISTORY.expand(50, 0), draws(50), options).tokens, greedy.tokens)


@pytest.mark.parametrize("do_sample", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), INF])
def test_nan_and_infinite_logits_are_reported(do_sample, bad):
    logits = torch.zeros(2, 4)
    logits[1, 2] = bad
    with pytest.raises(ValueError, match=r"logits of the model are NaN or infinite after 5 new tokens"):
        choose_tokens(logits, NO_HISTORY.expand(2, 0), draws(2), DecodingOptions(do_sample=do_sample), new_tokens=5)


@pytest.mark.parametrize("do_sample", [True, False])
def test_a_row_without_any_allowed_token_is_reported(do_sample):
    options = DecodingOptions(do_sample=do_sample, no_repeat_ngram_size=1)
    with pytest.raises(ValueError, match=r"No token is left to choose after 3 new tokens"):
        choose_tokens(torch.zeros(1, 3), torch.tensor([[0, 1, 2]]), draws(1), options, new_tokens=3)
