"""The options of decoding, the same for every command that writes text."""

import argparse
from typing import Any, NamedTuple

from hybridgen.commands.options import Parser


class Option(NamedTuple):
    """One option: its default (whose type is the option's) and its help."""

    default: int | float
    help: str


#: What a person sets; names, meanings and defaults are those of :class:`hybridgen.generation.DecodingOptions`. They
#: stand here once more (a test compares them) because importing that class means waiting for torch, and help must not.
DECODING = {
    "max_new_tokens": Option(256, "longest text, in tokens"),
    "min_new_tokens": Option(0, "shortest text, in tokens"),
    "temperature": Option(1.0, "divides the logits: below 1 sharper, above 1 flatter"),
    "top_k": Option(0, "keep the k most probable tokens; 0 keeps all"),
    "top_p": Option(1.0, "keep the most probable tokens up to this mass, in (0, 1]"),
    "min_p": Option(0.0, "keep tokens at least this fraction as probable as the best"),
    "typical_p": Option(1.0, "keep the most typical tokens up to this mass, in (0, 1]"),
    "repetition_penalty": Option(1.0, "above 1 makes what was written less likely; 1 is off"),
    "no_repeat_ngram_size": Option(0, "no n-gram of this size twice; 0 is off"),
    "num_beams": Option(1, "beams of a beam search; 1 samples"),
    "length_penalty": Option(1.0, "of a beam search"),
    "seed": Option(0, "of the random draws; sample i of a seed is always the same"),
}


#: Beams are all searched at once, each with a copy of the state.
MOST_BEAMS = 10_000


def add_decoding(parser: Parser, *, greedy: bool = False) -> None:
    """Add the options to a command.

    Args:
        parser: the command's.
        greedy: whether the command takes the most probable token unless ``--do_sample`` is given; else it samples
            unless ``--greedy`` is given.
    """
    group = parser.add_argument_group("decoding")
    if greedy:
        text = "draw at random; without, always the most probable token (or the best beam)"
        group.add_argument("--do_sample", action="store_true", help=text)
    else:
        text = "always the most probable token: no randomness"
        group.add_argument("--greedy", action="store_true", help=text)
    group.add_argument("--stop", action="append", metavar="TEXT", help="end where this appears; may be repeated")
    for name, (default, text) in DECODING.items():
        group.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} (default {default})")


def decoding_from(options: argparse.Namespace) -> Any:
    """The :class:`hybridgen.generation.DecodingOptions` that the options of a command say.

    Raises:
        ValueError: if an option is not allowed, or has no effect beside the others.
    """
    from hybridgen.generation import DecodingOptions

    if options.num_beams > MOST_BEAMS:
        raise ValueError(f"--num_beams is {options.num_beams}: give at most {MOST_BEAMS}")
    chosen = {name: getattr(options, name) for name in DECODING}
    do_sample = options.do_sample if hasattr(options, "do_sample") else not (options.greedy or options.num_beams > 1)
    return DecodingOptions(**chosen, do_sample=do_sample, stop_strings=tuple(options.stop or ()))
