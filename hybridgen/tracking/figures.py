"""What `hybridgen test` leaves in the run folder: its figures, for the report."""

import contextlib
import json
import time
from pathlib import Path

import pytorch_lightning as pl

from hybridgen.data.files import write_text

#: The file's name.
FIGURES = "test.json"


class WriteFigures(pl.Callback):
    """Writes the figures of a test as ``test.json`` into the run folder that the checkpoint lies in.

    Figures of another test of the run are replaced; a checkpoint that lies in no run folder leaves none.

    Args:
        checkpoint: what is tested, ``RUN/checkpoints/NAME.ckpt``.
    """

    def __init__(self, checkpoint: str | Path) -> None:
        self.checkpoint = Path(checkpoint).absolute()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        folder = self.checkpoint.parent.parent
        if not trainer.is_global_zero or trainer.fast_dev_run or not (folder / "config.yaml").is_file():
            return
        # Loaders of several protocols have a suffix that says no more than their names.
        metrics = {
            name.partition("/dataloader_idx_")[0]: float(value)
            for name, value in sorted(trainer.callback_metrics.items())
            if name.startswith("test/")
        }
        batches = [limit for limit in (trainer.limit_test_batches,) if limit != 1.0]
        found = {
            "checkpoint": self.checkpoint.name,
            "when": time.time(),
            "limit_test_batches": batches[0] if batches else None,
            "metrics": metrics,
        }
        # In a run folder that only others may write, the figures are in the terminal alone.
        with contextlib.suppress(OSError):
            write_text(folder / FIGURES, json.dumps(found, indent=1) + "\n")
