"""Writing series with their real units, column names and times: csv, numpy and parquet files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hybridgen.codecs import Series, SeriesCodec
from hybridgen.codecs.columns import Column
from hybridgen.data.errors import DataError
from hybridgen.data.files import whole_file
from hybridgen.data.series_arrays import import_pyarrow

#: Endings of the files that can be written.
FORMATS = (".csv", ".tsv", ".npz", ".parquet")


def write_series(path: str | Path, series: Sequence[Series], codec: SeriesCodec) -> Path:
    """Write series to one file, whole or not at all; ``SeriesData`` reads it back.

    csv, tsv and parquet files have a row for each step and these columns: the series' number, the time, the columns
    that were generated, those that were given, the attributes, the label. Numbers have as many decimals as the training
    file; missing cells are empty. A npz file has ``values`` `(S, T, C)`, ``columns``, and what else
    :func:`hybridgen.data.series_arrays.read_npz` reads.

    Args:
        path: Ends in .csv, .tsv, .npz or .parquet, which says how. An older file is replaced.
        series: At least one.
        codec: The codec that decoded them.

    Returns:
        The path.

    Raises:
        DataError: The path has another ending or cannot be written, there is nothing to write, or pyarrow is missing.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path} does not say its format: let it end in {', '.join(FORMATS)}")
    if not series:
        raise DataError(f"there is no series to write to {path}")
    suffix = path.suffix.lower()
    pyarrow = import_pyarrow(path, "writing") if suffix == ".parquet" else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as (handle, _):
            if suffix == ".npz":
                np.savez_compressed(handle, **_arrays(series, codec))
            elif pyarrow is not None:
                from pyarrow import parquet

                parquet.write_table(pyarrow.table(_cells(series, codec)), handle)
            else:
                text = io.TextIOWrapper(handle, encoding="utf-8", newline="", write_through=True)
                table = csv.writer(text, delimiter="," if suffix == ".csv" else "\t", lineterminator="\n")
                table.writerow(_header(series, codec))
                table.writerows(_rows(series, codec))
                text.detach()
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}): choose another place") from None
    return path


def column_names(codec: SeriesCodec) -> tuple[str, str, str]:
    """Return the names of the columns for the series' number, the label and the time; none is of another column."""
    taken = {column.name for column in (*codec.columns, *codec.conditions, *codec.attributes)}
    found = []
    for wanted in (codec.id_name or "series", codec.label_name or "label", codec.time.name if codec.time else "time"):
        while wanted in taken:
            wanted += "_"
        taken.add(wanted)
        found.append(wanted)
    return found[0], found[1], found[2]


def _header(series: Sequence[Series], codec: SeriesCodec) -> list[str]:
    number, label, time = column_names(codec)
    first = series[0]
    return [
        number,
        *([time] if first.times is not None else []),
        *first.columns,
        *first.conditions,
        *first.attributes,
        *([label] if first.label is not None else []),
    ]


def _rows(series: Sequence[Series], codec: SeriesCodec) -> Iterator[list[str]]:
    columns = {column.name: column for column in (*codec.columns, *codec.conditions, *codec.attributes)}
    for place, one in enumerate(series):
        after = [_text(columns[name], value) for name, value in one.attributes.items()]
        after += [one.label] if one.label is not None else []
        given = [
            [_text(columns[name], value) for value in cells.tolist()]
            for room in (one.columns, one.conditions)
            for name, cells in room.items()
        ]
        times = [one.times] if one.times is not None else []
        for row in zip(*times, *given, strict=True):
            yield [str(place), *row, *after]


def _text(column: Column, value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if math.isnan(value):
        return ""
    return repr(value) if column.decimals is None else f"{value:.{column.decimals}f}"


def _cells(series: Sequence[Series], codec: SeriesCodec) -> dict[str, list[object]]:
    """Return the table by column, as parquet takes it."""
    number, label, time = column_names(codec)
    table: dict[str, list[object]] = {name: [] for name in _header(series, codec)}
    whole = {column.name for column in (*codec.columns, *codec.conditions, *codec.attributes) if column.decimals == 0}

    def plain(name: str, value: object) -> object:
        if isinstance(value, float):
            return None if math.isnan(value) else int(value) if name in whole else value
        return value

    for place, one in enumerate(series):
        table[number] += [place] * len(one)
        if one.times is not None:
            table[time] += one.times
        for room in (one.columns, one.conditions):
            for name, cells in room.items():
                table[name] += [plain(name, value) for value in cells.tolist()]
        for name, value in one.attributes.items():
            table[name] += [plain(name, value)] * len(one)
        if one.label is not None:
            table[label] += [one.label] * len(one)
    return table


def _arrays(series: Sequence[Series], codec: SeriesCodec) -> dict[str, np.ndarray]:
    lengths = np.array([len(one) for one in series])
    longest = int(lengths.max())
    columns = [*codec.columns, *codec.conditions]
    values = np.full((len(series), longest, len(columns)), np.nan)
    arrays: dict[str, np.ndarray] = {"columns": np.array([column.name for column in columns]), "lengths": lengths}
    for place, column in enumerate(columns):
        room = "columns" if place < len(codec.columns) else "conditions"
        for index, one in enumerate(series):
            values[index, : len(one), place] = _numbers(column, getattr(one, room)[column.name])
        _add_categories(column, arrays)
    arrays["values"] = values
    if codec.attributes:
        arrays["attribute_names"] = np.array([column.name for column in codec.attributes])
        arrays["attributes"] = np.stack(
            [
                _numbers(column, np.array([one.attributes[column.name] for one in series], dtype=object))
                for column in codec.attributes
            ],
            axis=1,
        )
        for column in codec.attributes:
            _add_categories(column, arrays)
    if series[0].label is not None:
        arrays["labels"] = np.array([one.label for one in series])
    if series[0].times is not None:
        arrays["times"] = np.array([[*(one.times or ()), *[""] * (longest - len(one))] for one in series])
    return arrays


def _categories(column: Column) -> tuple[str, ...]:
    return (str(column.value),) if column.kind == "constant" else column.categories


def _add_categories(column: Column, arrays: dict[str, np.ndarray]) -> None:
    if column.is_text:
        arrays[f"categories_{column.name}"] = np.array(_categories(column))


def _numbers(column: Column, cells: np.ndarray) -> np.ndarray:
    """Return cells as numbers: of categories, their places."""
    if not column.is_text:
        return np.array([math.nan if value is None else value for value in cells.tolist()], dtype=np.float64)
    places = {category: float(place) for place, category in enumerate(_categories(column))}
    return np.array([math.nan if value is None else places[value] for value in cells.tolist()])
