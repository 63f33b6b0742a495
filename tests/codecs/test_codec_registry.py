"""Codecs by name, and what a damaged or hostile checkpoint meets."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen import codecs
from hybridgen.codecs import CodecError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)


def load_or_refuse(config):
    """Return the codec, or None if it was refused in one sentence; let anything else that is raised pass."""
    try:
        return codecs.from_config(config)
    except CodecError as error:
        message = str(error)
    assert "\n" not in message
    return None


def test_names():
    assert codecs.names() == ["bpe", "bytes", "characters", "words"]


def test_make_passes_options_on(text):
    assert codecs.make("words", text, max_size=7).vocab_size == 7
    assert codecs.make("bytes", specials=["pad"]).pad_id == 256


def test_one_str_is_one_piece():
    assert codecs.make("words", "ab cd").words == codecs.make("words", ["ab cd"]).words
    assert "ab" in codecs.make("words", "ab cd").words


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        (("word", "a"), {}, "there is no codec 'word': did you mean 'words'"),
        (("zip", "a"), {}, "there is no codec 'zip': choose one of 'bpe', 'bytes', 'characters', 'words'$"),
        ((3, "a"), {}, "there is no codec 3: choose one of"),
        (("words", "a"), {"min_counts": 2}, r"the words codec has no option 'min_counts': did you mean 'min_count'"),
        (("words",), {}, "from text but texts is missing: pass pieces of text"),
        (("words", 3), {}, "from text but texts is of type int"),
        (("words", ["a", b"b"]), {}, "piece 1 of the training text is of type bytes, not str"),
        (("bpe", ["a", b"b"]), {}, "piece 1 of the training text is of type bytes, not str"),
        (("characters", ["a", "\udc00"]), {}, r"piece 1 of the training text has the lone surrogate U\+DC00"),
        (("characters", []), {}, "every piece was empty"),
        (("bpe", iter(["", ""])), {}, "every piece was empty"),
        (("words", " \n"), {}, "no word seen min_count=1 times"),
        (("characters", "ab"), {"min_count": 2}, "min_count=2 leaves no character"),
        (("characters", "ab"), {"min_count": 0}, "min_count=0 must be a whole number of at least 1"),
        (("characters", "ab"), {"max_size": 1}, "max_size=1 must be a whole number of at least 2"),
        (("words", "ab"), {"max_size": 2}, "max_size=2 must be a whole number of at least 3"),
        (("words", "ab"), {"min_count": True}, "min_count=True must be a whole number"),
        (("words", "ab"), {"lowercase": "yes"}, "lowercase='yes' must be true or false"),
        (("bpe", "ab"), {"vocab_size": 255}, "vocab_size=255 must be a whole number of at least 256"),
        (("bytes",), {"specials": "eos"}, "specials='eos' must be a list of names: write it as \\['eos'\\]"),
        (
            ("bytes",),
            {"specials": ["eod"]},
            "specials names 'eod', which this codec does not take: did you mean 'eos'",
        ),
        (("bytes",), {"specials": ["eos", "eos"]}, "specials names 'eos' twice"),
        (("bytes",), {"specials": [["eos"]]}, "does not take"),
    ],
)
def test_what_cannot_be_made_ends_in_one_sentence(arguments, options, sentence):
    with pytest.raises(CodecError, match=sentence) as caught:
        codecs.make(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_a_config_of_another_class_is_refused():
    with pytest.raises(CodecError, match=r"of the codec 'bytes', not 'words': load it with codecs\.from_config"):
        codecs.WordCodec.from_config(codecs.make("bytes").to_config())


@pytest.mark.parametrize("version", [2, "1", None, True, torch.tensor([1, 1])])
def test_another_version_is_refused(codec, version):
    with pytest.raises(CodecError, match="install the hybridgen that saved it"):
        codecs.from_config({**codec.to_config(), "version": version})


def test_a_missing_or_additional_key_is_named(codec):
    config = codec.to_config()
    for key in config:
        with pytest.raises(CodecError, match=f"'{key}'|version None"):
            codecs.from_config({k: v for k, v in config.items() if k != key})
    with pytest.raises(CodecError, match="unknown key 'colour'"):
        codecs.from_config({**config, "colour": 1})


@pytest.mark.parametrize("config", [None, [], "words", 3, {}, {"codec": []}, {"codec": "charcters"}])
def test_what_is_no_config_is_refused(config):
    with pytest.raises(CodecError, match=r"is a mapping|no 'codec' name|there is no codec"):
        codecs.from_config(config)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"codec": "characters", "characters": "aab", "specials": []}, r"repeats or misplaces U\+0061 'a'"),
        ({"codec": "characters", "characters": "cab", "specials": []}, r"repeats or misplaces U\+0061 'a'"),
        ({"codec": "characters", "characters": "", "specials": []}, "is empty"),
        ({"codec": "characters", "characters": ["a"], "specials": []}, "is of type list, not str"),
        ({"codec": "bytes", "specials": ["unk"]}, "'unk', which this codec does not take"),
        ({"codec": "words", "words": ["<unk>", "<eos>", "a", "a"]}, "has 'a' at both 2 and 3"),
        (
            {"codec": "words", "words": ["<unk>", "<eos>", "a b"]},
            "entry 2 .*'a b', is empty or has whitespace",
        ),
        ({"codec": "words", "words": ["<unk>", "<eos>", ""]}, "entry 2 .*'', is empty or has whitespace"),
        ({"codec": "words", "words": ["<unk>", "<eos>", 5]}, "entry 2 .* is of type int, not str"),
        ({"codec": "words", "words": ["<unk>", "a"]}, "lacks the special token <eos>"),
        (
            {"codec": "words", "words": ["<unk>", "<eos>"], "specials": ["unk"]},
            "lacks the special token <eos>",
        ),
        ({"codec": "words", "words": "<unk> <eos>"}, "is of type str, not list"),
        ({"codec": "words", "words": {"<unk>": 0, "<eos>": 2}}, "is of type dict, not list"),
    ],
)
def test_a_damaged_vocabulary_is_described(config, sentence):
    words_only = {"lowercase": False, "specials": ["unk", "eos"]} if config["codec"] == "words" else {}
    with pytest.raises(CodecError, match=f"saved {config['codec']} codec cannot be used, since .*{sentence}"):
        codecs.from_config({"version": 1, **words_only, **config})


def test_whatever_stands_in_a_config_it_loads_or_is_refused(codec):
    config = codec.to_config()

    @settings(deadline=None, max_examples=60)
    @given(st.sampled_from(sorted(config)), json_values)
    def loads_or_is_refused(key, value):
        loaded = load_or_refuse({**config, key: value})
        assert loaded is None or isinstance(loaded.decode(range(loaded.vocab_size)), str)

    loads_or_is_refused()


def test_whatever_is_damaged_in_a_tokenizer_it_loads_or_is_refused(bpe):
    config = bpe.to_config()
    sections = sorted(config["tokenizer"])

    @settings(deadline=None, max_examples=60)
    @given(st.sampled_from(sections), st.data(), json_values)
    def loads_or_is_refused(section, data, value):
        damaged = copy.deepcopy(config)
        inside = damaged["tokenizer"][section]
        if isinstance(inside, dict) and data.draw(st.booleans()):
            inside[data.draw(st.sampled_from(sorted(inside)))] = value
        else:
            damaged["tokenizer"][section] = value
        loaded = load_or_refuse(damaged)
        assert loaded is None or loaded.decode(loaded.encode("the fox")) == "the fox"

    loads_or_is_refused()
