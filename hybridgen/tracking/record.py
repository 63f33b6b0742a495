"""``run.json`` in a run folder: what a run is, what it runs on, and whether it is over."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from hybridgen.data.files import write_text
from hybridgen.run_record import RECORD, process_started, read_record
from hybridgen.tracking.wandb_logger import circumstances

#: Names of exceptions by which a signal ends training.
_STOPS = ("SIGTERMException", "Terminated")


class RunRecord(pl.Callback):
    """Keeps ``run.json``: the command line, versions, git revision, size of the model, and the state of the run.

    ``state`` is ``running`` until training ends, then ``finished``, ``interrupted`` or ``failed`` with the ``error``;
    a run whose process is gone while it says ``running`` has died
    (:func:`hybridgen.report.run_folder.run_state` finds out).
    ``seconds`` counts the time in training, over all the processes that went on with a run.

    Args:
        folder: the run folder.
        monitor: the logged value that the best checkpoint has least of.
    """

    def __init__(self, folder: Path, *, monitor: str) -> None:
        self.path = Path(folder) / RECORD
        self.values: dict[str, Any] = {"monitor": monitor}
        self._begun = time.monotonic()
        self._before = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or not trainer.is_global_zero:
            return
        earlier = read_record(self.path.parent)
        self._begun, self._before = time.monotonic(), float(earlier.get("seconds") or 0.0)
        self.values |= {
            "state": "running",
            "started": earlier.get("started") or time.time(),
            "resumed": int(earlier.get("resumed", -1)) + 1,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "process_started": process_started(os.getpid()),
            "step_metric": getattr(pl_module, "step_metric", None),
            "model": type(pl_module).__name__,
            "data": type(trainer.datamodule).__name__,
            "world_size": trainer.world_size,
            **circumstances(),
        }
        self._write(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.values["parameters"] = count_parameters(pl_module.parameters())
        self._write(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.values["state"] = "finished"
        self._write(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if "started" not in self.values:
            return  # The data could not be read: nothing began that could be told of.
        stopped = isinstance(exception, KeyboardInterrupt) or type(exception).__name__ in _STOPS
        self.values["state"] = "interrupted" if stopped else "failed"
        self.values["error"] = None if stopped else f"{type(exception).__name__}: {exception}"[:500]
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        self.values["seconds"] = round(self._before + time.monotonic() - self._begun, 1)
        self.values["updated"] = time.time()
        self.values["epochs"] = trainer.current_epoch
        self.values["steps"] = trainer.global_step
        # A full disk is told by what matters more, the checkpoint.
        with contextlib.suppress(OSError):
            write_text(self.path, json.dumps(self.values, indent=1, default=str) + "\n")


def count_parameters(parameters: Iterable[Any]) -> int:
    """Trainable numbers, each once."""
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
