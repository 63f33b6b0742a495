"""Time series for training and evaluation under Lightning: found, divided in time, scaled and batched."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np

from hybridgen import codecs
from hybridgen.codecs import Series, SeriesCodec
from hybridgen.codecs.columns import SCALINGS, encode_columns, sort_categories
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.timestamps import TimeRule, fit_times
from hybridgen.data.errors import DataError, check_choice, check_count, check_fraction
from hybridgen.data.sequence_data import SequenceDataModule
from hybridgen.data.series_batches import Sequences
from hybridgen.data.series_sources import KNOWN_SERIES, ColumnRoles, locate_series, read_series
from hybridgen.data.series_table import MISSING, SeriesTable, cut_windows, divide_rows, divide_series
from hybridgen.data.synthetic_series import SYNTHETIC, synthetic_table

_SPLITS = ("blocks", "series", "overlapping")
_PARTS = ("train", "valid", "test")


class SeriesData(SequenceDataModule):
    """Time series from anywhere, as batches for a sequence GAN or a variational RNN.

    The codec (scales, categories, names, times) is built on the training part. Batches are
    :class:`hybridgen.data.SeriesBatch`. A column that is constant in training is not learnt but written back on
    output. Cells that are empty, NaN, NA, N/A, null, none or ? are missing. With a time column, rows are put in its
    order.

    Args:
        source: ``sines`` or ``ar_gaussian`` (drawn here as published with TimeGAN; need no file), ``sines_paper`` (as
            that paper's text has them), ``stocks``, ``energy``, ``air_quality`` (after ``hybridgen data NAME``), or a
            csv, tsv, npz or parquet file.
        columns: Names of the columns to generate. Default: all that have no other role.
        categorical_columns: Columns (or attributes or conditions) whose cells are categories, text or numbers.
        condition_columns: Columns that are given to the model at each step and not generated.
        attribute_columns: Columns with one value for a whole series.
        label_column: Column with the class of a series.
        id_column: Column that tells series apart. Default: the file is one series.
        time_column: Column with the time of each row: a number or a date (20240131 is one if all are of that form).
        time_format: Of dates that have not the year first, such as ``%d.%m.%Y %H:%M``.
        delimiter: Between the cells of a csv file.
        header: Whether the first line of a csv file has names. Default: unless all of its cells are numbers.
        missing: What to do with missing cells. ``mask``: say where they are, so that they are generated as missing.
            ``drop``: leave out sequences with any. ``interpolate``: a straight line between neighbours. ``fill``:
            repeat the value before.
        missing_values: What else means that a cell has no value, such as -200.
        reverse: Read the rows from the last to the first, as TimeGAN's code does; turned back on output.
        window: Rows of a sequence. Default: 24 for the three public sets, otherwise whole series, of any length.
        stride: Rows from the start of a window to the start of the next.
        split: ``blocks``: each series is cut in time into train, valid and test, and windows lie within them.
            ``series``: each series goes to one part. ``overlapping``: every window is in train, valid and test at
            once, as in TimeGAN's published figures; scores then say nothing about new data. Default: ``blocks`` with a
            window, otherwise ``series``.
        valid_fraction: Part of the rows, or series, that is for validation, 0 to 1.
        test_fraction: Part of the rows, or series, that is for testing, 0 to 1.
        scaling: ``min_max`` (to 0 to 1), ``standard`` (mean 0, deviation 1), ``none``, or one of these for each column
            by name. Default: ``min_max``; ``none`` for sines.
        codec: A saved codec to use instead of building one.
        batch_size: Sequences of each process.
        evaluation_batch_size: Likewise in validation and testing.
        num_series: How many series are drawn of a source that needs no file.
        length: Rows of each of them.
        num_features: Columns of each of them.
        phi: How strongly the steps of ``ar_gaussian`` hang together, 0 to 1.
        sigma: How strongly its columns do, to 1.
        data_seed: Of the series that are drawn.
        seed: Of the order of batches and of dealing series to parts.

    Raises:
        DataError: An option cannot be, or there is no such file. Whether it can be read shows when it is first used.
    """

    def __init__(
        self,
        *,
        source: str = "sines",
        columns: list[str] | None = None,
        categorical_columns: list[str] | None = None,
        condition_columns: list[str] | None = None,
        attribute_columns: list[str] | None = None,
        label_column: str | None = None,
        id_column: str | None = None,
        time_column: str | None = None,
        time_format: str | None = None,
        delimiter: str = ",",
        header: bool | None = None,
        missing: Literal["mask", "drop", "interpolate", "fill"] = "mask",
        missing_values: list[float | str] | None = None,
        reverse: bool = False,
        window: int | None = None,
        stride: int = 1,
        split: Literal["blocks", "series", "overlapping"] | None = None,
        valid_fraction: float = 0.1,
        test_fraction: float = 0.1,
        scaling: str | dict[str, str] | None = None,
        codec: dict[str, Any] | None = None,
        batch_size: int = 128,
        evaluation_batch_size: int = 512,
        num_series: int = 10_000,
        length: int = 24,
        num_features: int = 5,
        phi: float = 0.8,
        sigma: float = 0.8,
        data_seed: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice(missing, "missing", MISSING)
        if split is not None:
            check_choice(split, "split", _SPLITS)
        check_fraction(valid_fraction, "valid_fraction")
        check_fraction(test_fraction, "test_fraction")
        if valid_fraction + test_fraction >= 1:
            raise DataError(
                f"valid_fraction={valid_fraction} and test_fraction={test_fraction} leave nothing to train on: lower "
                "them to less than 1 together"
            )
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("evaluation_batch_size", evaluation_batch_size, 1),
            ("stride", stride, 1),
            ("seed", seed, 0),
        ):
            check_count(value, name, least)
        for choice in scaling.values() if isinstance(scaling, Mapping) else [scaling or "none"]:
            check_choice(choice, "scaling", SCALINGS)
        if source not in SYNTHETIC:
            locate_series(source)
        if window is None and source in KNOWN_SERIES:
            window = KNOWN_SERIES[source].window
        self.source = source
        self.roles = ColumnRoles(
            columns=None if columns is None else tuple(columns),
            categorical=tuple(categorical_columns or ()),
            conditions=tuple(condition_columns or ()),
            attributes=tuple(attribute_columns or ()),
            label=label_column,
            id=id_column,
            time=time_column,
            time_format=time_format,
        )
        self.delimiter = delimiter
        self.header = header
        self.missing = missing
        self.missing_values = list(missing_values or ())
        self.reverse = reverse
        self.window = None if window is None else check_count(window, "window", 2)
        self.stride = stride
        self.split = split or ("series" if window is None else "blocks")
        self.valid_fraction = valid_fraction
        self.test_fraction = test_fraction
        self.scaling = scaling or ("none" if source.startswith("sines") else "min_max")
        self.batch_size = batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.seed = seed
        self._drawn = {
            "number": num_series,
            "length": length,
            "num_features": num_features,
            "seed": data_seed,
            "phi": phi,
            "sigma": sigma,
        }
        self._codec_choice = codec
        self._sequences: dict[str, tuple[Sequences, np.ndarray]] = {}

    @cached_property
    def table(self) -> SeriesTable:
        """The data in real units, read when first asked for; missing cells are filled if so chosen.

        Raises:
            DataError: It cannot be read.
        """
        if self.source in SYNTHETIC:
            table = synthetic_table(self.source, **self._drawn)
        else:
            table = read_series(
                self.source,
                self.roles,
                delimiter=self.delimiter,
                header=self.header,
                missing_values=self.missing_values,
            )
        if self.missing in ("interpolate", "fill"):
            table = table.filled(self.missing)
        return table.reversed() if self.reverse else table

    @cached_property
    def codec(self) -> SeriesCodec:
        """What turns rows into features and back, built on the training part when first asked for.

        Raises:
            DataError: The data cannot be read, or no codec can be built on it.
        """
        if self._codec_choice is not None:
            codec = codecs.from_config(self._codec_choice)
            if not isinstance(codec, SeriesCodec):
                raise DataError(f"codec is a {codec.name!r} codec, not one of series: give one that SeriesData made")
            return codec
        table, spans = self.table, self._spans["train"]
        rows = np.concatenate([np.arange(start, stop) for _, start, stop in spans])
        owners = sorted({series for series, _, _ in spans})
        try:
            return SeriesCodec.fit(
                {name: cells[rows] for name, cells in table.columns.items()},
                conditions={name: cells[rows] for name, cells in table.conditions.items()},
                attributes={name: cells[owners] for name, cells in table.attributes.items()},
                labels=sort_categories(set(table.labels or ())),
                categorical=self.roles.categorical,
                scaling=self.scaling,
                mark_missing=self.missing == "mask",
                label_name=self.roles.label or ("label" if table.labels else None),
                id_name=self.roles.id,
                time=self._fit_times(table, spans),
                reverse=self.reverse,
            )
        except CodecError as error:
            raise DataError(f"{table.where}: {error}") from None

    @property
    def num_features(self) -> int:
        """F: the features of a step."""
        return self.codec.num_features

    @property
    def counts(self) -> dict[str, int]:
        """How many sequences each part has."""
        return {part: len(self.sequences(part)) for part in self._spans}

    def sequences(self, part: str) -> Sequences:
        """Return ``train``, ``valid`` or ``test`` as features.

        Raises:
            DataError: There is no such part, or no sequence of that window in it.
        """
        return self._cut(part)[0]

    def series(self, part: str, indices: np.ndarray | None = None) -> list[Series]:
        """Return sequences of a part, by default all, in real units and with their times, as they are in the file.

        Args:
            part: ``train``, ``valid`` or ``test``.
            indices: `(B,)`, the numbers that ``SeriesBatch.indices`` holds.
        """
        sequences, owners = self._cut(part)
        found = []
        for index in range(len(sequences)) if indices is None else np.asarray(indices).tolist():
            start, owner = int(sequences.starts[index]), int(owners[index])
            rows = np.arange(start, start + int(sequences.lengths[index]))
            if self.reverse:
                rows = rows[::-1]
            found.append(
                Series(
                    columns={name: cells[rows] for name, cells in self.table.columns.items()},
                    conditions={name: cells[rows] for name, cells in self.table.conditions.items()},
                    attributes={name: cells[owner] for name, cells in self.table.attributes.items()},
                    label=None if self.table.labels is None else self.table.labels[owner],
                    times=None if self.table.times is None else [self.table.times[row] for row in rows],
                    name=self.table.names[owner],
                )
            )
        return found

    @property
    def parts(self) -> Iterable[str]:
        return self._spans

    @cached_property
    def _spans(self) -> dict[str, list[tuple[int, int, int]]]:
        table = self.table
        # Whole and by a saved codec, one series is a sequence for a model that there is; for training it is too few.
        is_given = self._codec_choice is not None and not (self.valid_fraction or self.test_fraction)
        if self.window is None and table.num_series == 1 and not is_given:
            raise DataError(
                f"{table.where} is one series of {table.num_rows} rows: set window to cut it, or id_column to tell its "
                "series apart"
            )
        if self.split == "overlapping":
            every = divide_rows(table, 0.0, 0.0)["train"]
            return dict.fromkeys(_PARTS, every)
        if self.split == "series":
            return divide_series(table, self.valid_fraction, self.test_fraction, self.seed)
        return divide_rows(table, self.valid_fraction, self.test_fraction)

    @cached_property
    def _features(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None, np.ndarray]:
        """Values, mask, conditions of all rows; attributes of all series; which rows are whole."""
        table, codec = self.table, self.codec
        try:
            values, mask = encode_columns(codec.columns, table.columns)
            given = encode_columns(codec.conditions, table.conditions) if codec.conditions else None
            attributes = encode_columns(codec.attributes, table.attributes)[0] if codec.attributes else None
        except CodecError as error:
            raise DataError(f"{table.where}: {error}") from None
        whole = np.ones(len(values), dtype=bool)
        for cells in (*table.columns.values(), *table.conditions.values()):
            whole &= codecs.columns.observed_cells(cells)
        return values, None if mask.all() else mask, None if given is None else given[0], attributes, whole

    def _cut(self, part: str) -> tuple[Sequences, np.ndarray]:
        """Return the sequences of a part, and the series that each is of."""
        if part not in self._spans:
            raise DataError(f"there is no {part} part, only {' and '.join(self._spans)}: {_remedy(part)}")
        if part not in self._sequences:
            values, mask, conditions, attributes, whole = self._features
            starts, lengths, owners = self._windows(part)
            if self.missing == "drop":
                broken = np.concatenate([[0], np.cumsum(~whole)])
                kept = broken[starts + lengths] == broken[starts]
                if not kept.any():
                    raise DataError(
                        f"{self.table.where}: every sequence of the {part} part has a missing cell: set missing to "
                        "'mask', 'interpolate' or 'fill', or choose other columns"
                    )
                starts, lengths, owners = starts[kept], lengths[kept], owners[kept]
            labels = self.table.labels
            numbers = None if labels is None else np.array([self.codec.label_index(label) for label in labels])
            self._sequences[part] = (
                Sequences(
                    values=values,
                    starts=starts,
                    lengths=lengths,
                    mask=None if self.missing == "drop" else mask,
                    labels=None if numbers is None else numbers[owners],
                    attributes=None if attributes is None else attributes[owners],
                    conditions=conditions,
                ),
                owners,
            )
        return self._sequences[part]

    def _windows(self, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        spans = self._spans[part]
        starts, lengths, owners = cut_windows(spans, self.window, self.stride)
        longest = max(stop - start for _, start, stop in spans)
        if not len(starts):
            raise DataError(
                f"{self.table.where}: window={self.window} is longer than the {part} part of any series (at most "
                f"{longest} rows): lower window, "
                + ("or give more rows" if self.split == "overlapping" else f"give more rows, or {_remedy(part)}")
            )
        short = sum(stop - start < (self.window or 0) for _, start, stop in spans)
        if short:
            warnings.warn(
                f"{self.table.where}: {short} of {len(spans)} series have fewer than window={self.window} rows in the "
                f"{part} part and are left out: lower window to use them",
                stacklevel=2,
            )
        return starts, lengths, owners

    def _fit_times(self, table: SeriesTable, spans: list[tuple[int, int, int]]) -> TimeRule | None:
        if table.times is None:
            return None
        times = [table.times[start:stop] for _, start, stop in spans]
        name = self.roles.time or "time"
        rule = fit_times(name, [part[::-1] for part in times] if self.reverse else times, table.time_format)
        if not rule.regular:
            step = f"{rule.step:.12g}{'' if rule.format is None else ' seconds'}"
            warnings.warn(
                f"{table.where}: the times in {name!r} are not evenly spaced, but those of generated series will be "
                f"{step} apart, the median: leave the times out to generate none",
                stacklevel=2,
            )
        return rule


def _remedy(part: str) -> str:
    """How a part gets more rows: training has what the others leave."""
    return "lower valid_fraction or test_fraction" if part == "train" else f"raise {part}_fraction"
