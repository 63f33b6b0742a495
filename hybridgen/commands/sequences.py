"""`hybridgen sample` for series, sounds, piano rolls, images and sketches: files that people use."""

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any

from hybridgen.commands.decoding import DECODING
from hybridgen.commands.options import Parser, check_number
from hybridgen.commands.sequence_files import told, write_things

#: Options of this kind of model alone.
OPTIONS = ("label", "length", "start")
#: Options of decoding that mean something here too.
_SHARED = ("seed", "temperature")


def add_sequence_options(parser: Parser) -> None:
    """Add what only models of sequences take."""
    group = parser.add_argument_group("series, sounds, piano rolls, images and sketches")
    group.add_argument("--label", help="class of all samples, where the model knows classes")
    group.add_argument("--length", type=int, metavar="STEPS", help="steps of each sample, also more than in training")
    group.add_argument("--start", metavar="TIME", help="first time of each series (default: that of the training data)")


def refuse_for_text(options: argparse.Namespace, kind: str) -> None:
    """Check that no option of sequences is given for a model of text.

    Raises:
        ValueError: if one is.
    """
    for name in OPTIONS:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} is for models of sequences, but this is a {kind}: leave it out")


def write_sequences(model: Any, options: argparse.Namespace) -> None:
    """Generate and write; see :func:`hybridgen.commands.sequence_files.write_things`.

    Raises:
        ValueError: if an option does not fit the model, or the place cannot be written.
    """
    kind = type(model).__name__
    unfit = [name for name, default in DECODING.items() if getattr(options, name) != default.default]
    unfit = [name for name in unfit if name not in _SHARED]
    unfit += [name for name in ("prompt", "prompt_file", "greedy", "stop") if getattr(options, name)]
    if unfit:
        raise ValueError(f"--{unfit[0]} is for models of text, but this is a {kind}: leave it out")
    if options.out is None:
        raise ValueError(f"a {kind} writes files: say where by --out")
    if options.length is not None:
        check_number("--length", options.length, 1)
    takes_temperature = "temperature" in inspect.signature(model.generate).parameters
    if not takes_temperature and options.temperature != 1.0:
        raise ValueError(f"--temperature is given, but a {kind} draws from no distribution per step: leave it out")
    if options.start is not None and model.codec.name != "series":
        raise ValueError("--start is the first time of a series, which these samples have not: leave it out")
    if options.start is not None and model.codec.time is None:
        raise ValueError("--start is given, but the series that this model was trained on had no times: leave it out")
    given = {name: getattr(options, name) for name in ("length", "start") if getattr(options, name) is not None}
    if options.label is not None:
        given["labels"] = [options.label] * options.num_samples
    if takes_temperature:
        given["temperature"] = options.temperature
    samples = model.generate(options.num_samples, seed=options.seed, **given)
    details = [{"sample": number, "seed": options.seed} for number in range(len(samples))]
    out = Path(options.out).expanduser()
    paths = write_things(out, samples, model.codec, labels=given.get("labels"), details=details)
    print(f"{options.num_samples} samples written to {told(paths)}", file=sys.stderr)
