"""``metrics.csv``: every logged number of a run, also of one that was interrupted and went on."""

import csv
import io
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.utilities import rank_zero_only

from hybridgen.data.files import write_text

_KEPT = ".metrics.csv.kept"


class MetricsTable(CSVLogger):
    """Lightning's logger, which goes on with the table of a run instead of deleting it.

    Args:
        rows_before: rows of smaller steps are kept, the others come again; None for a new table.
        options: of Lightning's logger.
    """

    def __init__(self, *, rows_before: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.rows_before = rows_before

    @property
    def experiment(self) -> ExperimentWriter:
        """The writer of the table, made when it is first asked for."""
        if self._experiment is not None or self.rows_before is None or rank_zero_only.rank != 0:
            return super().experiment
        folder = Path(self.log_dir)
        table, kept = folder / ExperimentWriter.NAME_METRICS_FILE, folder / _KEPT
        # Lightning deletes the table: meanwhile it is here, also for the next start, should this one be killed.
        if table.is_file() and not kept.is_file():
            os.replace(table, kept)
        writer = super().experiment
        if kept.is_file():
            header, rows = _read(kept, self.rows_before)
            text = io.StringIO(newline="")
            out = csv.DictWriter(text, fieldnames=header)
            out.writeheader()
            out.writerows(rows)
            write_text(table, text.getvalue())
            kept.unlink()
            writer.metrics_keys = header
        return writer


def _read(path: Path, before: int) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        # The last row of a process that was killed may be cut short.
        rows = [row for row in reader if None not in row.values() and _step(row) < before]
        return list(reader.fieldnames or ["step"]), rows


def _step(row: dict[str, str]) -> float:
    try:
        return int(row["step"])
    except (KeyError, ValueError):
        return float("inf")
