"""Words: the Penn Treebank's conventions, on small texts and on the Penn Treebank."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen.codecs import CodecError, WordCodec

text_of_words = st.lists(
    st.one_of(st.text(max_size=6), st.sampled_from([" ", "  ", "\n", "\r\n", "\t", "\u2003", "<unk>"]))
).map("".join)


def normalised(text):
    return "\n".join(" ".join(line.split()) for line in text.split("\n"))


@settings(deadline=None, max_examples=100)
@given(text_of_words)
def test_text_comes_back_with_normalised_whitespace(text):
    codec = WordCodec.train([text, " a"])
    assert codec.decode(codec.encode(text, errors="strict")) == normalised(text)
    lower = WordCodec.train([text, " a"], lowercase=True)
    assert lower.decode(lower.encode(text, errors="strict")) == normalised(text.lower())


def test_every_newline_is_eos_and_a_prompt_stays_open():
    codec = WordCodec.train(["a b\n"])
    assert codec.decode(codec.encode("a b\n\nb")) == "a b\n\nb"
    assert codec.encode("a b")[-1] != codec.eos_id
    assert codec.encode("a b\n")[-1] == codec.eos_id
    assert codec.encode("\n\n").tolist() == [codec.eos_id] * 2


def test_ids_follow_frequency_then_the_alphabet():
    codec = WordCodec.train(["b b c\n", "b a c\n", "<unk>\n"], specials=["pad"])
    assert codec.words == ["<eos>", "b", "c", "<unk>", "a", "<pad>"]


def test_left_out_words_count_as_unk():
    counted = WordCodec.train(["b b b a a c\nd e\n"], min_count=2)
    assert counted.words == ["<unk>", "b", "<eos>", "a"]
    capped = WordCodec.train(["b b b a a c\nd e\n"], max_size=3)
    assert capped.words == ["<unk>", "b", "<eos>"]
    assert capped.decode(capped.encode("b a\n")) == "b <unk>\n"


def test_lowercase_is_part_of_the_codec():
    codec = WordCodec.train(["The the THE dog\n"], lowercase=True)
    assert codec.words == ["the", "<eos>", "dog", "<unk>"]
    assert codec.decode(codec.encode("THE Dog")) == "the dog"
    assert WordCodec.train(["The the\n"]).vocab_size == 4


def test_strict_names_the_first_unknown_words():
    codec = WordCodec.train(["a b\n"])
    assert codec.encode("a x").tolist()[1] == codec.unk_id
    sentence = "does not know, 'x' on line 1, 'y' on line 3, 'z' on line 3 and 1 more: encode with errors='replace'"
    with pytest.raises(CodecError, match=sentence):
        codec.encode("a x\nb\ny x z q", errors="strict")


def test_a_stream_writes_spaces_before_words():
    codec = WordCodec.train(["a b\n"], specials=["bos", "pad"])
    stream = codec.decode_stream()
    ids = [codec.bos_id, *codec.encode("a b\na\n").tolist(), codec.pad_id]
    assert [stream.put(index) for index in ids] == ["", "a", " b", "\n", "a", "\n", ""]
    assert codec.decode(ids) == "a b\na\n"
    assert codec.token_bytes(ids).tolist() == [0, 1, 2, 1, 1, 1, 0]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 5), max_size=12))
def test_byte_counts_are_exact_for_any_ids(ids):
    codec = WordCodec.train(["a bcd\n"], specials=["bos", "pad"])
    assert codec.count_bytes(ids) == len(codec.decode(ids).encode("utf-8"))


@pytest.fixture(scope="module")
def penn_treebank():
    home = os.environ.get("HYBRIDGEN_DATA")
    if not home:
        pytest.skip("HYBRIDGEN_DATA is not set: it names the folder with ptb/train.txt")
    folder = Path(home) / "ptb"
    if not all((folder / f"{split}.txt").is_file() for split in ("train", "valid", "test")):
        pytest.skip(f"{folder} lacks train.txt, valid.txt or test.txt")
    return {split: (folder / f"{split}.txt").read_text(encoding="utf-8") for split in ("train", "valid", "test")}


@pytest.fixture(scope="module")
def penn_codec(penn_treebank):
    return WordCodec.train(penn_treebank["train"].splitlines(keepends=True))


def test_penn_treebank_has_its_ten_thousand_types(penn_codec):
    assert penn_codec.vocab_size == 10_000
    assert penn_codec.words[:3] == ["the", "<unk>", "<eos>"]


@pytest.mark.parametrize(
    ("split", "tokens", "lines"),
    [("train", 929_589, 42_068), ("valid", 73_760, 3_370), ("test", 82_430, 3_761)],
)
def test_penn_treebank_has_its_tokens(penn_treebank, penn_codec, split, tokens, lines):
    ids = penn_codec.encode(penn_treebank[split], errors="strict")
    assert len(ids) == tokens
    assert int((ids == penn_codec.eos_id).sum()) == lines
    assert penn_codec.decode(ids) == normalised(penn_treebank[split])
