"""Characters: the vocabulary, its limits, and what is outside of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen.codecs import CharacterCodec, CodecError


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1))
def test_any_text_comes_back(text):
    codec = CharacterCodec.train([text])
    assert codec.decode(codec.encode(text)) == text
    assert codec.count_bytes(codec.encode(text)) == len(text.encode("utf-8"))


def test_ids_follow_code_points_and_specials_follow_characters():
    codec = CharacterCodec.train(["hello", " wörld"], specials=["pad", "eos"])
    assert codec.characters == " dehlorwö"
    assert codec.encode("hello").tolist() == [3, 2, 4, 4, 5]
    assert (codec.eos_id, codec.pad_id, codec.unk_id, codec.bos_id) == (9, 10, None, None)


def test_max_size_counts_specials_and_keeps_the_frequent():
    codec = CharacterCodec.train("aaabbbccd", max_size=4, specials=["eos"])
    assert codec.vocab_size == 4
    assert codec.characters == "ab"
    assert set(codec.specials) == {"unk", "eos"}


def test_equally_frequent_characters_stay_by_code_point():
    assert CharacterCodec.train("dcba", max_size=3).characters == "ab"
    assert CharacterCodec.train("abcd", max_size=3).characters == "ab"


def test_min_count_leaves_out_the_rare():
    codec = CharacterCodec.train("aabbc", min_count=2)
    assert codec.characters == "ab"
    assert codec.encode("abc").tolist() == [0, 1, codec.unk_id]
    assert codec.decode(codec.encode("abc")) == "ab\ufffd"


def test_the_first_unknown_characters_are_named():
    codec = CharacterCodec.train("abc")
    sentence = (
        r"does not know, U\+00E9 'é' at position 1, U\+0000 '\\x00' at position 3, "
        r"U\+1F600 '😀' at position 5 and 1 more: "
        r"train the codec on text that has them, or with specials=\['unk'\]$"
    )
    for errors in ("strict", "replace", None):
        with pytest.raises(CodecError, match=sentence):
            codec.encode("aéb\x00é😀z", errors=errors)


def test_strict_refuses_what_replace_takes():
    codec = CharacterCodec.train("abc", specials=["unk"])
    assert codec.encode("axb").tolist() == codec.encode("axb", errors="replace").tolist() == [0, 3, 1]
    with pytest.raises(CodecError, match=r"U\+0078 'x' at position 1: encode with errors='replace'"):
        codec.encode("axb", errors="strict")


@pytest.mark.parametrize("character", ["\x00", "d", "\uffff", "\U0010ffff"])
def test_unknown_is_unknown_wherever_it_lies(character):
    codec = CharacterCodec("bc\ue000", specials=["unk"])
    assert codec.encode(character).tolist() == [3]
