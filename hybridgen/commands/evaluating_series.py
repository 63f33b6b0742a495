"""What `hybridgen evaluate` does for a model of series."""

from argparse import Namespace
from pathlib import Path
from typing import Any


def evaluate(model: Any, data: Any, options: Namespace) -> Any:
    """Compare generated with real series; pictures go into the folder of ``--out``.

    Args:
        model: with ``generate_features`` or ``generate``.
        data: a ``SeriesData`` with the model's codec.
        options: of the command.

    Returns:
        A report with ``metrics()``, ``line()`` and ``to_dict()``.

    Raises:
        ValueError: if the series do not compare.
    """
    from hybridgen.commands.evaluating_rolls import generated
    from hybridgen.evaluation.series import evaluate_series, save_pictures

    real = _values(data, "train")
    held_out = starts = None
    if data.split == "overlapping":
        starts = data.sequences("train").starts
    elif data.test_fraction:
        held_out = _values(data, "test")
    number = len(real) if options.num_samples is None else options.num_samples
    fake = generated(model, number, real.shape[1], options.seed)
    report = evaluate_series(
        real,
        fake,
        held_out=held_out,
        starts=starts,
        runs=options.runs,
        iterations=options.iterations,
        seed=options.seed,
    )
    if options.out is not None:
        names = [name for group in model.codec.groups for name in _feature_names(group)]
        save_pictures(real, fake, Path(options.out), names=names, seed=options.seed)
    return report


def _feature_names(group: Any) -> list[str]:
    width = group.stop - group.start
    return [group.name] if width == 1 else [f"{group.name} {number}" for number in range(width)]


def _values(data: Any, part: str) -> Any:
    batch = data.sequences(part).batch()
    if batch.lengths is not None:
        raise ValueError("the scores compare series of one length: set data.window, or give a configuration with one")
    return batch.values
