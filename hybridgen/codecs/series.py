"""The series codec: rows of a table to features and back to real units, names and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hybridgen.closest import name_the_closest
from hybridgen.codecs.columns import (
    Column,
    FeatureGroup,
    Values,
    decode_columns,
    encode_columns,
    fit_column,
    group_features,
)
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.labels import check_labels, find_label
from hybridgen.codecs.saving import SavedCodec
from hybridgen.codecs.timestamps import TimeRule


@dataclass
class Series:
    """One series in real units, as in a file.

    Attributes:
        columns: Cells `(T,)` by name: float64 with NaN where missing, or object with str and None where missing.
        conditions: Likewise, of columns that are given to a model and not generated.
        attributes: One value for the whole series, by name: a number (NaN where missing), or a str (None where
            missing).
        label: The class, or None.
        times: The times of the rows as text, or None.
        name: What the series is called, or None.
    """

    columns: dict[str, Values]
    conditions: dict[str, Values] = field(default_factory=dict)
    attributes: dict[str, float | str | None] = field(default_factory=dict)
    label: str | None = None
    times: list[str] | None = None
    name: str | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


class SeriesCodec(SavedCodec):
    """Rows of a table as features `(T, F)` of a model, and back.

    A number is scaled; a category becomes one-hot; where cells were missing in training, one more feature says
    whether there is a value; a column that was constant in training is no feature and is written back on output.
    :attr:`groups` tells what each feature is. Build it with :meth:`fit`.

    Args:
        columns: The columns that are generated, in the order of the file, as ``Column.to_config()`` gave them.
        conditions: Columns that are given to the model at each step.
        attributes: Columns of one value for each series.
        labels: The names of the classes, in the order of their numbers.
        label_name: Of the column of labels.
        id_name: Of the column that tells series apart.
        time: The rule of the times, as ``TimeRule.to_config()`` gave it, or None.
        reverse: Whether features go from the last row to the first; turned back on output.

    Raises:
        CodecError: Something in it is damaged.
    """

    name = "series"

    def __init__(
        self,
        *,
        columns: Sequence[Mapping[str, Any]],
        conditions: Sequence[Mapping[str, Any]] = (),
        attributes: Sequence[Mapping[str, Any]] = (),
        labels: Sequence[str] = (),
        label_name: str | None = None,
        id_name: str | None = None,
        time: Mapping[str, Any] | None = None,
        reverse: bool = False,
    ) -> None:
        self.columns = _load_columns(columns, "columns")
        self.conditions = _load_columns(conditions, "conditions")
        self.attributes = _load_columns(attributes, "attributes")
        self.labels = check_labels(labels)
        self.label_name = label_name
        self.id_name = id_name
        self.time = None if time is None else TimeRule.from_config(time)
        self.reverse = bool(reverse)
        if not self.num_features:
            raise CodecError(
                "every column is constant in the training data: there is nothing to learn, give columns that vary"
            )

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, Values],
        *,
        conditions: Mapping[str, Values] | None = None,
        attributes: Mapping[str, Values] | None = None,
        labels: Sequence[str] = (),
        categorical: Sequence[str] = (),
        scaling: str | Mapping[str, str] = "min_max",
        mark_missing: bool = True,
        label_name: str | None = None,
        id_name: str | None = None,
        time: TimeRule | None = None,
        reverse: bool = False,
    ) -> SeriesCodec:
        """Build the codec on training data.

        Args:
            columns: All training cells `(N,)` of each column that is generated.
            conditions: Likewise, of columns that are given at each step.
            attributes: Likewise, `(S,)`, one value for each series.
            labels: The names of the classes.
            categorical: Which columns, conditions and attributes hold categories.
            scaling: ``"min_max"`` to 0 to 1, ``"standard"`` to mean 0 and deviation 1, ``"none"``; or one of these by
                column, with min_max for columns that it leaves out.
            mark_missing: Whether columns with missing cells get a feature that says where.
            label_name: Of the column of labels.
            id_name: Of the column that tells series apart.
            time: The rule of the times.
            reverse: Whether features go from the last row to the first.

        Raises:
            CodecError: A column has no value, or an option does not fit.
        """
        rooms = [columns, conditions or {}, attributes or {}]
        known = [name for room in rooms for name in room]
        for option, named in (("categorical", categorical), ("scaling", [] if isinstance(scaling, str) else scaling)):
            for name in named:
                if name not in known:
                    raise CodecError(f"{option} names the column {name!r}: {name_the_closest(name, known)}")
        fitted = [
            [
                fit_column(
                    name,
                    values,
                    categorical=name in categorical,
                    scaling=scaling if isinstance(scaling, str) else scaling.get(name, "min_max"),
                    mark_missing=mark_missing,
                ).to_config()
                for name, values in room.items()
            ]
            for room in rooms
        ]
        return cls(
            columns=fitted[0],
            conditions=fitted[1],
            attributes=fitted[2],
            labels=labels,
            label_name=label_name,
            id_name=id_name,
            time=None if time is None else time.to_config(),
            reverse=reverse,
        )

    @property
    def num_features(self) -> int:
        """F: the features of a step."""
        return sum(column.width for column in self.columns)

    @property
    def num_conditions(self) -> int:
        """C: the features of a step that are given."""
        return sum(column.width for column in self.conditions)

    @property
    def num_attributes(self) -> int:
        """A: the features of a series' attributes."""
        return sum(column.width for column in self.attributes)

    @property
    def num_labels(self) -> int:
        """The number of classes; 0 without labels."""
        return len(self.labels)

    @property
    def groups(self) -> list[FeatureGroup]:
        """What the F features are, from left to right."""
        return group_features(self.columns)

    @property
    def attribute_groups(self) -> list[FeatureGroup]:
        """What the A features of attributes are, from left to right."""
        return group_features(self.attributes)

    @property
    def neutral(self) -> Tensor:
        """What stands in ``values`` where a cell is missing, `(F,)` float32; 0 in features that are never missing."""
        found = []
        for column in self.columns:
            found += [column.neutral] * (column.kind == "continuous") + [0.0] * (
                column.width - (column.kind == "continuous")
            )
        return torch.tensor(found)

    def label_index(self, label: object) -> int:
        """Return the number of a class.

        Raises:
            CodecError: There is none of that name.
        """
        return find_label(self.labels, label)

    def encode(self, columns: Mapping[str, Values]) -> tuple[Tensor, Tensor]:
        """Return the features `(T, F)`, float32, and where they say something `(T, F)`, bool.

        Raises:
            CodecError: A column is not there, or has what was not in training.
        """
        return self._encode(self.columns, columns, self.reverse)

    def encode_conditions(self, columns: Mapping[str, Values]) -> Tensor:
        """Return the given features `(T, C)`, float32; see :meth:`encode`."""
        return self._encode(self.conditions, columns, self.reverse)[0]

    def encode_attributes(self, attributes: Mapping[str, float | str | None]) -> Tensor:
        """Return the features `(A,)`, float32, of one series' attributes; see :meth:`encode`."""
        arrays = {}
        for column in self.attributes:
            value = attributes.get(column.name, None if column.is_text else np.nan)
            arrays[column.name] = np.array([value], dtype=object if column.is_text else np.float64)
        return self._encode(self.attributes, arrays, False)[0][0]

    def decode(
        self,
        values: Tensor,
        *,
        lengths: Tensor | None = None,
        labels: Tensor | None = None,
        attributes: Tensor | None = None,
        conditions: Tensor | None = None,
        categories: Literal["likeliest", "sample"] = "likeliest",
        seed: int = 0,
        start: str | None = None,
    ) -> list[Series]:
        """Turn features into series in real units.

        Args:
            values: `(B, T, F)`. A categorical group is read as probabilities (any weights; those below 0 count as 0);
                an ``observed`` feature below 0.5 means that the cell is missing.
            lengths: `(B,)`, the rows of each series. Default: T.
            labels: `(B,)`, the numbers of the classes.
            attributes: `(B, A)`.
            conditions: `(B, T, C)`.
            categories: Whether a category is the likeliest one or drawn.
            seed: Of the draws.
            start: The first time of each series, by default that of the training data.

        Raises:
            CodecError: Shapes that do not fit, or numbers that are not finite.
        """
        if values.dim() != 3 or values.shape[2] != self.num_features:
            raise CodecError(
                f"values of shape {tuple(values.shape)} cannot be decoded: give (B, T, F) with F={self.num_features}"
            )
        if categories not in ("likeliest", "sample"):
            raise CodecError(f"categories={categories!r} is unknown: use 'likeliest' or 'sample'")
        generator = np.random.default_rng(seed) if categories == "sample" else None
        rows = values.detach().float().cpu().numpy()
        ends = [rows.shape[1]] * len(rows) if lengths is None else lengths.tolist()
        decoded = []
        for index, (features, length) in enumerate(zip(rows, ends, strict=True)):
            if not np.isfinite(features[:length]).all():
                raise CodecError(f"series {index} has values that are not finite: they cannot be written")
            series = Series(columns=self._decode(self.columns, features[:length], generator), name=str(index))
            if labels is not None and self.labels:
                series.label = self.labels[int(labels[index])]
            if attributes is not None and self.attributes:
                cells = decode_columns(self.attributes, attributes[index : index + 1].float().cpu().numpy(), generator)
                series.attributes = {name: cell.tolist()[0] for name, cell in cells.items()}
            if conditions is not None and self.conditions:
                given = conditions[index, :length].float().cpu().numpy()
                series.conditions = self._decode(self.conditions, given, None)
            if self.time is not None:
                series.times = self.time.times(length, start)
            decoded.append(series)
        return decoded

    def _encode(self, columns: Sequence[Column], arrays: Mapping[str, Values], reverse: bool) -> tuple[Tensor, Tensor]:
        if not columns:
            raise CodecError("there is no such column in this codec: it was built without")
        features, mask = encode_columns(columns, arrays)
        if reverse:
            features, mask = features[::-1].copy(), mask[::-1].copy()
        return torch.from_numpy(features), torch.from_numpy(mask)

    def _decode(
        self, columns: Sequence[Column], features: np.ndarray, generator: np.random.Generator | None
    ) -> dict[str, Values]:
        arrays = decode_columns(columns, features, generator)
        return {name: cells[::-1].copy() for name, cells in arrays.items()} if self.reverse else arrays

    def _options(self) -> dict[str, Any]:
        return {
            "columns": [column.to_config() for column in self.columns],
            "conditions": [column.to_config() for column in self.conditions],
            "attributes": [column.to_config() for column in self.attributes],
            "labels": list(self.labels),
            "label_name": self.label_name,
            "id_name": self.id_name,
            "time": None if self.time is None else self.time.to_config(),
            "reverse": self.reverse,
        }

    def __repr__(self) -> str:
        return f"SeriesCodec(num_features={self.num_features}, num_labels={self.num_labels})"


def _load_columns(configs: object, what: str) -> list[Column]:
    if not isinstance(configs, list | tuple):
        raise CodecError(f"its {what} are not a list: use another copy")
    columns = [Column.from_config(config) for config in configs]
    names = [column.name for column in columns]
    if len(set(names)) != len(names):
        raise CodecError(f"its {what} have a name twice: use another copy")
    return columns
