"""What `hybridgen evaluate` does for a model of piano rolls."""

import sys
from argparse import Namespace
from typing import Any

#: Frames of the pieces that are compared, where nothing else is said.
WINDOW = 32


def evaluate(model: Any, data: Any, options: Namespace) -> Any:
    """Compare generated with real stretches of music, by the scores of series.

    Args:
        model: with ``generate``.
        data: a ``PianoRollData`` like that of the model.
        options: of the command.

    Returns:
        A report with ``metrics()``, ``line()`` and ``to_dict()``.

    Raises:
        ValueError: if no piece is as long as a window.
    """
    from hybridgen.evaluation.series import evaluate_series

    window = options.window or WINDOW
    real = windows_of(data, "train", window)
    held_out = windows_of(data, "test", window) if "test" in data.parts else None
    if held_out is None:
        print("no music is held out for testing: no memorisation ratio", file=sys.stderr)
    number = len(real) if options.num_samples is None else options.num_samples
    fake = generated(model, number, window, options.seed)
    # Keys have one unit: by its own deviation, a key that is hardly ever played would decide every distance.
    return evaluate_series(
        real,
        fake,
        held_out=held_out,
        standardise=False,
        runs=options.runs,
        iterations=options.iterations,
        seed=options.seed,
    )


def windows_of(data: Any, part: str, window: int) -> Any:
    """Stretches ``(N, window, keys)`` of the pieces of a part, one after another; what is left at an end is left out.

    Raises:
        ValueError: if no piece is that long.
    """
    import numpy as np
    import torch

    found = [
        roll[start : start + window]
        for roll in data.parts[part].rolls
        for start in range(0, len(roll) - window + 1, window)
    ]
    if len(found) < 2:
        raise ValueError(f"--window is {window}, but hardly any {part} piece has so many frames: give less")
    return torch.from_numpy(np.stack(found)).float()


def generated(model: Any, number: int, window: int, seed: int) -> Any:
    """Generated stretches ``(number, window, keys)``."""
    import torch

    if hasattr(model, "generate_features"):
        return model.generate_features(number, length=window, seed=seed).values
    return torch.stack(model.generate(number, length=window, seed=seed))
