"""The options of decoding on the command line are those of DecodingOptions."""

from dataclasses import fields

import pytest

from hybridgen.commands.decoding import DECODING, add_decoding, decoding_from
from hybridgen.commands.options import Parser
from hybridgen.generation import DecodingOptions


def parse(arguments, **how):
    parser = Parser()
    add_decoding(parser, **how)
    return decoding_from(parser.parse_args(arguments))


def test_defaults_are_those_of_the_class():
    defaults = {field.name: field.default for field in fields(DecodingOptions)}
    assert {name: option.default for name, option in DECODING.items()} == {name: defaults[name] for name in DECODING}
    assert all(type(option.default) is type(defaults[name]) for name, option in DECODING.items())
    assert parse([]) == DecodingOptions()
    assert parse([], greedy=True) == DecodingOptions(do_sample=False)


def test_options_arrive():
    found = parse(["--temperature", "0.5", "--top_k", "3", "--seed", "9", "--stop", "a", "--stop", "b"])
    assert found == DecodingOptions(temperature=0.5, top_k=3, seed=9, stop_strings=("a", "b"))
    assert parse(["--num_beams", "4"]) == DecodingOptions(num_beams=4, do_sample=False)
    assert parse(["--greedy"]) == DecodingOptions(do_sample=False)
    assert parse(["--do_sample", "--top_p", "0.9"], greedy=True) == DecodingOptions(top_p=0.9)


def test_an_option_without_effect_is_a_mistake():
    with pytest.raises(ValueError, match="temperature"):
        parse(["--temperature", "0.5"], greedy=True)
