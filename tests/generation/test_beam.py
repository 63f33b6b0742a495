import itertools

import pytest
import torch

from hybridgen.generation import DecodingOptions, beam_search, sample

from .toy_models import ToyModel, markov_step

END = 0
PROMPTS = [[1], [2, 3, 1], [3, 3]]


def search(model, prompts, options, **rest):
    state = model.initial_state(len(prompts))
    return beam_search(model.step, prompts, state, options, eos_token_id=END, **rest)


def beams(num_beams, **values):
    return DecodingOptions(do_sample=False, num_beams=num_beams, **values)


def ranking(model, prompt, longest, length_penalty, allowed=lambda sequence: True):
    """Every sequence with its score, best first."""
    scored = [
        (sum(model.log_probs(prompt, tokens)) / len(tokens) ** length_penalty, list(tokens))
        for tokens in model.sequences(longest, END)
        if allowed(tokens)
    ]
    return sorted(scored, reverse=True)


def read(result, row):
    """The filled places of a row as (score, tokens)."""
    lengths = result.lengths[row].tolist()
    return [
        (float(result.scores[row, place]), result.tokens[row, place, :length].tolist())
        for place, length in enumerate(lengths)
        if length > 0
    ]


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.5, -1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_beam_wide_enough_finds_the_best_of_all_sequences(length_penalty, seed):
    model = ToyModel(4, seed=seed)
    options = beams(60, max_new_tokens=4, length_penalty=length_penalty, early_stopping="never")
    result = search(model, PROMPTS, options)
    for row, prompt in enumerate(PROMPTS):
        expected = ranking(model, prompt, 4, length_penalty)
        for (score, tokens), (best, best_tokens) in zip(read(result, row), expected, strict=False):
            assert tokens == best_tokens
            assert score == pytest.approx(best, abs=1e-5)


def test_places_are_left_empty_where_there_are_fewer_sequences():
    model = ToyModel(3)
    result = search(model, [[1]], beams(20, max_new_tokens=2, early_stopping="never"), pad_token_id=-5)
    everything = ranking(model, [1], 2, 1.0)
    assert len(everything) == 7
    assert [tokens for _, tokens in read(result, 0)] == [tokens for _, tokens in everything]
    assert result.lengths[0, 7:].tolist() == [0] * 13
    assert bool((result.scores[0, 7:] == -torch.inf).all())
    assert result.finish_reasons[0][7:] == [None] * 13
    assert set(result.tokens[0, 7:].flatten().tolist()) == {-5}


@pytest.mark.parametrize("seed", range(5))
def test_one_beam_is_greedy(seed):
    model = ToyModel(6, seed=seed)
    options = DecodingOptions(do_sample=False, max_new_tokens=8, min_new_tokens=2)
    greedy = sample(model.step, PROMPTS, model.initial_state(3), options, eos_token_id=END)
    result = search(model, PROMPTS, options)
    assert torch.equal(result.tokens[:, 0], greedy.tokens)
    assert torch.equal(result.lengths[:, 0], greedy.lengths)
    assert [reasons[0] for reasons in result.finish_reasons] == greedy.finish_reasons
    assert torch.allclose(result.log_probs[:, 0], greedy.log_probs, atol=1e-6)


def test_greedy_ends_at_the_first_end_token():
    # Token 0 ends with probability 0.6 at once; the other way is certain ever after and longer.
    table = torch.tensor([[0.2, 0.8, 0.0], [0.6, 0.0, 0.4], [0.0, 0.0, 1.0]]).log()
    options = beams(1, max_new_tokens=5)
    result = beam_search(markov_step(table), [[1]], torch.zeros(1, 1), options, eos_token_id=END)
    assert read(result, 0) == [(pytest.approx(torch.tensor(0.6).log().item()), [0])]


def test_a_beam_of_two_finds_what_greedy_misses():
    table = torch.tensor([[0.0, 0.6, 0.4, 0.0], [0.4, 0.3, 0.3, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    options = beams(2, max_new_tokens=3, length_penalty=0.0, early_stopping="never")
    result = beam_search(markov_step(table.log()), [[0]], torch.zeros(1, 1), options, eos_token_id=END)
    assert read(result, 0)[0] == (pytest.approx(torch.tensor(0.4).log().item()), [2, 3, 0])


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_a_row_is_searched_as_if_it_were_alone(early_stopping):
    model = ToyModel(6, seed=3)
    options = beams(3, max_new_tokens=7, early_stopping=early_stopping, no_repeat_ngram_size=2)
    together = search(model, PROMPTS, options)
    for row, prompt in enumerate(PROMPTS):
        alone = search(model, [prompt], options)
        assert [tokens for _, tokens in read(alone, 0)] == [tokens for _, tokens in read(together, row)]
        assert torch.allclose(alone.scores[0], together.scores[row], atol=1e-6)
        assert alone.finish_reasons[0] == together.finish_reasons[row]


def test_scores_are_the_log_probs_over_the_length():
    model = ToyModel(6, seed=4)
    result = search(model, PROMPTS, beams(4, max_new_tokens=6, length_penalty=0.7))
    assert torch.allclose(result.scores, result.log_probs.sum(-1) / result.lengths**0.7, atol=1e-5)
    assert bool((result.scores[:, 1:] <= result.scores[:, :-1]).all()), "best first"
    for row, prompt in enumerate(PROMPTS):
        for place, (_, tokens) in enumerate(read(result, row)):
            log_probs = result.log_probs[row, place, : len(tokens)].tolist()
            assert log_probs == pytest.approx(model.log_probs(prompt, tokens), abs=1e-5)


@pytest.mark.parametrize(
    ("early_stopping", "longest", "steps", "probabilities"),
    [
        (True, 8, 1, [0.4]),  # both places are filled at once
        (False, 8, 1, [0.4]),  # the running beam has 0.2 at this length, less than 0.4
        ("never", 8, 8, [0.2] + [0.99] * 7),  # but its mean over eight tokens is better
        ("never", 1, 1, [0.4]),
    ],
)
def test_early_stopping(early_stopping, longest, steps, probabilities):
    # Tokens 0 and 2 end. The two best tokens of the first step end, so the search lives on the candidates beyond.
    table = torch.tensor([[0.0] * 3, [0.005, 0.99, 0.005], [0.4, 0.2, 0.4]]).log()
    calls = []

    def step(tokens, state):
        calls.append(len(tokens))
        return table[tokens], state

    options = beams(2, max_new_tokens=longest, early_stopping=early_stopping)
    result = beam_search(step, [[2]], torch.zeros(1, 1), options, eos_token_id=[0, 2])
    assert len(calls) == steps
    assert float(result.scores[0, 0]) == pytest.approx(float(torch.tensor(probabilities).log().mean()), abs=1e-5)


@pytest.mark.parametrize(("early_stopping", "steps", "best"), [(True, 2, [0.4]), (False, 8, [0.6] + [0.9] * 7)])
def test_full_places_end_the_search_only_if_asked(early_stopping, steps, best):
    # After two steps both places are filled, one of them badly, and the running beam is the best of all.
    table = torch.tensor([[0.0] * 3, [0.1, 0.9, 0.0], [0.4, 0.6, 0.0]]).log()
    calls = []

    def step(tokens, state):
        calls.append(len(tokens))
        return table[tokens], state

    options = beams(2, max_new_tokens=8, early_stopping=early_stopping)
    result = beam_search(step, [[2]], torch.zeros(1, 1), options, eos_token_id=0)
    assert len(calls) == steps
    assert float(result.scores[0, 0]) == pytest.approx(float(torch.tensor(best).log().mean()), abs=1e-5)


def test_an_exact_search_ends_when_no_length_can_help():
    # 0.1 over two tokens has a mean of 0.32, less than the 0.45 of both finished sequences.
    table = torch.tensor([[0.0] * 3, [0.005, 0.99, 0.005], [0.45, 0.1, 0.45]]).log()
    calls = []

    def step(tokens, state):
        calls.append(len(tokens))
        return table[tokens], state

    options = beams(2, max_new_tokens=2, early_stopping="never")
    beam_search(step, [[2]], torch.zeros(1, 1), options, eos_token_id=[0, 2])
    assert len(calls) == 1


def test_length_penalty_changes_the_length():
    model = ToyModel(5, seed=7)
    lengths = [
        float(search(model, PROMPTS, beams(5, max_new_tokens=8, length_penalty=x)).lengths[:, 0].float().mean())
        for x in (-2.0, 3.0)
    ]
    assert lengths[0] < lengths[1]


def test_penalties_and_bans_hold_in_every_beam():
    model = ToyModel(4, seed=5)
    options = beams(40, max_new_tokens=4, early_stopping="never", min_new_tokens=2, no_repeat_ngram_size=2)

    def allowed(tokens):
        whole = [1, 2, *tokens]
        ngrams = list(itertools.pairwise(whole))
        return len(set(ngrams)) == len(ngrams) and END not in tokens[:2]

    result = read(search(model, [[1, 2]], options), 0)
    expected = ranking(model, [1, 2], 4, 1.0, allowed)
    assert [tokens for _, tokens in result] == [tokens for _, tokens in expected][: len(result)]
    assert len(result) == min(40, len(expected))


def test_prefill_is_used():
    model = ToyModel(5)

    def prefill(tokens, lengths, state):
        return state._replace(hidden=state.hidden + 1.0)

    options = beams(2, max_new_tokens=4)
    assert not torch.equal(
        search(model, PROMPTS, options, prefill=prefill).scores, search(model, PROMPTS, options).scores
    )


def test_wrong_arguments_are_reported():
    model = ToyModel(5)
    with pytest.raises(ValueError, match="do_sample must be False"):
        search(model, PROMPTS, DecodingOptions())
    with pytest.raises(ValueError, match="stop_strings must be empty"):
        search(model, PROMPTS, DecodingOptions(do_sample=False, stop_strings="x"))
    with pytest.raises(ValueError, match="eos_token_id"):
        beam_search(model.step, [[1]], model.initial_state(1), beams(2), eos_token_id=9)
    with pytest.raises(ValueError, match="there are 3 prompts"):
        beam_search(model.step, PROMPTS, model.initial_state(2), beams(2))


def test_a_search_without_any_allowed_sequence_is_reported():
    model = ToyModel(3)
    options = beams(2, max_new_tokens=5, no_repeat_ngram_size=1, suppress_tokens=[END])
    with pytest.raises(ValueError, match="No sequence of prompt 0 could be finished: no_repeat_ngram_size"):
        search(model, [[1]], options)
