"""What `hybridgen predict` leaves behind: a JSON object for each row of what a model predicts."""

import contextlib
import json
import sys
from pathlib import Path
from typing import IO, Any

import pytorch_lightning as pl


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
            first = self._partial(0)
            with first.open("ab") as whole:
                for rank in range(1, trainer.world_size):
                    whole.write(self._partial(rank).read_bytes())
                    self._partial(rank).unlink()
            first.replace(self.path)
            more = f" by each of {trainer.world_size} processes" if trainer.world_size > 1 else ""
            print(f"{self._rows} predictions{more} written to {self.path}", file=sys.stderr)

    def _partial(self, rank: int) -> Path:
        return self.path.with_name(f"{self.path.name}.partial{rank}")
