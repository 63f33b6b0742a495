"""What `hybridgen predict` leaves behind: a JSON object for each row of what a model predicts."""

import contextlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import pytorch_lightning as pl

from hybridgen.data.files import is_special, whole_file


class WritePredictions(pl.Callback):
    """Writes what ``predict_step`` returns, a list of mappings of plain values, as JSON lines.

    The file appears when it is complete; several processes write the rows of one after those of the other.

    Args:
        path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows = 0
        self._file: IO[str] | None = None

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._rows = 0
        self._file = self._partial(trainer.global_rank).open("w", encoding="utf-8")

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for row in outputs:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._rows += len(outputs)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave nothing half-written."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            self._file.close()
        self._partial(trainer.global_rank).unlink(missing_ok=True)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._file.close()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            parts = [self._partial(rank) for rank in range(trainer.world_size)]
            with whole_file(self.path) as (whole, _):
                for part in parts:
                    with part.open("rb") as rows:
                        shutil.copyfileobj(rows, whole)
            for part in parts:
                part.unlink()
            more = f" by each of {trainer.world_size} processes" if trainer.world_size > 1 else ""
            print(f"{self._rows} predictions{more} written to {self.path}", file=sys.stderr)

    def _partial(self, rank: int) -> Path:
        folder = Path(tempfile.gettempdir()) if is_special(self.path) else self.path.parent
        return folder / f".{self.path.name}.{rank}.partial"
