"""Columns of a table as features of a model and back: scaled numbers, one-hot categories, missing cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np

from hybridgen.closest import name_the_closest
from hybridgen.codecs.errors import CodecError

SCALINGS = ("min_max", "standard", "none")
KINDS = ("continuous", "categorical", "constant")
_MOST_DECIMALS = 8

Values = np.ndarray  # `(T,)`: float64 with NaN, or object with str and None, where a cell is missing


class FeatureGroup(NamedTuple):
    """Neighbouring features that belong to one column.

    Attributes:
        name: Of the column.
        kind: ``"unit"``: a number in 0 to 1; ``"symmetric"``: in -1 to 1; ``"real"``: any number; ``"categorical"``:
            probabilities of the categories; ``"observed"``: 1 where the cell has a value, 0 where it is missing.
        start: The first feature.
        stop: After the last feature.
    """

    name: str
    kind: Literal["unit", "symmetric", "real", "categorical", "observed"]
    start: int
    stop: int


@dataclass(frozen=True)
class Column:
    """One column: a number becomes ``(number - offset) / scale``, a category becomes one-hot, a constant nothing.

    Attributes:
        name: As in the file.
        kind: ``"continuous"``, ``"categorical"``, or ``"constant"``: it had one value in training, is no feature, and
            is written back on output.
        range: Where the scaled numbers lie: ``"unit"``, ``"symmetric"`` or ``"real"``.
        offset: In the column's unit.
        scale: In the column's unit, above 0.
        decimals: Digits behind the point in the file: output is rounded so. None where there is no such number.
        categories: Of a categorical column, in the order of its features.
        value: Of a constant column.
        has_missing: Whether one more feature says where the column has a value: 1, or 0 where it is missing.
        neutral: What stands in the scaled feature of a missing number: the mean of those that there were.
    """

    name: str
    kind: str
    range: str = "real"
    offset: float = 0.0
    scale: float = 1.0
    decimals: int | None = None
    categories: tuple[str, ...] = ()
    value: float | str | None = None
    has_missing: bool = False
    neutral: float = 0.0

    @property
    def value_width(self) -> int:
        """How many features the value takes."""
        return {"continuous": 1, "categorical": len(self.categories), "constant": 0}[self.kind]

    @property
    def width(self) -> int:
        """How many features the column takes."""
        return self.value_width + self.has_missing

    @property
    def is_text(self) -> bool:
        """Whether its cells are text."""
        return self.kind == "categorical" or isinstance(self.value, str)

    def encode(self, values: Values) -> tuple[np.ndarray, np.ndarray]:
        """Return the features `(T, width)`, float32, and where they say something `(T, width)`, bool.

        Raises:
            CodecError: A category, or a value of a constant column, that was not in training.
        """
        observed = observed_cells(values)  # (T,)
        features = np.zeros((len(values), self.width), dtype=np.float32)
        mask = np.repeat(observed[:, None], self.width, axis=1)
        if self.kind == "continuous":
            features[:, 0] = np.where(observed, (values - self.offset) / self.scale, self.neutral)
        elif self.kind == "categorical":
            places = {category: place for place, category in enumerate(self.categories)}
            for row in np.flatnonzero(observed):
                if values[row] not in places:
                    raise CodecError(
                        f"the category {values[row]!r} of the column {self.name!r} was not in the training data: "
                        f"{name_the_closest(values[row], self.categories)}"
                    )
                features[row, places[values[row]]] = 1
        else:
            other = np.flatnonzero(observed & (values != self.value))
            if len(other):
                found = values[other].tolist()[0]
                raise CodecError(
                    f"the column {self.name!r} is {self.value!r} throughout the training data but {found!r} elsewhere: "
                    "leave it out with columns"
                )
        if self.has_missing:
            features[:, -1] = observed
            mask[:, -1] = True
        return features, mask

    def decode(self, features: np.ndarray, generator: np.random.Generator | None) -> Values:
        """Return the cells `(T,)` of features `(T, width)`; a category is the likeliest, or drawn."""
        if self.kind == "continuous":
            values = features[:, 0].astype(np.float64) * self.scale + self.offset
            if self.decimals is not None:
                values = np.round(values, self.decimals) + 0.0  # no -0.0
        elif self.kind == "categorical":
            values = np.array(self.categories, dtype=object)[_choose(features[:, : len(self.categories)], generator)]
        else:
            values = np.full(len(features), self.value, dtype=object if self.is_text else np.float64)
        if self.has_missing:
            values[features[:, -1] < 0.5] = None if self.is_text else math.nan
        return values

    def groups(self, start: int) -> list[FeatureGroup]:
        """Return the column's features as groups, the first of them at ``start``."""
        stop = start + self.value_width
        kind = "categorical" if self.kind == "categorical" else self.range
        found = [FeatureGroup(self.name, kind, start, stop)] if self.value_width else []
        return found + ([FeatureGroup(self.name, "observed", stop, stop + 1)] if self.has_missing else [])

    def to_config(self) -> dict[str, Any]:
        """Return the column as plain JSON values."""
        return {**asdict(self), "categories": list(self.categories)}

    @classmethod
    def from_config(cls, config: object) -> Column:
        """Rebuild a column.

        Raises:
            CodecError: It is damaged.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(config, Mapping) or config.keys() != names:
            raise CodecError(f"a column has not the keys {', '.join(sorted(names))}: use another copy")
        categories = config["categories"]
        sound = (
            isinstance(config["name"], str)
            and config["kind"] in KINDS
            and config["range"] in ("unit", "symmetric", "real")
            and all(_is_number(config[key]) for key in ("offset", "scale", "neutral"))
            and config["scale"] > 0
            and (config["decimals"] is None or type(config["decimals"]) is int)
            and isinstance(categories, list | tuple)
            and all(isinstance(category, str) for category in categories)
            and len(set(categories)) == len(categories)
            and (len(categories) >= 2) == (config["kind"] == "categorical")
            and isinstance(config["has_missing"], bool)
            and (config["kind"] != "constant" or isinstance(config["value"], str) or _is_number(config["value"]))
        )
        if not sound:
            raise CodecError(f"the column {config['name']!r} has values that it cannot have: use another copy")
        return cls(**{**config, "categories": tuple(categories)})


def fit_column(
    name: str, values: Values, *, categorical: bool, scaling: str = "min_max", mark_missing: bool = True
) -> Column:
    """Describe a column from its training cells.

    Args:
        name: Of the column.
        values: The cells: `(N,)` float64 with NaN where missing, or object with str and None where missing.
        categorical: Whether the cells are categories.
        scaling: ``"min_max"`` to 0 to 1, ``"standard"`` to mean 0 and deviation 1, ``"none"``.
        mark_missing: Whether a column with missing cells gets a feature that says where.

    Raises:
        CodecError: There is no value at all, or a scaling that is none.
    """
    if scaling not in SCALINGS:
        raise CodecError(
            f"scaling={scaling!r} of the column {name!r} is unknown: {name_the_closest(scaling, SCALINGS)}"
        )
    observed = observed_cells(values)
    there = values[observed]
    if not len(there):
        raise CodecError(f"the column {name!r} has no value in the training data: leave it out with columns")
    has_missing = bool(mark_missing and not observed.all())
    if categorical:
        categories = sort_categories(set(there.tolist()))
        if len(categories) == 1:
            return Column(name, "constant", value=categories[0], has_missing=has_missing)
        return Column(name, "categorical", categories=tuple(categories), has_missing=has_missing)
    low, high = float(there.min()), float(there.max())
    if low == high:
        return Column(name, "constant", value=low, decimals=_count_decimals(there), has_missing=has_missing)
    if scaling == "min_max":
        offset, scale = low, high - low
    elif scaling == "standard":
        offset, scale = float(there.mean()), float(there.std())
    else:
        offset, scale = 0.0, 1.0
    if not (math.isfinite(scale) and scale > 0):
        raise CodecError(f"the column {name!r} from {low!r} to {high!r} is too wide or too narrow to scale")
    lowest, highest = (low - offset) / scale, (high - offset) / scale
    inside = "unit" if lowest >= 0 and highest <= 1 else "symmetric" if lowest >= -1 and highest <= 1 else "real"
    return Column(
        name,
        "continuous",
        range=inside,
        offset=offset,
        scale=scale,
        decimals=_count_decimals(there),
        has_missing=has_missing,
        neutral=float((there.mean() - offset) / scale),
    )


def encode_columns(columns: Sequence[Column], arrays: Mapping[str, Values]) -> tuple[np.ndarray, np.ndarray]:
    """Return the features `(T, F)`, float32, and where they say something `(T, F)`, bool.

    Raises:
        CodecError: A column is missing, or a cell cannot be encoded.
    """
    for column in columns:
        if column.name not in arrays:
            raise CodecError(f"there is no column {column.name!r}: {name_the_closest(column.name, arrays)}")
    encoded = [column.encode(arrays[column.name]) for column in columns]
    return (
        np.concatenate([features for features, _ in encoded], axis=1),
        np.concatenate([mask for _, mask in encoded], axis=1),
    )


def decode_columns(
    columns: Sequence[Column], features: np.ndarray, generator: np.random.Generator | None = None
) -> dict[str, Values]:
    """Return the cells `(T,)` of each column from features `(T, F)`."""
    arrays, start = {}, 0
    for column in columns:
        arrays[column.name] = column.decode(features[:, start : start + column.width], generator)
        start += column.width
    return arrays


def group_features(columns: Sequence[Column]) -> list[FeatureGroup]:
    """Return what each feature of the columns is."""
    groups: list[FeatureGroup] = []
    start = 0
    for column in columns:
        groups += column.groups(start)
        start += column.width
    return groups


def observed_cells(values: Values) -> np.ndarray:
    """Return where cells have a value, `(T,)` bool."""
    if values.dtype == object:
        return np.array([value is not None for value in values], dtype=bool)
    return ~np.isnan(values)


def sort_categories(categories: set[str]) -> list[str]:
    """Sort categories: as numbers where all are numbers, otherwise as text."""
    try:
        return sorted(categories, key=lambda category: (float(category), category))
    except ValueError:
        return sorted(categories)


def _choose(weights: np.ndarray, generator: np.random.Generator | None) -> np.ndarray:
    """Return the place of the largest weight of each row, or one drawn in proportion to the weights."""
    if generator is None:
        return weights.argmax(axis=1)
    shares = np.maximum(weights.astype(np.float64), 0) + 1e-12
    shares = shares.cumsum(axis=1) / shares.sum(axis=1, keepdims=True)
    return np.minimum((shares < generator.random((len(weights), 1))).sum(axis=1), weights.shape[1] - 1)


def _count_decimals(values: np.ndarray) -> int | None:
    for decimals in range(_MOST_DECIMALS + 1):
        if np.array_equal(np.round(values, decimals), values):
            return decimals
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
