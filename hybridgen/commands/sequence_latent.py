"""`hybridgen reconstruct` and `interpolate` for series, sounds, piano rolls, images and sketches."""

import argparse
import sys
from pathlib import Path
from typing import Any

from hybridgen.commands.decoding import DECODING
from hybridgen.commands.options import Parser, check_out_folder
from hybridgen.commands.sequence_files import Given, all_sequences, data_of, read_file, sequences_of, told, write_things

#: Options of these models alone, and their defaults for the run's own data.
OPTIONS: dict[str, Any] = {"part": "test", "num": 8, "label": None, "config": None}
_SHARED = ("seed", "temperature")
_TOGETHER = 256  # sequences reconstructed at once


def add_options(parser: Parser) -> None:
    """Add what only models of sequences take."""
    group = parser.add_argument_group("series, sounds, piano rolls, images and sketches")
    group.add_argument(
        "--part",
        choices=("train", "valid", "test"),
        help="of the run's data (default test), or of a given file or folder that has such (default all of it)",
    )
    group.add_argument(
        "--num",
        type=int,
        metavar="N",
        help="how many sequences, from the first (default 8 of the run's data, all of a given file or folder)",
    )
    group.add_argument("--label", help="class of files, where the model knows classes")
    group.add_argument("--config", metavar="FILE", help="configuration with the data (default: that of the run)")


def refuse_for_text(options: argparse.Namespace) -> None:
    """Check that no option of sequences is given for a model of text.

    Raises:
        ValueError: if one is.
    """
    for name in OPTIONS:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} is for models of sequences, but this is one of text: leave it out")


def reconstruct(options: argparse.Namespace) -> int:
    """Write sequences, and what the model makes of their latents, into folders ``original`` and ``reconstruction``."""
    model = _model(options, "reconstruct")
    check_out_folder(options.out)
    _check_draws(options, model)
    given = _sequences(options, model)
    out = Path(options.out).expanduser()
    for name in ("original", "reconstruction"):
        (out / name).mkdir(parents=True, exist_ok=True)
    total = len(given.sequences)
    # Draws of a seed begin anew at every call: what is drawn is made at once.
    together = total if options.do_sample or options.posterior_sample else _TOGETHER
    made: list[Any] = []
    for first in range(0, total, together):
        taken = slice(first, first + together)
        made += _made(options, model, Given(*(None if room is None else room[taken] for room in given)))
    originals = _things(model, given)
    paths = [
        write_things(out / "original", originals, model.codec),
        write_things(out / "reconstruction", made, model.codec),
    ]
    print(
        f"{len(made)} sequences and their reconstructions written to {told(paths[0])} and {told(paths[1])}",
        file=sys.stderr,
    )
    return 0


def _made(options: argparse.Namespace, model: Any, given: Given) -> list[Any]:
    if not hasattr(model, "posterior_of"):
        numbers = None if given.labels is None else [model.codec.labels.index(label) for label in given.labels]
        return model.reconstruct(given.sequences, labels=numbers)
    return model.decoded(
        model.reconstruct(
            given.sequences,
            labels=given.labels,
            conditions=given.conditions,
            use_mean=not options.posterior_sample,
            temperature=_temperature(options),
            seed=options.seed,
        )
    )


def interpolate(options: argparse.Namespace) -> int:
    """Write the sequences between two: files, or numbers of sequences of the run's data.

    Raises:
        ValueError: if the model has no latent of a whole sequence, or an end or the place of the output does not fit.
    """
    model = _model(options, "interpolate")
    _refuse(options, ("num",), "START and END are what is read")
    if not hasattr(model, "interpolate"):
        raise ValueError(
            f"{options.ckpt} holds a {type(model).__name__}, which has no latent of a whole sequence (a VariationalRNN "
            "has one for every step): give a checkpoint of a SequenceVAEGAN"
        )
    _check_draws(options, model)
    numbers = [text.isdecimal() for text in (options.start, options.end)]
    if not any(numbers):
        _refuse(options, ("part", "config"), "START and END are files")
    if all(numbers):
        _refuse(options, ("label",), "the run's data have their own classes")
    ends = [_end(options, model, text, what) for text, what in ((options.start, "START"), (options.end, "END"))]
    labels = None if ends[0].labels is None else [end.labels[0] for end in ends]
    between = model.interpolate(
        *(end.sequences[0] for end in ends),
        options.steps,
        labels=labels,
        path=options.path,
        temperature=_temperature(options),
        seed=options.seed,
    )
    paths = write_things(Path(options.out).expanduser(), model.decoded(between), model.codec, columns=options.steps)
    print(
        f"{options.steps} sequences from {ends[0].names[0]} to {ends[1].names[0]} written to {told(paths)}",
        file=sys.stderr,
    )
    return 0


def _model(options: argparse.Namespace, command: str) -> Any:
    """The model of the checkpoint, once the options are known to fit."""
    from hybridgen.loading import load

    unfit = [name for name, default in DECODING.items() if getattr(options, name) != default.default]
    unfit = [name for name in unfit if name not in _SHARED]
    unfit += ["stop"] if options.stop else []
    if unfit:
        raise ValueError(f"--{unfit[0]} is for models of text, but this is one of sequences: leave it out")
    if options.temperature != DECODING["temperature"].default and not options.do_sample:
        raise ValueError("--temperature is of draws: add --do_sample, or leave it out")
    if options.num is not None and options.num < 1:
        raise ValueError(f"--num is {options.num}: give at least 1")
    if options.out is None:
        raise ValueError(f"{command} writes files for this model: say where by --out")
    model = load(options.ckpt)
    if not hasattr(model, "reconstruct"):
        raise ValueError(
            f"{options.ckpt} holds a {type(model).__name__}, which has no latents: give a checkpoint of a "
            "SequenceVAEGAN or, to reconstruct, of a VariationalRNN"
        )
    return model


def _refuse(options: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    """Check that no option is given that would have no effect.

    Raises:
        ValueError: naming the first one.
    """
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} has no effect here, where {why}: leave it out")


def _check_draws(options: argparse.Namespace, model: Any) -> None:
    """Check that the options of drawing have something to draw.

    Raises:
        ValueError: naming the first that has not.
    """
    from_posterior = bool(getattr(options, "posterior_sample", False))
    seeded = options.seed != DECODING["seed"].default
    if not hasattr(model, "posterior_of"):
        given = {"do_sample": options.do_sample, "posterior_sample": from_posterior, "seed": seeded}
        odd = next((name for name, there in given.items() if there), None)
        if odd is not None:
            raise ValueError(
                f"--{odd} is of draws, but a {type(model).__name__} reconstructs without any: leave it out"
            )
    if seeded and not (options.do_sample or from_posterior):
        raise ValueError("--seed is of draws: add --do_sample, or leave it out")


def _temperature(options: argparse.Namespace) -> float:
    """0, the likeliest element at each step, unless it shall be drawn."""
    return options.temperature if options.do_sample else 0.0


def _sequences(options: argparse.Namespace, model: Any) -> Given:
    if options.file is None:
        _refuse(options, ("label",), "the run's data have their own classes")
        number = OPTIONS["num"] if options.num is None else options.num
        module = data_of(options.ckpt, options.config, model.codec)
        return sequences_of(module, options.part or OPTIONS["part"], number, model.codec)
    one = read_file(options.file, model.codec)
    if one is not None:
        _refuse(options, ("part", "num", "config"), f"{options.file} is one sequence")
        return Given([one], _label_of_file(options, model), None, [options.file])
    _refuse(options, ("label",), f"{options.file} has its own classes")
    module = data_of(options.ckpt, options.config, model.codec, source=options.file)
    if options.part is not None:
        return sequences_of(module, options.part, options.num, model.codec)
    return all_sequences(module, options.num, model.codec)


def _end(options: argparse.Namespace, model: Any, text: str, what: str) -> Given:
    if text.isdecimal():
        module = data_of(options.ckpt, options.config, model.codec)
        given = sequences_of(module, options.part or OPTIONS["part"], int(text) + 1, model.codec)
        if len(given.sequences) <= int(text):
            raise ValueError(f"{what} is {text}, but there are {len(given.sequences)} sequences, from 0: give less")
        return Given(*(None if part is None else part[-1:] for part in given))
    one = read_file(text, model.codec)
    if one is None:
        raise ValueError(f"{what} is {text}, a file of many: give the number of a sequence of the run's data, from 0")
    return Given([one], _label_of_file(options, model), None, [text])


def _label_of_file(options: argparse.Namespace, model: Any) -> list[str] | None:
    from hybridgen.codecs.labels import find_label

    if not model.codec.labels:
        if options.label is not None:
            raise ValueError("--label is given, but this model knows no classes: leave it out")
        return None
    if options.label is None:
        raise ValueError(f"this model knows classes: say which one by --label, of {', '.join(model.codec.labels)}")
    try:
        find_label(model.codec.labels, options.label)
    except ValueError as error:
        raise ValueError(f"--label: {error}") from None
    return [options.label]


def _things(model: Any, given: Given) -> list[Any]:
    """Sequences as the writers take them: as if they were generated."""
    if not hasattr(model, "decoded"):
        return given.sequences
    import torch

    from hybridgen.models.sequence_gan_parts import Sample

    def padded(parts: list[Any]) -> Any:
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)

    labels = None
    if given.labels is not None:
        labels = torch.tensor([model.codec.labels.index(label) for label in given.labels])
    lengths = torch.tensor([len(row) for row in given.sequences])
    conditions = None if given.conditions is None else padded(given.conditions)
    return model.decoded(Sample(padded(given.sequences), lengths, labels, None, conditions))
