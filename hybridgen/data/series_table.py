"""A table of one or many series in real units: arranged, cut, reversed, divided, its missing cells filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hybridgen.closest import name_the_closest
from hybridgen.codecs.columns import Values, observed_cells
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.timestamps import find_format, parse_time
from hybridgen.data.errors import DataError

if TYPE_CHECKING:
    from hybridgen.data.series_sources import ColumnRoles

#: What can be done with missing cells.
MISSING = ("mask", "drop", "interpolate", "fill")


@dataclass(frozen=True)
class SeriesTable:
    """S series, one after another in N rows.

    Attributes:
        where: What messages call it.
        columns: Cells `(N,)` by name: float64 with NaN where missing, or object with str and None where missing.
        starts: `(S + 1,)`, the first row of each series, and N.
        names: Of the series.
        conditions: Likewise as columns, of those that are given at each step.
        attributes: `(S,)` by name, one value for each series.
        labels: Of the series, or None.
        times: Of the rows, as text, or None.
        time_format: Of the times, or None where they are numbers.
    """

    where: str
    columns: dict[str, Values]
    starts: np.ndarray
    names: list[str]
    conditions: dict[str, Values] = field(default_factory=dict)
    attributes: dict[str, Values] = field(default_factory=dict)
    labels: list[str] | None = None
    times: list[str] | None = None
    time_format: str | None = None

    @property
    def num_rows(self) -> int:
        """N."""
        return int(self.starts[-1])

    @property
    def num_series(self) -> int:
        """S."""
        return len(self.starts) - 1

    def reversed(self) -> SeriesTable:
        """Return the table with the rows of each series from the last to the first."""
        order = np.concatenate(
            [np.arange(stop - 1, start - 1, -1) for start, stop in zip(self.starts, self.starts[1:], strict=False)]
        )
        return replace(
            self,
            columns={name: cells[order] for name, cells in self.columns.items()},
            conditions={name: cells[order] for name, cells in self.conditions.items()},
            times=None if self.times is None else [self.times[row] for row in order],
        )

    def filled(self, how: str) -> SeriesTable:
        """Return the table with missing cells replaced: ``"interpolate"`` or ``"fill"``, each within its series.

        ``"interpolate"`` draws a straight line between the values around a gap; categories, and both ends, take the
        nearest value before or after. ``"fill"`` repeats the last value before a gap, at the start the first one after.

        Raises:
            DataError: A series has no value at all in a column.
        """

        def fill(name: str, cells: Values) -> Values:
            there = observed_cells(cells)
            if there.all():
                return cells
            cells = cells.copy()
            for series in range(self.num_series):
                span = slice(int(self.starts[series]), int(self.starts[series + 1]))
                cells[span] = self._fill_series(name, series, cells[span], there[span], how)
            return cells

        return replace(
            self,
            columns={name: fill(name, cells) for name, cells in self.columns.items()},
            conditions={name: fill(name, cells) for name, cells in self.conditions.items()},
        )

    def _fill_series(self, name: str, series: int, cells: Values, there: np.ndarray, how: str) -> Values:
        known = np.flatnonzero(there)
        if not len(known):
            of = f" of the series {self.names[series]!r}" if self.num_series > 1 else ""
            raise DataError(
                f"{self.where}: the column {name!r}{of} has no value to fill its gaps with: set missing to 'mask' or "
                "'drop', or leave the column out with columns"
            )
        rows = np.arange(len(cells))
        if how == "interpolate" and cells.dtype != object:
            return np.interp(rows, known, cells[known])
        return cells[known[np.maximum(np.searchsorted(known, rows, side="right") - 1, 0)]]


def arrange(where: str, columns: Mapping[str, Values], roles: ColumnRoles) -> SeriesTable:
    """Group the rows of a file by series, in the order of time, and give each column its role.

    Raises:
        DataError: A role names no column, or a column does not fit its role.
    """
    for name in roles.named:
        if name not in columns:
            raise DataError(f"{where} has no column {name!r}: {name_the_closest(name, columns)}")
    for name in {name for name in roles.named if roles.named.count(name) > 1}:
        raise DataError(
            f"the column {name!r} has two roles: name it in one of columns, conditions, attributes ... only"
        )
    others = {*roles.conditions, *roles.attributes, *filter(None, (roles.label, roles.id, roles.time))}
    generated = roles.columns or tuple(name for name in columns if name not in others)
    if not generated:
        raise DataError(f"{where} has no column left to generate: name some in columns")
    order, starts, names = _group(where, columns, roles)
    times, form = None, None
    if roles.time is not None:
        order, times, form = _sort_by_time(where, columns[roles.time], order, starts, names, roles)
    firsts = order[starts[:-1]]
    for name in (*roles.attributes, *filter(None, (roles.label,))):
        _check_constant(where, name, columns[name][order], starts, names, is_label=name == roles.label)
    labels = None
    if roles.label is not None:
        labels = columns[roles.label][firsts].tolist()
        if None in labels:
            raise DataError(f"{where}: the series {names[labels.index(None)]!r} has no label in {roles.label!r}")
    return SeriesTable(
        where=where,
        columns={name: columns[name][order] for name in generated},
        starts=starts,
        names=names,
        conditions={name: columns[name][order] for name in roles.conditions},
        attributes={name: columns[name][firsts] for name in roles.attributes},
        labels=labels,
        times=times,
        time_format=form,
    )


def _group(where: str, columns: Mapping[str, Values], roles: ColumnRoles) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the order of the rows that puts each series together, where each starts, and their names."""
    number = len(next(iter(columns.values())))
    if roles.id is None:
        return np.arange(number), np.array([0, number]), ["0"]
    ids = columns[roles.id].tolist()
    if None in ids:
        raise DataError(f"{where}: row {ids.index(None) + 1} has no value in the id column {roles.id!r}")
    places = {name: place for place, name in enumerate(dict.fromkeys(ids))}
    owners = np.array([places[name] for name in ids])
    starts = np.concatenate([[0], np.bincount(owners).cumsum()])
    return np.argsort(owners, kind="stable"), starts, list(places)


def _sort_by_time(
    where: str, cells: Values, order: np.ndarray, starts: np.ndarray, names: list[str], roles: ColumnRoles
) -> tuple[np.ndarray, list[str], str | None]:
    texts = cells.tolist()
    if None in texts:
        raise DataError(f"{where}: row {texts.index(None) + 1} has no time in the column {roles.time!r}")
    try:
        form = roles.time_format or find_format(texts[0])
    except CodecError as error:
        raise DataError(f"{where}, column {roles.time!r}: {error}") from None
    seconds = np.empty(len(texts))
    for row, text in enumerate(texts):
        try:
            seconds[row] = parse_time(text, form)
        except CodecError as error:
            raise DataError(f"{where}, row {row + 1}, column {roles.time!r}: {error}") from None
    order = order.copy()
    for series, (start, stop) in enumerate(pairwise(starts)):
        rows = order[start:stop]
        rows = rows[np.argsort(seconds[rows], kind="stable")]
        twice = np.flatnonzero(np.diff(seconds[rows]) == 0)
        if len(twice):
            of = f"the series {names[series]!r}" if len(names) > 1 else "the table"
            raise DataError(
                f"{where}: {of} has the time {texts[rows[twice[0]]]!r} twice: remove a row, or give the id_column that "
                "tells its series apart"
            )
        order[start:stop] = rows
    return order, [texts[row] for row in order], form


def _check_constant(
    where: str, name: str, cells: Values, starts: np.ndarray, names: list[str], *, is_label: bool
) -> None:
    there = observed_cells(cells)
    for series, (start, stop) in enumerate(pairwise(starts)):
        first = cells[start : start + 1].tolist()[0]
        same = cells[start:stop] == first if there[start] else ~there[start:stop]
        if not np.all(same):
            other = cells[start:stop][~np.asarray(same, dtype=bool)].tolist()[0]
            what = "label" if is_label else "attribute"
            raise DataError(
                f"{where}: the {what} {name!r} is {first!r} and {other!r} in the series {names[series]!r}: it must be "
                "the same in all rows of a series, which id_column tells apart"
            )


def divide_rows(
    table: SeriesTable, valid_fraction: float, test_fraction: float
) -> dict[str, list[tuple[int, int, int]]]:
    """Cut each series in time: the last rows are for test, those before them for valid.

    Returns:
        Spans ``(series, first row, after the last row)`` by part; a part with no row is left out.
    """
    parts: dict[str, list[tuple[int, int, int]]] = {"train": [], "valid": [], "test": []}
    for series in range(table.num_series):
        start, stop = int(table.starts[series]), int(table.starts[series + 1])
        size = stop - start
        to_valid = start + round(size * (1 - valid_fraction - test_fraction))
        to_test = start + round(size * (1 - test_fraction))
        for part, span in (("train", (start, to_valid)), ("valid", (to_valid, to_test)), ("test", (to_test, stop))):
            if span[0] < span[1]:
                parts[part].append((series, *span))
    return {part: spans for part, spans in parts.items() if spans}


def divide_series(
    table: SeriesTable, valid_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[tuple[int, int, int]]]:
    """Deal whole series to the parts at random, at least one to each that is wanted; spans as in :func:`divide_rows`.

    Raises:
        DataError: There are too few series.
    """
    number = table.num_series
    valid = max(1, round(valid_fraction * number)) if valid_fraction else 0
    test = max(1, round(test_fraction * number)) if test_fraction else 0
    if number - valid - test < 1:
        raise DataError(
            f"{table.where} has {number} series, too few to divide into train, valid and test: give more (id_column "
            "tells them apart), set valid_fraction and test_fraction to 0, or set split to 'blocks', with a window, to "
            "cut each series in time"
        )
    order = np.random.default_rng(seed).permutation(number)
    dealt = {"train": order[valid + test :], "valid": order[:valid], "test": order[valid : valid + test]}
    return {
        part: [(int(s), int(table.starts[s]), int(table.starts[s + 1])) for s in np.sort(chosen)]
        for part, chosen in dealt.items()
        if len(chosen)
    }


def cut_windows(
    spans: list[tuple[int, int, int]], window: int | None, stride: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first row, the length and the series of each sequence that the spans hold, each `(S,)`.

    Args:
        spans: As from :func:`divide_rows`.
        window: Rows of a sequence; None takes each span whole. A span that is shorter gives none.
        stride: Rows from the start of a window to the start of the next.
    """
    starts, lengths, owners = [], [], []
    for series, start, stop in spans:
        size = stop - start if window is None else window
        firsts = np.arange(start, stop - size + 1, stride if window is not None else size)
        starts.append(firsts)
        lengths.append(np.full(len(firsts), size))
        owners.append(np.full(len(firsts), series))
    if not starts:
        return (np.zeros(0, dtype=np.int64),) * 3
    return tuple(np.concatenate(found).astype(np.int64) for found in (starts, lengths, owners))  # type: ignore[return-value]
