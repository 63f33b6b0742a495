"""Where series come from: files, public sets, synthetic series; each becomes a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from hybridgen.closest import name_the_closest
from hybridgen.codecs.columns import Values, observed_cells
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.timestamps import find_format, parse_time
from hybridgen.data.errors import DataError, MissingDataError
from hybridgen.data.files import data_folders
from hybridgen.data.series_arrays import read_npz, read_parquet
from hybridgen.data.series_csv import read_csv
from hybridgen.data.series_table import SeriesTable
from hybridgen.data.synthetic_series import SYNTHETIC

_STOCKS = ("Open", "High", "Low", "Close", "Adj_Close", "Volume")
_ENERGY = (
    *("Appliances", "lights"),
    *(name for room in range(1, 10) for name in (f"T{room}", f"RH_{room}")),
    *("T_out", "Press_mm_hg", "RH_out", "Windspeed", "Visibility", "Tdewpoint", "rv1", "rv2"),
)
_AIR_QUALITY = (
    *("CO(GT)", "PT08.S1(CO)", "NMHC(GT)", "C6H6(GT)", "PT08.S2(NMHC)", "NOx(GT)", "PT08.S3(NOx)", "NO2(GT)"),
    *("PT08.S4(NO2)", "PT08.S5(O3)", "T", "RH", "AH"),
)


@dataclass(frozen=True)
class KnownSeries:
    """What is known of a public set of series.

    Attributes:
        files: Names under which its file may lie, the public one first.
        columns: Their names, in the order of the file.
        missing_values: What means that a cell has no value.
        window: Rows of a window, as usual for it.
    """

    files: tuple[str, ...]
    columns: tuple[str, ...]
    missing_values: tuple[float, ...] = ()
    window: int = 24


KNOWN_SERIES = {
    "stocks": KnownSeries(("stock_data.csv",), _STOCKS),
    "energy": KnownSeries(("energy_windows.npz", "energy_data.csv"), _ENERGY),
    "air_quality": KnownSeries(("air_quality_windows.npz",), _AIR_QUALITY, missing_values=(-200.0,)),
}


@dataclass(frozen=True)
class ColumnRoles:
    """Which column of a file is what; see ``SeriesData``."""

    columns: tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    label: str | None = None
    id: str | None = None
    time: str | None = None
    time_format: str | None = None

    @property
    def text(self) -> set[str]:
        """Columns whose cells are text."""
        return {*self.categorical, *filter(None, (self.label, self.id, self.time))}

    @property
    def named(self) -> list[str]:
        """Every column that has a role."""
        roles = (*(self.columns or ()), *self.conditions, *self.attributes, self.label, self.id, self.time)
        return [name for name in roles if name is not None]


def locate_series(source: str) -> Path:
    """Return the file of a source that is not synthetic.

    Raises:
        DataError: There is none.
    """
    if source in KNOWN_SERIES:
        known = KNOWN_SERIES[source]
        for folder in data_folders():
            for file in known.files:
                if (folder / source / file).is_file():
                    return folder / source / file
        raise MissingDataError(
            f"the set {source!r} is not on this machine: run `hybridgen data {source}`, or set HYBRIDGEN_DATA to the "
            f"folder that holds {source}/{known.files[0]}"
        )
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise DataError(f"{path} is a folder: give a csv, parquet or npz file")
    known_names = [*SYNTHETIC, *KNOWN_SERIES]
    raise DataError(f"there is no file {path} and no source of that name: {name_the_closest(source, known_names)}")


def read_series(
    source: str,
    roles: ColumnRoles,
    *,
    delimiter: str = ",",
    header: bool | None = None,
    missing_values: Sequence[float | str] = (),
) -> SeriesTable:
    """Read a file, or a public set by name, as a table of series.

    Raises:
        DataError: There is no such file, or something in it cannot be read.
    """
    path = locate_series(source)
    known = KNOWN_SERIES.get(source)
    names = None if known is None else known.columns
    missing = [*missing_values, *(() if known is None else known.missing_values)]
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return read_npz(path, roles, names=names, missing_values=missing)
    wanted = None if roles.columns is None else {*roles.named}
    if suffix == ".parquet":
        columns = read_parquet(path, wanted=wanted, text=roles.text, missing_values=missing)
    elif suffix in (".csv", ".tsv", ".txt"):
        columns = read_csv(
            path,
            delimiter="\t" if suffix == ".tsv" and delimiter == "," else delimiter,
            header=header,
            names=names,
            wanted=wanted,
            required=[*roles.named, *roles.categorical],
            text=roles.text,
            missing_values=missing,
        )
    else:
        raise DataError(f"{path} is not a csv, parquet or npz file by its name: convert it to one of them")
    return arrange(str(path), columns, roles)


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
