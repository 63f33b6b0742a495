"""`hybridgen evaluate`: what was generated beside what is real, by the published scores and what keeps them honest."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from hybridgen.commands.options import Parser, check_number, check_out_folder
from hybridgen.commands.run_config import config_of, data_section
from hybridgen.data.files import write_text

DESCRIPTION = """
Compare what a checkpoint generates with the data it was trained on. Series: discriminative and predictive score exactly
as TimeGAN's code computes them, beside the score of real against real, a stronger critic, and the distance of generated
series to the training data over that of held-out real ones (a memorisation ratio well below 1 means copies). Sounds: a
classifier of the real ones gives label accuracy, inception score and Frechet distance, beside those of real test sounds
and of the same after the codec's round trip, and the memorisation ratio. Piano rolls: stretches of them, by the scores
of series. Images: a classifier of the real ones says whether it sees the class that was asked for.
"""


def run(arguments: list[str]) -> int:
    """Print the table, and write it with pictures into a folder.

    Raises:
        ValueError: if the checkpoint, the data or an option does not fit, or the folder cannot be written; the
            message is for the user.
    """
    parser = Parser(prog="hybridgen evaluate", description=DESCRIPTION)
    parser.add_argument("--ckpt", required=True, metavar="FILE", help="a checkpoint that fit wrote")
    parser.add_argument("--config", metavar="FILE", help="configuration with the data (default: that of the run)")
    parser.add_argument(
        "--num_samples",
        type=int,
        metavar="N",
        help="what to generate (default: as many series as real, 1000 sounds or images)",
    )
    parser.add_argument("--runs", type=int, help="runs of each score of series that trains a network (10)")
    parser.add_argument(
        "--iterations", type=float, help="of the usual training steps; below 1 for a look (default 1); not for images"
    )
    parser.add_argument("--window", type=int, metavar="FRAMES", help="of the stretches of piano rolls (default 32)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    parser.add_argument("--out", metavar="FOLDER", help="write evaluation.json and pictures here")
    options = parser.parse_args(arguments)
    if options.num_samples is not None:
        check_number("--num_samples", options.num_samples, 2)
    check_out_folder(options.out)
    if options.iterations is not None and not 0 < options.iterations <= 1:
        raise ValueError(f"--iterations is {options.iterations}: give a fraction of the usual number, in (0, 1]")

    from hybridgen.commands import evaluating_images, evaluating_rolls, evaluating_series, evaluating_sounds
    from hybridgen.loading import load

    model = load(options.ckpt)
    ways = {
        "series": ("SeriesData", evaluating_series),
        "pianoroll": ("PianoRollData", evaluating_rolls),
        "image_rows": ("ImageRowsData", evaluating_images),
    } | {codec: ("AudioData", evaluating_sounds) for codec in ("log_mel", "framed", "mu_law")}
    kind = getattr(model.codec, "name", None)
    if kind not in ways:
        raise ValueError(
            f"{options.ckpt} holds a {type(model).__name__} of {kind or 'nothing'}, which no score compares: its "
            "likelihood is told by hybridgen test"
        )
    if options.window is not None and (kind != "pianoroll" or options.window < 2):
        raise ValueError(f"--window is {options.window}: give at least 2 frames, and for piano rolls only")
    of_data, way = ways[kind]
    training = _training(options, kind)
    report = way.evaluate(model, _data(of_data, config_of(options.ckpt, options.config), model.codec), options)
    for name, value in report.metrics().items():
        print(f"{name:34}{value:.4f}")
    print(report.line())
    if options.out is not None:
        folder = Path(options.out)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "evaluation.json"
        found = {"metrics": report.metrics(), **training}
        write_text(path, json.dumps(found | {"details": report.to_dict()}, indent=2) + "\n")
        print(f"{path} written", file=sys.stderr)
    return 0


#: What may be said of how the scores' networks are trained, by the kind of the model's codec; defaults are the
#: published ones.
_DEFAULTS = {"runs": 10, "iterations": 1.0}
_TRAINED = {"series": ("runs", "iterations"), "pianoroll": ("runs", "iterations"), "image_rows": ()}
_OF_SOUNDS = ("iterations",)


def _training(options: Namespace, kind: str) -> dict[str, Any]:
    """How the scores' networks are trained; in the options, too, what was left to the defaults.

    Raises:
        ValueError: if an option is given that the scores of this kind do not have.
    """
    known = _TRAINED.get(kind, _OF_SOUNDS)
    for name, default in _DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
        elif name not in known:
            things = "images" if kind == "image_rows" else "sounds"
            raise ValueError(f"--{name} has no effect on the scores of {things}: leave it out")
    return {name: getattr(options, name) for name in known}


def _data(wanted: str, config: Path, codec: Any) -> Any:
    """The data of a configuration, coded as the model was trained."""
    from hybridgen import data

    name, arguments = data_section(config)
    if name != wanted:
        raise ValueError(f"--config: {config} trains on {name}: only a {wanted} is compared")
    if wanted == "AudioData":
        arguments.pop("codec_options", None)  # the saved codec has them
    if wanted in ("AudioData", "SeriesData"):
        arguments["codec"] = codec.to_config()
    try:
        return getattr(data, wanted)(**arguments)
    except TypeError as error:
        raise ValueError(f"--config: the data of {config} do not fit this version: {error}") from None
