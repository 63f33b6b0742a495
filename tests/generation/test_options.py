import dataclasses

import pytest

from hybridgen.generation import DecodingOptions


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_new_tokens": 0}, ["max_new_tokens", "at least 1", "0"]),
        ({"max_new_tokens": 2.5}, ["max_new_tokens", "whole number", "2.5"]),
        ({"max_new_tokens": True}, ["max_new_tokens", "whole number", "True"]),
        ({"min_new_tokens": -1}, ["min_new_tokens", "at least 0", "-1"]),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, ["min_new_tokens", "max_new_tokens=8", "9"]),
        ({"do_sample": "yes"}, ["do_sample", "True or False", "'yes'"]),
        ({"temperature": 0}, ["temperature", "above 0", "do_sample=False", "greedy", "is 0"]),
        ({"temperature": -0.5}, ["temperature", "above 0", "-0.5"]),
        ({"temperature": float("nan")}, ["temperature", "finite", "nan"]),
        ({"temperature": "hot"}, ["temperature", "number", "'hot'"]),
        ({"top_k": -1}, ["top_k", "at least 0", "-1"]),
        ({"top_p": 0.0}, ["top_p", "(0, 1]", "0.0"]),
        ({"top_p": 1.1}, ["top_p", "(0, 1]", "1.1"]),
        ({"min_p": 1.5}, ["min_p", "[0, 1]", "1.5"]),
        ({"min_p": -0.1}, ["min_p", "[0, 1]", "-0.1"]),
        ({"typical_p": 0}, ["typical_p", "(0, 1]", "0"]),
        ({"repetition_penalty": 0.0}, ["repetition_penalty", "above 0", "0.0"]),
        ({"no_repeat_ngram_size": -2}, ["no_repeat_ngram_size", "at least 0", "-2"]),
        ({"bad_words_ids": [[1], []]}, ["bad_words_ids", "non-empty lists"]),
        ({"bad_words_ids": [3]}, ["bad_words_ids", "non-empty lists"]),
        ({"bad_words_ids": [[-1]]}, ["bad_words_ids", ">= 0"]),
        ({"suppress_tokens": [1.5]}, ["suppress_tokens", "token ids", "1.5"]),
        ({"suppress_tokens": 5}, ["suppress_tokens", "a list", "5"]),
        ({"stop_strings": ["end", ""]}, ["stop_strings", "non-empty"]),
        ({"num_beams": 0, "do_sample": False}, ["num_beams", "at least 1", "0"]),
        ({"num_beams": 4}, ["num_beams", "do_sample=False", "4"]),
        ({"num_beams": 4, "do_sample": False, "stop_strings": ["x"]}, ["stop_strings", "num_beams=4"]),
        ({"length_penalty": float("inf"), "num_beams": 2, "do_sample": False}, ["length_penalty", "finite"]),
        ({"length_penalty": 0.5}, ["length_penalty", "num_beams > 1", "0.5"]),
        ({"early_stopping": "soon"}, ["early_stopping", "never", "'soon'"]),
        ({"early_stopping": True}, ["early_stopping", "num_beams > 1", "True"]),
        ({"do_sample": False, "temperature": 0.7}, ["temperature", "do_sample=True", "0.7"]),
        ({"do_sample": False, "top_p": 0.9}, ["top_p", "do_sample=True", "0.9"]),
        ({"seed": -1}, ["seed", "at least 0", "-1"]),
        ({"seed": 2**64}, ["seed", "below 2**64"]),
    ],
)
def test_a_bad_value_is_reported_in_one_sentence(values, words):
    with pytest.raises(ValueError, match=next(iter(words))) as error:
        DecodingOptions(**values)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert message.endswith(".")
    assert "\n" not in message


def test_borders_of_the_allowed_ranges_are_allowed():
    DecodingOptions(top_p=1, min_p=0, typical_p=1, temperature=1e-9, seed=2**64 - 1, max_new_tokens=1)
    DecodingOptions(min_p=1, top_k=10**9, min_new_tokens=3, max_new_tokens=3)
    DecodingOptions(do_sample=False, num_beams=3, length_penalty=-1, early_stopping="never")


def test_options_are_frozen_and_lists_are_copied_into_tuples():
    words = [[1, 2], [3]]
    options = DecodingOptions(bad_words_ids=words, suppress_tokens=[4], stop_strings=["a"])
    words[0].append(9)
    assert options.bad_words_ids == ((1, 2), (3,))
    assert options.suppress_tokens == (4,)
    assert hash(options) == hash(dataclasses.replace(options))
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.top_k = 3


def test_one_stop_string_is_not_split_into_characters():
    assert DecodingOptions(stop_strings="end").stop_strings == ("end",)


def test_history_is_kept_only_where_it_is_read():
    assert not DecodingOptions(bad_words_ids=[[1]], suppress_tokens=[2], min_new_tokens=3).needs_history
    assert DecodingOptions(bad_words_ids=[[1, 2]]).needs_history
    assert DecodingOptions(repetition_penalty=1.1).needs_history
    assert DecodingOptions(no_repeat_ngram_size=2).needs_history
