"""Where series come from: files, public sets, synthetic series; each becomes a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hybridgen.closest import name_the_closest
from hybridgen.data.errors import DataError, MissingDataError
from hybridgen.data.files import data_folders
from hybridgen.data.series_arrays import read_npz, read_parquet
from hybridgen.data.series_csv import read_csv
from hybridgen.data.series_table import SeriesTable, arrange
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
