"""How the weight of the KL (or a capacity) changes over training.

With progress ``p = min(1, step / steps)`` and ``rise`` one of the first three::

    constant   stop
    linear     start + (stop - start) p                                        Bowman et al. 2016, arXiv:1511.06349
    logistic   start + (stop - start) sigmoid(steepness (step / steps - 1/2))  Bowman et al. 2016
    cosine     start + (stop - start) (1 - cos(pi p)) / 2
    cyclical   in each cycle of ``steps``: start for a fraction ``zero`` of it, then the ``rise`` for a fraction
               ``ratio``, then stop; after ``cycles`` cycles stop for good     Fu et al. 2019, arXiv:1903.10145
               (the phase at zero: Li et al. 2020, Optimus, arXiv:2004.04092)

Sentence-VAE's logistic schedule, k = 0.0025 around step 2500, is ``steps: 5000, steepness: 12.5``.
"""

import inspect
import math
from typing import Any

from hybridgen.closest import did_you_mean

KINDS = ("constant", "linear", "logistic", "cosine", "cyclical")
RISES = ("linear", "logistic", "cosine")
#: Options of a kind beside ``stop``; a steepness is of a logistic rise, whatever rises.
_OPTIONS = {
    "constant": set(),
    "linear": {"start"},
    "logistic": {"start", "steepness"},
    "cosine": {"start"},
    "cyclical": {"start", "cycles", "ratio", "zero", "rise", "steepness"},
}


class Schedule:
    """A number as a function of the optimiser's step.

    Args:
        kind: one of ``KINDS``.
        start: at the beginning; 0 when omitted.
        stop: at the end.
        steps: optimiser steps of the rise; of one whole cycle with ``cyclical``.
        epochs: the same in epochs, instead; :attr:`steps_per_epoch` must then be set before the first use.
        steepness: of a logistic rise; 10, when omitted, goes from 0.7% of the way to 99.3%.
        cycles: of ``cyclical``; without a number it never ends.
        ratio: of ``cyclical``, the fraction of a cycle that rises; 0.5 when omitted.
        zero: of ``cyclical``, the fraction of a cycle that stays at ``start`` first; 0 when omitted.
        rise: of ``cyclical``, the shape of the rise; linear when omitted.

    Attributes:
        steps_per_epoch: optimiser steps of an epoch, for ``epochs``.

    Raises:
        ValueError: if an option does not fit the kind; the message names it.
    """

    def __init__(
        self,
        kind: str = "constant",
        *,
        start: float | None = None,
        stop: float = 1.0,
        steps: int | None = None,
        epochs: float | None = None,
        steepness: float | None = None,
        cycles: int | None = None,
        ratio: float | None = None,
        zero: float | None = None,
        rise: str | None = None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"schedule kind is {kind!r}: choose one of {', '.join(KINDS)}")
        if rise is not None and rise not in RISES:
            raise ValueError(f"schedule rise is {rise!r}: choose one of {', '.join(RISES)}")
        if kind == "constant" and (steps is not None or epochs is not None):
            raise ValueError("a constant schedule has no steps or epochs: leave them out, or choose another kind")
        if kind != "constant" and (steps is None) == (epochs is None):
            raise ValueError(f"a {kind} schedule needs its length: give either steps or epochs")
        given = {"start": start, "steepness": steepness, "cycles": cycles, "ratio": ratio, "zero": zero, "rise": rise}
        allowed = _OPTIONS[kind] - ({"steepness"} if kind == "cyclical" and rise != "logistic" else set())
        for name, value in given.items():
            if value is not None and name not in allowed:
                raise ValueError(
                    f"a {kind} schedule has no {name}: leave it out, or choose another kind of {', '.join(KINDS)}"
                )
        start, steepness = (0.0 if start is None else start), (10.0 if steepness is None else steepness)
        ratio, zero, rise = (0.5 if ratio is None else ratio), (0.0 if zero is None else zero), (rise or "linear")
        for name, value in (("steps", steps), ("epochs", epochs), ("steepness", steepness), ("cycles", cycles)):
            if value is not None and not value > 0:
                raise ValueError(f"schedule {name} is {value}: give a number above 0")
        if not (zero >= 0 and ratio > 0 and zero + ratio <= 1):
            raise ValueError(f"schedule zero is {zero} and ratio is {ratio}: give fractions that add up to at most 1")
        self.kind, self.start, self.stop = kind, float(start), float(stop)
        self.steps, self.epochs = steps, epochs
        self.steepness, self.cycles, self.ratio, self.zero, self.rise = steepness, cycles, ratio, zero, rise
        self.steps_per_epoch: int | None = None

    def __call__(self, step: int) -> float:
        """The number at a step, counted from 0.

        Raises:
            ValueError: if the length is in epochs and nobody said how many steps an epoch has.
        """
        if self.kind == "constant":
            return self.stop
        progress = step / self._length()
        if self.kind != "cyclical":
            return self._between(_rise(self.kind, progress, self.steepness))
        if self.cycles is not None and progress >= self.cycles:
            return self.stop
        within = progress % 1.0
        if within < self.zero:
            return self.start
        within = (within - self.zero) / self.ratio
        return self.stop if within >= 1 else self._between(_rise(self.rise, within, self.steepness))

    def settled(self, step: int) -> bool:
        """Whether the rise, or the first cycle, is over at a step."""
        return self.kind == "constant" or step >= self._length()

    def _between(self, fraction: float) -> float:
        return self.start + (self.stop - self.start) * fraction

    def _length(self) -> float:
        if self.steps is not None:
            return self.steps
        if self.steps_per_epoch is None:
            raise ValueError("the schedule's length is in epochs: set steps_per_epoch, or give steps")
        return self.epochs * self.steps_per_epoch


def make_schedule(options: dict[str, Any] | None, default: float) -> Schedule:
    """A schedule from a mapping of its options; constant at ``default`` where there is none.

    Raises:
        ValueError: if an option is unknown or does not fit.
    """
    options = {"kind": "constant", "stop": default} if options is None else options
    check_options("schedule", options, Schedule)
    return Schedule(**options)


def check_options(what: str, options: Any, cls: Any) -> None:
    """Check that ``options`` is a mapping whose keys are arguments of ``cls``.

    Raises:
        ValueError: if it is not; the message names the nearest argument.
    """
    known = list(inspect.signature(cls).parameters)
    listed = f"it has {', '.join(known)}"
    if not isinstance(options, dict):
        raise ValueError(f"{what} is {options!r}: give a mapping of options; {listed}")
    for name in options:
        if name not in known:
            raise ValueError(f"{what} has no option {name!r}: {did_you_mean(name, known, listed)}")


def _rise(kind: str, progress: float, steepness: float) -> float:
    """From 0 to 1."""
    if kind == "logistic":
        # exp of a large number overflows; beyond 60 the logistic is 1 to the last bit.
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, steepness * (progress - 0.5)))))
    progress = min(1.0, progress)
    return progress if kind == "linear" else 0.5 * (1 - math.cos(math.pi * progress))
