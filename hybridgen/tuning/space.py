"""A space file: which options of a configuration are tried, and within which bounds."""

import copy
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hybridgen.closest import did_you_mean

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "hyperband", "none")
_ENTRIES = ("config", "sampler", "pruner", "fixed", "space")
_BOUNDS = ("low", "high", "log", "step")
_SECTIONS = ("model", "data", "trainer", "seed_everything")


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones where both ends are.

    Attributes:
        low: the smallest.
        high: the largest.
        log: whether ratios, not differences, are drawn evenly.
        step: distance between neighbours, or None.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    def values(self) -> list[Any] | None:
        """All of them, where they can be counted."""
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            return None
        count = int((self.high - self.low) / step + 1e-9) + 1
        return [self.low + number * step for number in range(count)]


@dataclass(frozen=True)
class Space:
    """What is tried.

    Attributes:
        options: for each option by its dotted name, such as ``model.stack.hidden_size``, its values or their range.
        fixed: options that every trial has, over those of the configuration.
        sampler: ``tpe`` (Bergstra et al. 2011), ``random`` or ``grid``.
        pruner: ``median`` (stop what is worse than the median at the same age), ``hyperband`` or ``none``.
        config: the configuration that it is meant for, or None.
    """

    options: dict[str, list[Any] | Range]
    fixed: dict[str, Any] = field(default_factory=dict)
    sampler: str = "tpe"
    pruner: str = "median"
    config: str | None = None

    def grid(self) -> dict[str, list[Any]]:
        """Every value of every option, as a grid takes them.

        Raises:
            ValueError: if a range has no steps.
        """
        grid = {}
        for name, choice in self.options.items():
            values = choice.values() if isinstance(choice, Range) else [as_plain(value) for value in choice]
            if values is None:
                raise ValueError(f"space: {name} has no steps, but sampler is grid: give a list, or a step")
            grid[name] = values
        return grid

    def size(self) -> int:
        """Points of the grid."""
        return len(list(itertools.product(*self.grid().values())))

    def to_json(self) -> str:
        """What makes two spaces the same: their options, and what is fixed."""
        options = {n: c if isinstance(c, list) else [c.low, c.high, c.log, c.step] for n, c in self.options.items()}
        return json.dumps({"options": options, "fixed": self.fixed}, sort_keys=True)


def as_plain(value: Any) -> Any:
    """A value as the study's storage takes it: lists and mappings as their JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value, sort_keys=True)


def read_space(path: Path) -> Space:
    """Read a space file.

    It is a mapping with ``space`` (option: list of values, or ``{low, high, log, step}``) and, all optional,
    ``config``, ``sampler``, ``pruner`` and ``fixed`` (option: value).

    Raises:
        ValueError: if something in it does not fit; the message names it.
    """
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--space: {path} is no YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(read, Mapping) or not isinstance(read.get("space"), Mapping) or not read["space"]:
        raise ValueError(f"--space: {path} has no entry `space` with options to try: see experiments/tuning")
    for name in read:
        if name not in _ENTRIES:
            raise ValueError(f"--space: {path} has an entry {name!r}: {_hint(str(name), _ENTRIES)}")
    fixed = read.get("fixed") or {}
    for name in (*read["space"], *fixed):
        if str(name).split(".")[0] not in _SECTIONS:
            raise ValueError(f"--space: option {name!r} must start with one of {', '.join(_SECTIONS)}")
    for name, allowed in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if read.get(name, allowed[0]) not in allowed:
            raise ValueError(f"--space: {name} is {read[name]!r}: choose one of {', '.join(allowed)}")
    return Space(
        options={str(name): _choice(str(name), given) for name, given in read["space"].items()},
        fixed=dict(fixed),
        sampler=read.get("sampler", SAMPLERS[0]),
        pruner=read.get("pruner", PRUNERS[0]),
        config=read.get("config"),
    )


def with_options(config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with other values of some options.

    Args:
        config: a configuration of ``hybridgen fit``.
        options: value by dotted name; ``model.stack.hidden_size`` means the model's argument whether or not the
            configuration writes ``init_args``.

    Raises:
        ValueError: if a name leads through something that has no parts.
    """
    changed = copy.deepcopy(dict(config))
    for name, value in options.items():
        parts = name.split(".")
        place = changed
        for depth, part in enumerate(parts[:-1]):
            if depth and "class_path" in place and part != "init_args":
                place = place.setdefault("init_args", {})
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
            if not isinstance(place, dict):
                raise ValueError(f"{name}: {'.'.join(parts[: depth + 1])} of the configuration has no parts")
        if len(parts) > 1 and "class_path" in place and parts[-1] != "init_args":
            place = place.setdefault("init_args", {})
        place[parts[-1]] = value
    return changed


def _choice(name: str, given: Any) -> list[Any] | Range:
    if isinstance(given, list):
        if not given:
            raise ValueError(f"--space: {name} has no values: give at least one")
        return given
    if not isinstance(given, Mapping):
        raise ValueError(f"--space: {name} is {given!r}: give a list of values, or {{low: ..., high: ...}}")
    for entry in given:
        if entry not in _BOUNDS:
            raise ValueError(f"--space: {name} has {entry!r}: {_hint(str(entry), _BOUNDS)}")
    numbers = {entry: _number(name, entry, given[entry]) for entry in ("low", "high", "step") if entry in given}
    if not {"low", "high"} <= numbers.keys() or not numbers["low"] <= numbers["high"]:
        raise ValueError(f"--space: {name} needs low and high, the lower one first")
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"--space: log of {name} is {log!r}: give true or false")
    if log and (numbers["low"] <= 0 or "step" in numbers):
        raise ValueError(f"--space: {name} is drawn by ratios (log): low must be above 0, and it has no step")
    if "step" in numbers and numbers["step"] <= 0:
        raise ValueError(f"--space: step of {name} must be above 0")
    return Range(**numbers, log=log)


def _number(name: str, entry: str, given: Any) -> int | float:
    try:
        # YAML takes 1e-4 for text.
        return given if isinstance(given, int | float) and not isinstance(given, bool) else float(str(given))
    except ValueError:
        raise ValueError(f"--space: {entry} of {name} is {given!r}: give a number") from None


def _hint(name: str, known: tuple[str, ...]) -> str:
    return did_you_mean(name, known, f"it may have {', '.join(known)}")
