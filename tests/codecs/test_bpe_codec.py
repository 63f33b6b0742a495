"""Byte-level BPE: nothing is lost, nothing is random, and files that would lose something are refused."""

import json
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen import codecs
from hybridgen.codecs import BPECodec, CodecError
from hybridgen.codecs import bpe as bpe_module


def test_any_text_comes_back(bpe):
    @settings(deadline=None, max_examples=100)
    @given(st.one_of(st.text(), st.lists(st.sampled_from(["<eos>", "<pad>", " ", "\n", "fox", "é"])).map("".join)))
    def comes_back(text):
        ids = bpe.encode(text)
        assert bpe.decode(ids) == text
        assert bpe.count_bytes(ids) == len(text.encode("utf-8"))
        assert not set(ids.tolist()) & set(bpe.specials.values())

    comes_back()


def test_merges_are_learnt(bpe, text):
    assert bpe.vocab_size == 300
    assert len(bpe.encode(text)) < 0.8 * len(text.encode("utf-8"))
    assert len(bpe.encode("the fox")) < 7


def test_training_is_repeatable(text):
    assert BPECodec.train([text], vocab_size=280).to_config() == BPECodec.train([text], vocab_size=280).to_config()


def test_a_text_too_small_gives_fewer_ids():
    codec = BPECodec.train(["ab"], vocab_size=1000, specials=["eos"])
    assert codec.vocab_size == 258  # the bytes, "ab" and <eos>
    assert codec.eos_id == 257


def test_cutting_a_text_into_blocks_changes_no_id(bpe, monkeypatch):
    whole = bpe._tokenizer

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(st.sampled_from(["fox", "'s", "!", " ", "  ", "\n", "\t", "\u00a0", "\x1c", "7", "é", "日"])).map(
            "".join
        ),
        st.integers(1, 5),
    )
    def changes_no_id(text, block):
        monkeypatch.setattr(bpe_module, "_BLOCK", block)
        assert bpe.encode(text).tolist() == whole.encode(text, add_special_tokens=False).ids

    changes_no_id()


def test_a_stream_holds_back_half_a_character(bpe):
    stream = bpe.decode_stream()
    ids = bpe.encode("\U0001f9ff").tolist()  # not in the training text, so several ids
    assert len(ids) > 1
    written = [stream.put(index) for index in ids]
    assert written == [""] * (len(ids) - 1) + ["\U0001f9ff"]


def add_a_token_that_is_not_bytes(definition):
    definition["model"]["vocab"]["日"] = definition["added_tokens"][0]["id"]
    for added in definition["added_tokens"]:
        added["id"] += 1


def rename_byte_zero(definition):
    definition["model"]["merges"] = []
    definition["model"]["vocab"]["nowhere"] = definition["model"]["vocab"].pop("Ā")


def split_at_whitespace(definition):
    splits = [{"type": "WhitespaceSplit"}, definition["pre_tokenizer"]]
    definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": splits}


# What is done to a tokenizer.json, and a part of the sentence about it.
DAMAGES = [
    (lambda d: d.pop("model"), "it has no 'model'"),
    (lambda d: d["model"].update(type="WordPiece"), "model is 'WordPiece'"),
    (lambda d: d["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix='</w>'"),
    (lambda d: d["model"].update(continuing_subword_prefix="#"), "continuing_subword_prefix='#'"),
    (lambda d: d["model"].update(merges=[["a", "nowhere"]]), "cannot be read"),
    (lambda d: d["model"]["vocab"].update(a=0, b=0), "ids are not 0, 1, 2"),
    (lambda d: d["model"]["vocab"].update(new=5000), "ids are not 0, 1, 2"),
    (lambda d: d["added_tokens"][0].update(id=7), "'<eos>' cannot have the id 7"),
    (lambda d: d.update(normalizer={"type": "NFC"}), "has a normalizer"),
    (lambda d: d.update(pre_tokenizer=None), "does not give the text back"),
    (lambda d: d["pre_tokenizer"].update(add_prefix_space=True), "does not give"),
    (add_a_token_that_is_not_bytes, "'日' is not spelt in bytes"),
    (rename_byte_zero, "no token for 1 of the 256 bytes"),
    (split_at_whitespace, "does not give"),
]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES)
def test_a_tokenizer_that_could_lose_text_is_refused(bpe, tmp_path, damage, sentence):
    definition = bpe.to_config()["tokenizer"]
    damage(definition)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(definition), encoding="utf-8")
    with pytest.raises(CodecError, match=f"{path} cannot be used, since .*{sentence}"):
        BPECodec.from_file(path, eos="<eos>")
    with pytest.raises(CodecError, match=f"saved bpe codec cannot be used, since .*{sentence}"):
        codecs.from_config({**bpe.to_config(), "tokenizer": definition})


def test_a_file_becomes_part_of_the_config(bpe, text, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(bpe.to_config()["tokenizer"]), encoding="utf-8")
    loaded = BPECodec.from_file(path, eos="<eos>", pad="<pad>")
    path.unlink()
    rebuilt = codecs.from_config(json.loads(json.dumps(loaded.to_config())))
    assert torch.equal(rebuilt.encode(text), bpe.encode(text))
    assert rebuilt.specials == {"eos": bpe.eos_id, "pad": bpe.pad_id}


def test_randomness_truncation_and_padding_are_switched_off(bpe, text):
    definition = bpe.to_config()["tokenizer"]
    definition["model"]["dropout"] = 0.9
    definition["truncation"] = {
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    definition["padding"] = {
        "strategy": {"Fixed": 999}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
    }  # fmt: skip
    assert torch.equal(BPECodec(definition, specials={}).encode(text), bpe.encode(text))


def test_a_token_across_words_is_found_where_the_split_allows_it():
    definition = BPECodec.train(["ab"], vocab_size=256).to_config()["tokenizer"]
    definition["model"]["vocab"]["bĠ"] = 256
    definition["model"]["merges"] = [["b", "Ġ"]]
    definition["pre_tokenizer"]["use_regex"] = False
    codec = BPECodec(definition, specials={})
    assert codec.token_bytes(codec.encode("ab ab")).tolist() == [1, 2, 1, 1]
    assert codec.decode(codec.encode("ab ab")) == "ab ab"


def test_an_added_token_that_is_not_special_is_text(bpe):
    definition = bpe.to_config()["tokenizer"]
    added = {**definition["added_tokens"][0], "id": 300, "content": "an é", "special": False}
    definition["added_tokens"].append(added)
    codec = BPECodec(definition, specials={})
    assert codec.encode("an é").tolist() == [300]
    assert codec.token_bytes([300]).tolist() == [5]
    assert codec.decode(codec.encode("<eos> an é!")) == "<eos> an é!"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"cannot be opened \(No such file"),
        ("{", "is not JSON"),
        ("\xff".encode("latin-1"), "is not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, sentence):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CodecError, match=rf"{path} {sentence}.*: give the path of a tokenizer\.json"):
        BPECodec.from_file(path)


@pytest.mark.parametrize(
    ("specials", "sentence"),
    [
        ({"eos": "<eo>"}, "no special token '<eo>': did you mean '<eos>'"),
        ({"eos": "end"}, "no special token 'end': choose one of '<eos>', '<bos>', '<pad>'"),
        ({"eos": 3}, "specials is of type int, not str"),
        ({"eos": "\ud800"}, "specials has the lone surrogate"),
        ({"eos": "a"}, "token 'a' is ordinary text"),
        ({"unk": "<eos>"}, "specials names 'unk'"),
        (["eos"], "must map names to tokens"),
    ],
)
def test_special_tokens_must_be_special_tokens_of_the_file(bpe, specials, sentence):
    with pytest.raises(CodecError, match=sentence):
        BPECodec(bpe.to_config()["tokenizer"], specials=specials)


def test_without_tokenizers_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"^the bpe codec needs the package tokenizers: pip install tokenizers$"):
        codecs.make("bpe", ["a"])
    assert codecs.make("bytes").vocab_size == 256
