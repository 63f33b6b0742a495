"""What holds for every text codec."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen import codecs
from hybridgen.codecs import CodecError

modest = settings(deadline=None, max_examples=30)
# Letters, whitespace of several kinds, multi-byte characters and pieces that look like special tokens.
texts = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(["the", "fox", " ", "\n", "é", "日", "😀", "<eos>", "<unk>", "\t", "\u2003"])).map(
        "".join
    ),
)


def known_text(codec, text):
    """Leave out what a closed vocabulary cannot encode."""
    return text if codec.name != "characters" else "".join(c for c in text if c in codec.characters)


def ids_of(codec):
    return st.lists(st.integers(0, codec.vocab_size - 1), max_size=30)


def test_empty_text_is_an_empty_tensor(codec):
    ids = codec.encode("")
    assert ids.shape == (0,)
    assert ids.dtype == torch.int64
    assert codec.decode(ids) == codec.decode([]) == ""
    assert codec.count_bytes(ids) == 0


def test_ids_are_int64_in_range_and_writable(codec, text):
    ids = codec.encode(known_text(codec, text))
    assert ids.dtype == torch.int64
    assert ids.ndim == 1
    assert 0 <= ids.min() <= ids.max() < codec.vocab_size == len(codec)
    ids += 0  # a view of read-only memory would warn or fail


def test_the_config_is_plain_json_and_rebuilds_the_codec(codec, text):
    config = codec.to_config()
    through_json = json.loads(json.dumps(config))
    assert through_json == config
    rebuilt = codecs.from_config(through_json)
    assert type(rebuilt) is type(codec)
    assert rebuilt.specials == codec.specials
    assert rebuilt.to_config() == config

    @modest
    @given(texts)
    def same_encoding(sample):
        sample = known_text(codec, sample)
        assert torch.equal(rebuilt.encode(sample), codec.encode(sample))

    same_encoding()


def test_changing_a_config_does_not_change_the_codec(codec, text):
    before = codec.encode(known_text(codec, text)), json.dumps(codec.to_config())
    for value in codec.to_config().values():
        if hasattr(value, "clear"):
            value.clear()
    assert torch.equal(codec.encode(known_text(codec, text)), before[0])
    assert json.dumps(codec.to_config()) == before[1]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda codec: pickle.loads(pickle.dumps(codec))])
def test_a_copy_encodes_the_same(codec, text, copied):
    text = known_text(codec, text)
    assert torch.equal(copied(codec).encode(text), codec.encode(text))


def test_a_stream_writes_what_decode_writes(codec):
    @modest
    @given(st.data())
    def same_text(data):
        ids = data.draw(ids_of(codec))
        stream = codec.decode_stream()
        assert "".join(map(stream.put, ids)) + stream.end() == codec.decode(ids)
        assert "".join(map(stream.put, torch.tensor(ids))) + stream.end() == codec.decode(ids), "not afresh"

    same_text()


def test_byte_counts_add_up_to_the_bytes_of_the_text(codec):
    @modest
    @given(texts)
    def adds_up(text):
        ids = codec.encode(known_text(codec, text))
        written = codec.decode(ids).encode("utf-8")
        assert codec.token_bytes(ids).shape == ids.shape
        assert int(codec.token_bytes(ids).sum()) == codec.count_bytes(ids) == len(written)

    adds_up()


def test_special_tokens_have_distinct_ids(codec):
    named = {"unk": codec.unk_id, "eos": codec.eos_id, "bos": codec.bos_id, "pad": codec.pad_id}
    assert {name: index for name, index in named.items() if index is not None} == codec.specials
    assert len(set(codec.specials.values())) == len(codec.specials)
    assert all(0 <= index < codec.vocab_size for index in codec.specials.values())


def test_special_tokens_beside_unk_write_no_characters(codec):
    ids = [index for name, index in codec.specials.items() if name != "unk"]
    assert codec.decode(ids).strip("\n") == ""


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda ids: torch.tensor(ids).int()])
def test_decode_takes_any_sequence_of_whole_numbers(codec, text, kind):
    ids = codec.encode(known_text(codec, text))
    assert codec.decode(kind(ids.tolist())) == codec.decode(ids) != ""


@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_an_id_outside_the_vocabulary_is_named(codec, wrong):
    last = codec.vocab_size - 1
    with pytest.raises(CodecError, match=f"id {wrong} at position 1 is outside the vocabulary, 0 to {last}:"):
        codec.decode([0, wrong])
    with pytest.raises(CodecError, match=f"id {wrong} at position 0"):
        codec.token_bytes(torch.tensor([wrong]))
    with pytest.raises(CodecError, match=f"id {wrong} is outside the vocabulary, 0 to {last}:"):
        codec.decode_stream().put(wrong)


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), "2 dimensions: decode the rows of a batch one by one"),
        (torch.tensor(3), "0 dimensions"),
        ([[1], [2, 3]], "2 dimensions"),
        (torch.ones(3, dtype=torch.bfloat16), "whole numbers but got torch.bfloat16"),
        ([0.5], "whole numbers but got float64"),
        ([True], "whole numbers but got bool"),
        (["a"], "whole numbers"),
    ],
)
def test_ids_of_the_wrong_kind_are_refused(codec, ids, sentence):
    with pytest.raises(CodecError, match=sentence):
        codec.decode(ids)


def test_a_stream_refuses_what_is_not_a_whole_id(codec):
    with pytest.raises(CodecError, match="one whole id at a time"):
        codec.decode_stream().put(0.5)


def test_text_that_utf8_cannot_hold_is_refused(codec):
    with pytest.raises(CodecError, match=r"lone surrogate U\+D83D at position 2"):
        codec.encode("ab\ud83d")
    with pytest.raises(CodecError, match="of type bytes, not str"):
        codec.encode(b"ab")


def test_an_unknown_way_with_errors_is_refused(codec):
    with pytest.raises(CodecError, match="errors='ignore' is unknown: use 'strict' or 'replace'"):
        codec.encode("", errors="ignore")
