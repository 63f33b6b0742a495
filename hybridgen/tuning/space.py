"""A space file: which options of a configuration are tried, and within which bounds."""

import copy
import json
import math
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
_LARGEST_GRID = 100_000
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

    @property
    def count(self) -> int | None:
        """How many they are, where they can be counted."""
        step = self._distance
        return None if step is None else int((self.high - self.low) / step + 1e-9) + 1

    def values(self) -> list[Any] | None:
        """All of them, where they can be counted."""
        count = self.count
        return None if count is None else [self.low + number * self._distance for number in range(count)]

    @property
    def _distance(self) -> int | float | None:
        return self.step or (1 if self.whole and not self.log else None)


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
            ValueError: if a range has no steps, or there are more points than anybody can try.
        """
        points = self.size()
        if points > _LARGEST_GRID:
            raise ValueError(
                f"--space: the grid has {points} points, more than {_LARGEST_GRID}: give fewer, or another sampler"
            )
        return {
            name: choice.values() if isinstance(choice, Range) else [as_plain(value) for value in choice]
            for name, choice in self.options.items()
        }

    def size(self) -> int:
        """Points of the grid.

        Raises:
            ValueError: if a range has no steps.
        """
        points = 1
        for name, choice in self.options.items():
            count = choice.count if isinstance(choice, Range) else len(choice)
            if count is None:
                raise ValueError(f"--space: {name} has no steps, but sampler is grid: give a list, or a step")
            points *= count
        return points

    def to_json(self) -> str:
        """What makes two spaces the same: their options, and what is fixed."""
        options = {n: c if isinstance(c, list) else [c.low, c.high, c.log, c.step] for n, c in self.options.items()}
        return json.dumps({"options": options, "fixed": self.fixed}, sort_keys=True)


def as_plain(value: Any) -> Any:
    """A value as the study's storage takes it: lists and mappings as their JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value, sort_keys=True)


def check_plain(value: Any, option: str, name: str = "") -> None:
    """Check that all values are such as JSON has: YAML reads a date where nobody wrote quotes.

    Args:
        value: of any kind.
        option: what the user gave it to, for the message.
        name: of the value.

    Raises:
        ValueError: if one is not; the message names it.
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{option}: {key!r}{f' in {name}' if name else ''} is no name: put it in quotes")
            check_plain(part, option, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for part in value:
            check_plain(part, option, name)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(
            f"{option}: {name} has the value {value}, which YAML takes for a {type(value).__name__}: put it in quotes"
        )


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
    fixed = {} if read.get("fixed") is None else read["fixed"]
    if not isinstance(fixed, Mapping):
        raise ValueError(f"--space: fixed of {path} is {fixed!r}: give options with their values, as in space")
    if not isinstance(read.get("config"), str | None):
        raise ValueError(f"--space: config of {path} is {read['config']!r}: give the name of a configuration")
    for name in (*read["space"], *fixed):
        if str(name).split(".")[0] not in _SECTIONS:
            raise ValueError(f"--space: option {name!r} must start with one of {', '.join(_SECTIONS)}")
    for name in fixed:
        if name in read["space"]:
            raise ValueError(f"--space: {name} is both fixed and in the space: choose one")
    check_plain({**fixed, **read["space"]}, "--space")
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
        *path, last = name.split(".")
        place = changed
        for depth, part in enumerate(path):
            if depth:
                place = _arguments(place, part, name)
            place = _part(place, part, name)
        if path:
            place = _arguments(place, last, name)
        place[last] = value
    return changed


def _arguments(place: dict[str, Any], part: str, name: str) -> dict[str, Any]:
    """Where the arguments of a class are, if ``place`` is that of a class."""
    return _part(place, "init_args", name) if "class_path" in place and part != "init_args" else place


def _part(place: dict[str, Any], part: str, name: str) -> dict[str, Any]:
    if place.get(part) is None:
        place[part] = {}
    if not isinstance(place[part], dict):
        raise ValueError(f"{name}: {part} of the configuration is {place[part]!r}, which has no parts")
    return place[part]


def _choice(name: str, given: Any) -> list[Any] | Range:
    if isinstance(given, list):
        if not given:
            raise ValueError(f"--space: {name} has no values: give at least one")
        if any(isinstance(value, float) and math.isnan(value) for value in given):
            raise ValueError(f"--space: {name} has the value .nan, which is no number: leave it out")
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
        number = given if isinstance(given, int | float) and not isinstance(given, bool) else float(str(given))
        if math.isfinite(number):
            return number
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"--space: {entry} of {name} is {given!r}: give a number")


def _hint(name: str, known: tuple[str, ...]) -> str:
    return did_you_mean(name, known, f"it may have {', '.join(known)}")
