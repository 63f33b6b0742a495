"""Reading a csv file, cell by cell: whatever cannot be read is named by line and column."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from hybridgen.closest import name_the_closest
from hybridgen.codecs.columns import Values
from hybridgen.data.errors import DataError

#: How files write that a cell has no value, in any case.
NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_BLOCK = 20_000  # rows held as text together


def read_csv(
    path: Path,
    *,
    delimiter: str = ",",
    header: bool | None = None,
    names: Sequence[str] | None = None,
    wanted: Collection[str] | None = None,
    required: Collection[str] = (),
    text: Collection[str] = (),
    missing_values: Sequence[float | str] = (),
) -> dict[str, Values]:
    """Read the columns of a csv file in UTF-8.

    Args:
        path: The file. Lines with nothing in them are left out.
        delimiter: Between cells, one character.
        header: Whether the first line has the columns' names. Default: it has, unless all of its cells are numbers.
        names: Of the columns of a file without header. Default: x1, x2 ...
        wanted: Names of the columns to read. Default: all.
        required: Names of columns that must be there.
        text: Names of the columns whose cells are text.
        missing_values: What else means that a cell has no value, beside :data:`NOTHING`.

    Returns:
        The columns in the order of the file: float64 with NaN where missing; object with str and None where missing.

    Raises:
        DataError: The file cannot be read, or a cell is not what it should be.
    """
    if len(delimiter) != 1:
        raise DataError(f"delimiter={delimiter!r} must be one character, such as ';' (a tab is '\\t')")
    lines = _lines(path, delimiter)
    number, first = next(lines, (0, []))
    if not first:
        raise DataError(f"the file {path} is empty: give a csv file with a table in it")
    if header is None:
        header = not all(_is_number_or_nothing(cell) for cell in first)
    found = [cell.strip() for cell in first] if header else list(names or (f"x{n + 1}" for n in range(len(first))))
    _check_header(path, found, len(first), delimiter)
    for name in required:
        if name not in found:
            raise DataError(f"{path} has no column {name!r}: {name_the_closest(name, found)}")
    places = [place for place, name in enumerate(found) if wanted is None or name in wanted]
    numbers = {value for value in missing_values if not isinstance(value, str)}
    words = {value.strip().casefold() for value in missing_values if isinstance(value, str)} | NOTHING
    blocks: dict[int, list[Values]] = {place: [] for place in places}
    rows: list[tuple[int, list[str]]] = [] if header else [(number, first)]

    def convert() -> None:
        for place in places:
            cells = [row[place] for _, row in rows]
            if found[place] in text:
                blocks[place].append(_read_text(cells, words))
            else:
                blocks[place].append(
                    _read_numbers(cells, words, numbers, path, [line for line, _ in rows], found[place])
                )

    for number, row in lines:
        if len(row) != len(found):
            raise DataError(
                f"{path}, line {number}: it has {len(row)} cells but the table has {len(found)} columns: correct the "
                "line, or put text that contains the delimiter in quotes"
            )
        rows.append((number, row))
        if len(rows) == _BLOCK:
            convert()
            rows = []
    convert()
    columns = {found[place]: np.concatenate(blocks[place]) for place in places}
    if columns and not len(next(iter(columns.values()))):
        raise DataError(f"the file {path} has a header but no rows: give a csv file with a table in it")
    return columns


def _lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the (last) line and the cells of each row that has any."""
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, delimiter=delimiter, strict=True)
            for row in reader:
                number = reader.line_num
                if row and not (len(row) == 1 and not row[0].strip() and number > 1):
                    yield number, row
    except UnicodeDecodeError:
        raise DataError(_describe_bytes(path, delimiter)) from None
    except csv.Error as error:
        raise DataError(f"{path}, line {number + 1}: this is not a row of a csv file ({error}): correct it") from None
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"there is no file {path}: check the path") from None
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check that you may read it") from None


def _describe_bytes(path: Path, delimiter: str) -> str:
    content = path.read_bytes()
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line_start = content.rfind(b"\n", 0, error.start) + 1
        line = content.count(b"\n", 0, error.start) + 1
        cell = content.count(delimiter.encode(), line_start, error.start) + 1
        return (
            f"{path}, line {line}, cell {cell}: byte 0x{content[error.start]:02X} is not UTF-8 text: save the file as "
            "UTF-8"
        )
    return f"{path} changed while it was read: read it again"


def _check_header(path: Path, found: list[str], width: int, delimiter: str) -> None:
    if len(found) != width:
        raise DataError(f"{path}: the file has {width} columns but {len(found)} names were given: give as many")
    if width == 1 and (others := [mark for mark in ";\t|," if mark != delimiter and mark in found[0]]):
        raise DataError(
            f"{path}, line 1: the cells seem to be divided by {others[0]!r}: set delimiter to {others[0]!r}"
        )
    for place, name in enumerate(found):
        if not name:
            raise DataError(f"{path}, line 1: cell {place + 1} of the header is empty: give the column a name")
        if name in found[:place]:
            raise DataError(f"{path}, line 1: the header has {name!r} twice: give each column its own name")


def _read_text(cells: list[str], words: Collection[str]) -> Values:
    stripped = [cell.strip() for cell in cells]
    values = np.empty(len(cells), dtype=object)
    values[:] = [None if cell.casefold() in words else cell for cell in stripped]
    return values


def _read_numbers(
    cells: list[str], words: Collection[str], missing: Collection[float], path: Path, lines: list[int], column: str
) -> Values:
    values = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            value = _number(cell)
        except ValueError:
            value = math.nan
            if cell.strip().casefold() not in words:
                raise DataError(
                    f"{path}, line {lines[row]}, column {column!r}: {cell!r} is not a number: correct it, name it in "
                    "missing_values, name the column in categorical_columns, or choose other columns with columns"
                ) from None
        if value in missing:
            value = math.nan
        elif math.isinf(value):
            raise DataError(
                f"{path}, line {lines[row]}, column {column!r}: {cell!r} is not finite: correct it, or name it in "
                "missing_values"
            )
        values[row] = value
    return values


def _number(cell: str) -> float:
    """Return a cell as a number; 1_000 is one in Python's own spelling alone, and here more likely a slip."""
    if "_" in cell:
        raise ValueError(cell)
    return float(cell)


def _is_number_or_nothing(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return cell.strip().casefold() in NOTHING
    return True
