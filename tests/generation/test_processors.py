import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen.generation import DecodingOptions, processors

INF = torch.inf
PAD = processors.PADDING


def banned(result):
    return [(row == -INF).nonzero()[:, 0].tolist() for row in result]


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits_once():
    values = torch.tensor([[2.0, -2.0, 4.0, -4.0]])
    history = torch.tensor([[PAD, 0, 1, 0, 0]])
    assert processors.repetition_penalty(values, history, 2.0).tolist() == [[1.0, -4.0, 4.0, -4.0]]


def test_padding_and_foreign_ids_are_no_tokens():
    values = torch.tensor([[2.0, 2.0, 2.0]])
    history = torch.tensor([[PAD, 3, 17]])
    assert torch.equal(processors.repetition_penalty(values, history, 2.0), values)
    assert banned(processors.no_repeat_ngram_size(values, history, 1)) == [[]]


def test_no_repeat_ngram_bans_what_followed_before():
    history = torch.tensor([[1, 2, 3, 1, 2], [4, 1, 2, 4, 1], [3, 3, 3, 3, 3]])
    assert banned(processors.no_repeat_ngram_size(torch.zeros(3, 5), history, 3)) == [[3], [2], [3]]


def test_no_repeat_ngram_ignores_padding():
    # The last row has one token: its prefix reaches into the padding, which also precedes the first token.
    history = torch.tensor([[PAD, 1, 2, 1], [PAD, PAD, 2, 2], [PAD, PAD, PAD, 2]])
    assert banned(processors.no_repeat_ngram_size(torch.zeros(3, 4), history, 2)) == [[2], [2], []]
    assert banned(processors.no_repeat_ngram_size(torch.zeros(3, 4), history, 3)) == [[], [], []]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 4))
@settings(deadline=None)
def test_no_repeat_ngram_bans_exactly_the_repetitions(tokens, size):
    result = banned(processors.no_repeat_ngram_size(torch.zeros(1, 4), torch.tensor([tokens]), size))[0]

    def ngrams(sequence):
        return [tuple(sequence[i : i + size]) for i in range(len(sequence) - size + 1)]

    repeats = [token for token in range(4) if tuple([*tokens, token][-size:]) in ngrams(tokens)]
    assert result == (repeats if len(tokens) >= size else [])


def test_bad_words_are_banned_where_they_would_be_completed():
    history = torch.tensor([[PAD, 1, 2], [0, 3, 1]])
    words = [[4], [1, 2, 0], [2, 3], [1, 1], [1, 1, 1, 1, 2], [2, 2, 2, 2, 1]]
    assert banned(processors.bad_words_ids(torch.zeros(2, 5), history, words)) == [[0, 3, 4], [1, 4]]


def test_end_tokens_are_forbidden_until_the_minimum():
    values = torch.zeros(2, 4)
    assert banned(processors.min_new_tokens(values, 1, 2, (0, 3))) == [[0, 3]] * 2
    assert banned(processors.min_new_tokens(values, 2, 2, (0, 3))) == [[]] * 2


def test_an_end_token_is_no_bad_word_but_can_be_suppressed():
    options = DecodingOptions(bad_words_ids=[[3], [1]])
    history = torch.tensor([[0]])
    result = processors.process_logits(torch.zeros(1, 4), history, options, new_tokens=0, end_tokens=(3,))
    assert banned(result) == [[1]]
    options = DecodingOptions(suppress_tokens=[3])
    result = processors.process_logits(torch.zeros(1, 4), history, options, new_tokens=0, end_tokens=(3,))
    assert banned(result) == [[3]]


@pytest.mark.parametrize(
    "options", [DecodingOptions(suppress_tokens=[7]), DecodingOptions(bad_words_ids=[[1, 7], [2]])]
)
def test_ids_outside_the_vocabulary_are_reported(options):
    with pytest.raises(ValueError, match=r"holds token 7, but the vocabulary has 5 tokens\."):
        processors.process_logits(torch.zeros(1, 5), torch.tensor([[0]]), options, new_tokens=0)


def test_processors_change_no_input():
    values, history = torch.randn(2, 6), torch.tensor([[1, 2, 1], [PAD, 3, 3]])
    before = values.clone()
    options = DecodingOptions(
        repetition_penalty=1.3,
        no_repeat_ngram_size=2,
        bad_words_ids=[[1, 0], [4]],
        suppress_tokens=[5],
        min_new_tokens=1,
    )
    result = processors.process_logits(values, history, options, new_tokens=0, end_tokens=(1,))
    assert torch.equal(values, before)
    assert banned(result) == [[0, 1, 2, 4, 5], [1, 3, 4, 5]]
