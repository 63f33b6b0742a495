"""`hybridgen evaluate`: generated series beside real ones, by the published scores and by what keeps them honest."""

import json
import sys
from pathlib import Path
from typing import Any

from hybridgen.commands.options import Parser
from hybridgen.commands.run_config import config_of, data_section

DESCRIPTION = """
Compare series that a checkpoint generates with those it was trained on: discriminative and predictive score exactly as
TimeGAN's code computes them, beside the score of real against real, a stronger critic, and the distance of generated
series to the training data over that of held-out real ones (a memorisation ratio well below 1 means copies).
"""


def run(arguments: list[str]) -> int:
    """Print the table, and write it with pictures into a folder."""
    parser = Parser(prog="hybridgen evaluate", description=DESCRIPTION)
    parser.add_argument("--ckpt", required=True, metavar="FILE", help="a checkpoint of a SequenceGAN that fit wrote")
    parser.add_argument("--config", metavar="FILE", help="configuration with the data (default: that of the run)")
    parser.add_argument("--num_samples", type=int, metavar="N", help="series to generate (default: as many as real)")
    parser.add_argument("--runs", type=int, default=10, help="runs of each score that trains a network (default 10)")
    parser.add_argument(
        "--iterations", type=float, default=1.0, help="of the published training steps; below 1 for a look (default 1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    parser.add_argument("--out", metavar="FOLDER", help="write evaluation.json and pictures here")
    options = parser.parse_args(arguments)
    if options.num_samples is not None and options.num_samples < 2:
        raise ValueError(f"num_samples is {options.num_samples}: give at least 2")

    from hybridgen.evaluation.series import evaluate_series, save_pictures
    from hybridgen.loading import load

    model = load(options.ckpt)
    if not hasattr(model, "generate_features") or model.codec.name != "series":
        raise ValueError(
            f"{options.ckpt} holds a {type(model).__name__}, which generates no series: nothing to compare"
        )
    data = _series_data(config_of(options.ckpt, options.config), model.codec)
    real = _values(data, "train")
    held_out = None
    if data.split == "overlapping":
        print("every window was trained on (split: overlapping): no memorisation ratio", file=sys.stderr)
    elif data.test_fraction:
        held_out = _values(data, "test")
    number = len(real) if options.num_samples is None else options.num_samples
    fake = model.generate_features(number, length=real.shape[1], seed=options.seed).values
    report = evaluate_series(
        real, fake, held_out=held_out, runs=options.runs, iterations=options.iterations, seed=options.seed
    )
    for name, value in report.metrics().items():
        print(f"{name:34}{value:.4f}")
    print(report.line())
    if options.out is not None:
        folder = Path(options.out)
        names = [name for group in model.codec.groups for name in _feature_names(group)]
        pictures = save_pictures(real, fake, folder, names=names, seed=options.seed)
        path = folder / "evaluation.json"
        partial = path.with_name(path.name + ".partial")
        found = {"metrics": report.metrics(), "runs": options.runs, "iterations": options.iterations}
        partial.write_text(json.dumps(found | {"details": report.to_dict()}, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
        print(f"{path} and {len(pictures)} pictures written", file=sys.stderr)
    return 0


def _feature_names(group: Any) -> list[str]:
    width = group.stop - group.start
    return [group.name] if width == 1 else [f"{group.name} {number}" for number in range(width)]


def _series_data(config: Path, codec: Any) -> Any:
    from hybridgen.data import SeriesData

    name, arguments = data_section(config)
    if name != "SeriesData":
        raise ValueError(f"--config: {config} trains on {name}: only a SeriesData is compared")
    try:
        return SeriesData(**(arguments | {"codec": codec.to_config()}))
    except TypeError as error:
        raise ValueError(f"--config: the data of {config} do not fit this version: {error}") from None


def _values(data: Any, part: str) -> Any:
    batch = data.sequences(part).batch()
    if batch.lengths is not None:
        raise ValueError("the scores compare series of one length: set data.window, or give a configuration with one")
    return batch.values
