"""Reading series from numpy and parquet files."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridgen.closest import name_the_closest
from hybridgen.codecs.columns import Values
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.timestamps import find_format
from hybridgen.data.errors import DataError
from hybridgen.data.series_table import SeriesTable, arrange

if TYPE_CHECKING:
    from hybridgen.data.series_sources import ColumnRoles

_KEYS = ("values", "data", "x")
_EXACT = 2.0**53  # from here on, floats leave out whole numbers
#: What a file makes numpy, zipfile and their decompressors raise that is none of theirs, damaged, or encrypted.
_DAMAGED = (
    *(OSError, ValueError, EOFError, KeyError, IndexError, AttributeError, TypeError, RuntimeError, OverflowError),
    *(SyntaxError, tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


def read_npz(
    path: Path,
    roles: ColumnRoles,
    *,
    names: Sequence[str] | None = None,
    missing_values: Sequence[float | str] = (),
) -> SeriesTable:
    """Read a numpy file with an array ``values`` (or ``data``, or only one array).

    The array is `(S, T, C)`: S series; or `(N, C)`: one long table. NaN means missing. Windows of one long table that
    each start a row after the one before, with nothing else in the file, are chained back into it: as series of their
    own they would lie in train and test at once. Beside it may lie ``columns`` (C names), ``lengths`` `(S,)`,
    ``labels`` `(S,)`, ``times`` `(S, T)`, ``attributes`` `(S, A)` with ``attribute_names``, and ``categories_NAME``:
    the texts that the numbers of a categorical column stand for. So ``write_series`` writes them.

    In one long table, the columns of time and of the series' names are taken and order the rows as in a csv file. In
    `(S, T, C)` the series are apart and their times are ``times``: a column for either is refused.

    Raises:
        DataError: It is no such file, or its arrays do not fit together.
    """
    arrays = _load(path)
    key = next((key for key in _KEYS if key in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if key is None:
        raise DataError(f"{path} has the arrays {', '.join(arrays) or '(none)'}: name the one of the series 'values'")
    values = arrays[key]
    if values.dtype.kind not in "fiub" or values.ndim not in (2, 3) or not values.size:
        raise DataError(
            f"{path}: the array {key!r} is {values.dtype} of shape {values.shape}: it must be numbers of shape "
            "(series, steps, columns) or (steps, columns)"
        )
    values = values.astype(np.float64)
    for missing in missing_values:
        values[values == missing] = np.nan
    if np.isinf(values).any():
        place = tuple(int(i) for i in np.argwhere(np.isinf(values))[0])
        raise DataError(f"{path}: the value at {place} of {key!r} is not finite: correct it")
    alone = not {"lengths", "labels", "attributes", "times"} & arrays.keys()
    if values.ndim == 3 and alone and _is_chain(values):
        values = np.concatenate([values[:, 0], values[-1, 1:]])
    is_table = values.ndim == 2
    if is_table:
        values = values[None]
    number, length, width = values.shape
    lengths = _lengths(path, arrays, number, length)
    found = _names(path, arrays, "columns", key, list(names or [f"x{column + 1}" for column in range(width)]), width)
    inside = np.arange(length) < lengths[:, None]  # (S, T)
    rows = values[inside]  # (N, C)
    columns: dict[str, Values] = {name: rows[:, place].copy() for place, name in enumerate(found)}
    if roles.time in columns and "times" in arrays:
        raise DataError(
            f"{path} has times in 'times' and in the column {roles.time!r}: leave out time_column, or 'times'"
        )
    if not is_table:
        _check_apart(path, key, arrays, columns, roles)
    elif roles.time is not None or roles.id is not None:
        return _arrange_rows(path, key, arrays, columns, inside, roles)
    for name in roles.categorical:
        if name in columns:
            columns[name] = _categories(path, name, columns[name], arrays)
    conditions = {name: _take(path, name, columns) for name in roles.conditions}
    generated = roles.columns or tuple(name for name in columns if name not in conditions)
    attributes = _attributes(path, arrays, number, roles)
    for name in roles.categorical:
        _take(path, name, columns | attributes)
    labels = _labels(path, arrays, number) if roles.label is not None or "labels" in arrays else None
    times, form = _times(path, arrays, inside, roles)
    return SeriesTable(
        where=str(path),
        columns={name: _take(path, name, columns) for name in generated},
        starts=np.concatenate([[0], lengths.cumsum()]),
        names=[str(series) for series in range(number)],
        conditions=conditions,
        attributes=attributes,
        labels=labels,
        times=times,
        time_format=form,
    )


def read_parquet(
    path: Path, *, wanted: Collection[str] | None, text: Collection[str], missing_values: Sequence[float | str]
) -> dict[str, Values]:
    """Read the columns of a parquet file; nulls are missing cells.

    Raises:
        DataError: pyarrow is not installed, the file cannot be read, or a column is neither numbers nor text.
    """
    pyarrow = import_pyarrow(path, "reading")
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read as parquet ({str(error).splitlines()[0]})") from None
    columns: dict[str, Values] = {}
    for name in table.column_names:
        if wanted is not None and name not in wanted:
            continue
        cells = table.column(name)
        if name in text:
            values = np.empty(len(cells), dtype=object)
            values[:] = [None if cell is None or cell in missing_values else str(cell) for cell in cells.to_pylist()]
        else:
            kind = cells.type
            if not (
                pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind)
            ):
                raise DataError(
                    f"{path}: the column {name!r} is of type {kind}, not numbers: name it in categorical_columns or "
                    "time_column, or choose other columns with columns"
                )
            values = np.array([np.nan if cell is None else float(cell) for cell in cells.to_pylist()])
            for missing in missing_values:
                if not isinstance(missing, str):
                    values[values == missing] = np.nan
            if np.isinf(values).any():
                raise DataError(
                    f"{path}: row {int(np.isinf(values).argmax()) + 1} of {name!r} is not finite: correct it"
                )
        columns[name] = values
    if not table.num_rows:
        raise DataError(f"the file {path} has no rows: give a file with a table in it")
    return columns


def import_pyarrow(path: Path, doing: str) -> Any:
    """Return pyarrow.

    Raises:
        DataError: It is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise DataError(f"{doing} {path} needs pyarrow: run `pip install pyarrow`, or use a csv or npz file") from None
    return pyarrow


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except MemoryError:
        raise DataError(f"{path} says of an array that it is larger than memory: get another copy") from None
    except _DAMAGED as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path} cannot be read as a numpy npz file ({reason}): get another copy") from None
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy gives what does not begin as an array as its bytes
            raise DataError(f"{path} cannot be read as a numpy npz file ({key!r} is no array): get another copy")
    return arrays


def _is_chain(windows: np.ndarray) -> bool:
    """Whether each window is the one before, a row later."""
    return (
        len(windows) > 1 and windows.shape[1] > 1 and np.array_equal(windows[1:, :-1], windows[:-1, 1:], equal_nan=True)
    )


def _check_apart(
    path: Path, key: str, arrays: dict[str, np.ndarray], columns: dict[str, Values], roles: ColumnRoles
) -> None:
    """Refuse columns that would tell apart, or put in order, what the shape `(S, T, C)` has apart and in order."""
    if roles.id is not None:
        _take(path, roles.id, columns)
        raise DataError(
            f"{path}: {key!r} of shape {arrays[key].shape} has its series apart already: leave out "
            f"id_column={roles.id!r} and name the others in columns, or save one table of shape (steps, columns)"
        )
    if roles.time is not None and "times" not in arrays:  # where there are, the option gives them a name
        _take(path, roles.time, columns)
        raise DataError(
            f"{path}: {key!r} of shape {arrays[key].shape} has the times of its series in a column: save "
            f"{roles.time!r} as an array 'times' of shape (series, steps), or save one table of shape (steps, columns)"
        )


def _arrange_rows(
    path: Path,
    key: str,
    arrays: dict[str, np.ndarray],
    columns: dict[str, Values],
    inside: np.ndarray,
    roles: ColumnRoles,
) -> SeriesTable:
    """Group and order the rows of one long table as those of a csv file."""
    beside = [name for name in ("attributes", "labels") if name in arrays]
    if beside and roles.id is not None:
        raise DataError(
            f"{path}: {beside[0]!r} is of one series, but id_column={roles.id!r} tells many apart: make columns of "
            f"{key!r} of it, the same in all rows of a series"
        )
    for name in columns:
        if name in roles.categorical:
            columns[name] = _categories(path, name, columns[name], arrays)
        elif name in roles.text:
            columns[name] = _texts(path, name, columns[name], arrays)
    texts, _ = _times(path, arrays, inside, roles)
    if texts is not None:
        name = roles.time or next(name for name in ("time", "times", "'times'") if name not in columns)
        columns[name] = np.array(texts, dtype=object)
        roles = replace(roles, time=name)
    attributes = _attributes(path, arrays, 1, roles) if "attributes" in arrays else {}
    for name in roles.categorical:
        _take(path, name, columns | attributes)
    table = arrange(
        str(path),
        columns,
        replace(
            roles,
            attributes=() if "attributes" in arrays else roles.attributes,
            label=roles.label if roles.label in columns or "labels" not in arrays else None,
        ),
    )
    if "labels" in arrays and table.labels is None:
        table = replace(table, labels=_labels(path, arrays, 1))
    return replace(table, attributes=attributes) if "attributes" in arrays else table


def _texts(path: Path, name: str, numbers: Values, arrays: dict[str, np.ndarray]) -> Values:
    """Return times, or names of series, as a csv file has them."""
    if f"categories_{name}" in arrays:
        return _categories(path, name, numbers, arrays)
    if (np.abs(numbers) >= _EXACT).any():  # two names might have become one
        raise DataError(
            f"{path}: {name!r} has numbers of 2**53 and more, which are not exact: save smaller ones, or as a csv file"
        )
    values = np.empty(len(numbers), dtype=object)
    values[:] = [None if np.isnan(number) else _plain(number) for number in numbers]
    return values


def _lengths(path: Path, arrays: dict[str, np.ndarray], number: int, longest: int) -> np.ndarray:
    if "lengths" not in arrays:
        return np.full(number, longest, dtype=np.int64)
    lengths = _sized(path, arrays, "lengths", number)
    if lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > longest:
        raise DataError(f"{path}: 'lengths' must be whole numbers of 1 to {longest}: correct them")
    return lengths.astype(np.int64)


def _names(path: Path, arrays: dict[str, np.ndarray], key: str, of: str, default: list[str], width: int) -> list[str]:
    """Return the names of ``width`` columns of the array ``of``, each another one."""
    given = arrays.get(key)
    if given is not None and given.ndim != 1:
        raise DataError(f"{path}: {key!r} is of shape {given.shape}: give a list of {width} names")
    found = default if given is None else [str(name) for name in given]
    if len(found) != width:
        raise DataError(f"{path}: {key!r} has {len(found)} names but {of!r} has {width} columns: give as many")
    for name in found:
        if found.count(name) > 1:
            raise DataError(f"{path}: {key!r} has {name!r} twice: give each column its own name")
    return found


def _sized(path: Path, arrays: dict[str, np.ndarray], key: str, number: int, most: int = 1) -> np.ndarray:
    """Return an array that has one entry, or (where ``most`` is 2) one row, for each series."""
    if key not in arrays:
        raise DataError(f"{path} has no array {key!r}, only {', '.join(arrays)}: add it")
    if arrays[key].shape[:1] != (number,) or arrays[key].ndim > most:
        raise DataError(
            f"{path}: {key!r} is of shape {arrays[key].shape} but there are {number} series: give one for each"
        )
    return arrays[key]


def _categories(path: Path, name: str, numbers: Values, arrays: dict[str, np.ndarray]) -> Values:
    texts = arrays.get(f"categories_{name}")
    values = np.empty(len(numbers), dtype=object)
    if texts is not None and texts.ndim != 1:
        raise DataError(f"{path}: 'categories_{name}' is of shape {texts.shape}: give a list of texts")
    if texts is None:
        values[:] = [None if np.isnan(number) else f"{number:.12g}" for number in numbers]
        return values
    whole = numbers[~np.isnan(numbers)]
    if ((whole < 0) | (whole >= len(texts)) | (whole % 1 != 0)).any():
        raise DataError(f"{path}: the column {name!r} has numbers that 'categories_{name}' has no text for")
    values[:] = [None if np.isnan(number) else str(texts[int(number)]) for number in numbers]
    return values


def _attributes(path: Path, arrays: dict[str, np.ndarray], number: int, roles: ColumnRoles) -> dict[str, Values]:
    if "attributes" not in arrays:
        if roles.attributes:
            raise DataError(f"{path} has no array 'attributes' for {', '.join(roles.attributes)}: add it")
        return {}
    cells = _sized(path, arrays, "attributes", number, most=2)
    if cells.dtype.kind not in "fiub" or np.isinf(cells).any():
        raise DataError(f"{path}: 'attributes' must be finite numbers but is {cells.dtype}: correct it")
    cells = cells.reshape(number, -1)
    width = cells.shape[1]
    names = _names(path, arrays, "attribute_names", "attributes", [f"a{place + 1}" for place in range(width)], width)
    found: dict[str, Values] = {}
    for place, name in enumerate(names):
        column = cells[:, place].astype(np.float64)
        found[name] = _categories(path, name, column, arrays) if name in roles.categorical else column
    return {name: _take(path, name, found) for name in roles.attributes or found}


def _labels(path: Path, arrays: dict[str, np.ndarray], number: int) -> list[str]:
    return [_plain(label) for label in _sized(path, arrays, "labels", number)]


def _times(
    path: Path, arrays: dict[str, np.ndarray], inside: np.ndarray, roles: ColumnRoles
) -> tuple[list[str] | None, str | None]:
    if "times" not in arrays:
        return None, None
    times = arrays["times"].reshape(-1, inside.shape[1]) if arrays["times"].size == inside.size else arrays["times"]
    if times.shape != inside.shape:
        raise DataError(
            f"{path}: 'times' is of shape {times.shape} but the series are {inside.shape}: give one for each"
        )
    texts = [str(_plain(time)) for time in times[inside]]
    try:
        return texts, roles.time_format or find_format(texts[0])
    except CodecError as error:
        raise DataError(f"{path}: {error}") from None


def _take(path: Path, name: str, columns: dict[str, Values]) -> Values:
    if name not in columns:
        raise DataError(f"{path} has no column {name!r}: {name_the_closest(name, columns)}")
    return columns[name]


def _plain(value: Any) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
