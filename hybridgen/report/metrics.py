"""The logged values of a run, from its ``metrics.csv``."""

import csv
import math
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

_COUNTERS = ("step", "epoch")


@dataclass
class Curve:
    """One logged value over training.

    Attributes:
        steps: the step each was logged at.
        epochs: the epoch, from 0.
        values: what was logged; may hold values that are not finite.
    """

    steps: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    @property
    def best(self) -> float | None:
        """The least finite value."""
        return min((value for value in self.values if math.isfinite(value)), default=None)


def read_curves(path: Path) -> dict[str, Curve]:
    """The curves in a CSV file by name; empty where there is no file. What is not a number is left out.

    A run that is still going, or that was killed, leaves a last line that is cut short: a value without the line's
    end after it may have lost digits, so that line is left out.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    curves: dict[str, Curve] = {}
    whole = text[: text.rfind("\n") + 1].replace("\0", "")
    for row in csv.DictReader(whole.splitlines()):
        step, epoch = (_number(row.get(name)) for name in _COUNTERS)
        if step is None or not math.isfinite(step) or None in row:
            continue
        for name, written in row.items():
            value = None if name in _COUNTERS else _number(written)
            if value is not None:
                curve = curves.setdefault(name, Curve())
                curve.steps.append(int(step))
                curve.epochs.append(int(epoch) if epoch is not None and math.isfinite(epoch) else 0)
                curve.values.append(value)
    return curves


def against(curves: dict[str, Curve], metric: str, steps: list[int]) -> list[float] | None:
    """The logged value ``metric`` (tokens seen, say) at these steps, between its own points on a straight line.

    Returns:
        None where it was not logged.
    """
    curve = curves.get(metric)
    if curve is None:
        return None
    known = sorted({s: v for s, v in zip(curve.steps, curve.values, strict=True) if math.isfinite(v)}.items())
    if not known:
        return None
    places = [step for step, _ in known]
    found = []
    for step in steps:
        right = bisect_left(places, step)
        if right < len(places) and places[right] == step:
            found.append(known[right][1])
            continue
        # Beyond the ends the nearest two points go on; before the first step nothing was seen.
        left = min(max(right - 1, 0), max(len(known) - 2, 0))
        (x0, y0), (x1, y1) = known[left], known[min(left + 1, len(known) - 1)]
        slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
        found.append(max(0.0, y0 + slope * (step - x0)))
    return found


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
