"""When checkpoints are saved: the best after validations, the last at every epoch's end and every few minutes."""

import time
from pathlib import Path
from typing import Any
from weakref import proxy

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_warn

from hybridgen.reliability import atomic, places
from hybridgen.reliability.checkpoint_io import save_or_warn
from hybridgen.reliability.termination import Signals, Terminated, Validation, agreed
from hybridgen.reliability.verify import CheckpointError

#: Training may spend a thirtieth of its time on saves that nobody asked for.
_SHARE = 30
#: Minutes between two saves within an epoch.
MINUTES = 10.0
#: Seconds of validation that are waited for when a signal comes: schedulers give 30 or more in all.
_PATIENCE = 5


class KeepBest(ModelCheckpoint):
    """Lightning's callback for the best checkpoint, which neither a full disk nor a moved run folder confuses."""

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn before an epoch is spent where nothing is logged under the name that somebody chose.

        No more than a warning: models leave out some of their values (slow ones, say) before training.
        """
        logged = _names(trainer)
        chosen = self.monitor != getattr(pl_module, "monitor", "val/loss")
        if chosen and str(self.monitor).startswith("val/") and logged and self.monitor not in logged:
            rank_zero_warn(
                f"--monitor is {self.monitor}, which the check before training did not log ({', '.join(logged)}): "
                "where the first validation does not either, training ends there"
            )

    def _save_topk_checkpoint(self, trainer: pl.Trainer, monitor_candidates: dict[str, Any]) -> None:
        validated = trainer.fit_loop.epoch_loop.val_loop._has_run
        if self.monitor is not None and self.monitor not in monitor_candidates and validated:
            # What has been trained is not lost by a name that was spelt wrong.
            last = Path(self.dirpath) / atomic.LAST
            failed = save_or_warn(trainer, last)
            kept = "" if failed else f", and go on from {last} by --resume"
            raise ValueError(
                f"--monitor is {self.monitor}, which nothing logs: give one of {', '.join(_names(trainer))}{kept}"
            )
        super()._save_topk_checkpoint(trainer, monitor_candidates)

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        self._last_global_step_saved = trainer.global_step
        if save_or_warn(trainer, Path(filepath), self.save_weights_only) is not None:
            return
        self._last_checkpoint_saved = filepath
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.after_save_checkpoint(proxy(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The files are where this run folder is, wherever it was."""
        here = Path(self.dirpath)

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else path

        super().load_state_dict(
            state_dict
            | {
                "dirpath": self.dirpath,
                "best_model_path": moved(state_dict["best_model_path"]),
                "kth_best_model_path": moved(state_dict["kth_best_model_path"]),
                "last_model_path": moved(state_dict["last_model_path"]),
                "best_k_models": {moved(path): score for path, score in state_dict["best_k_models"].items()},
            }
        )


class KeepLast(Checkpoint):
    """Keeps ``last.ckpt``: after every epoch, every few minutes or batches within one, and when a signal ends training.

    Where epochs are so short that saving took more than a thirtieth of the time, it is not after every one of them, but
    always after the last.

    A signal within a validation ends training at its next batch where validations take long: then there is a save
    before them, which training goes on from. Short ones come to their end first.

    A save that fails (a full disk) is told and training goes on; where none has been possible to the end, that is an
    error.

    Args:
        folder: for the checkpoints.
        minutes: between two saves within an epoch; 0 leaves them out.
        batches: likewise, counted over the whole training.
        epochs: whether the end of every epoch is saved.
        signals: who remembers SIGTERM and SIGINT; made anew by default.

    Raises:
        ValueError: if ``minutes`` or ``batches`` is negative.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        minutes: float = MINUTES,
        batches: int = 0,
        epochs: bool = True,
        signals: Signals | None = None,
    ) -> None:
        if not minutes >= 0:
            raise ValueError(f"save_every_minutes is {minutes}: give 0 or more")
        if batches < 0:
            raise ValueError(f"save_every_batches is {batches}: give 0 or more")
        self.folder = Path(folder)
        self.minutes, self.batches, self.epochs = minutes, batches, epochs
        self.signals = signals or Signals()
        self.failure: str | None = None
        self._due = False
        self._saved, self._took = time.monotonic(), 0.0
        self._validation = Validation()
        self._before_validation = False  # whether there is a save from just before the validation that runs

    @property
    def path(self) -> Path:
        """``last.ckpt``."""
        return self.folder / atomic.LAST

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved, self._due = time.monotonic(), False
        self.signals.install(trainer)
        if trainer.is_global_zero:
            atomic.remove_leftovers(self.folder)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any) -> None:
        timed = bool(self.minutes) and time.monotonic() - self._saved > 60 * self.minutes
        number, timed = divmod(agreed(trainer, 2 * self.signals.received + timed), 2)
        self._before_validation = False
        batch = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self._due = self._due or bool(timed) or (self.batches > 0 and batch % self.batches == 0)
        long = self._validation.seconds > _PATIENCE
        if not self._due and not number and not long:
            return
        place = places.find_place(trainer)
        if long and not number and place == places.VALIDATION_DUE:
            self._save_before_validation(trainer)
            return
        if not self._due and not number:
            return
        # What a validation finds is worth waiting for, but not for who is told to go.
        if place == places.BATCH or (number and place == places.VALIDATION_DUE):
            self._save(trainer, number)

    def _save_before_validation(self, trainer: pl.Trainer) -> None:
        if agreed(trainer, not self._affordable()):
            return
        due, saved = self._due, self._saved
        self._save(trainer, 0)
        self._due, self._saved = due, saved  # what the validation finds is saved as ever
        self._before_validation = self.failure is None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation.start(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any) -> None:
        """End a long validation when a signal has come.

        Raises:
            Terminated: if one has; what was saved before the validation holds.
        """
        if self._before_validation and (number := self._validation.told_to_stop(trainer, self.signals.received)):
            raise Terminated(number, self.path)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation.end(trainer)
        self._before_validation = False
        if self.epochs and not trainer.sanity_checking and agreed(trainer, self._affordable()):
            self._due = True  # after the next batch: the loggers do not have the validation's values yet

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        number, due = divmod(agreed(trainer, 2 * self.signals.received + self._affordable()), 2)
        if self._due or number or (self.epochs and (due or _is_last_epoch(trainer))):
            self._save(trainer, number)

    def _affordable(self) -> bool:
        return time.monotonic() - self._saved >= _SHARE * self._took

    def _save(self, trainer: pl.Trainer, number: int) -> None:
        begun = time.monotonic()
        self.failure = save_or_warn(trainer, self.path)
        self._due, self._saved = False, time.monotonic()
        self._took = self._saved - begun
        if self.failure is None:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, KeepBest):
                    callback.last_model_path = str(self.path)
        if number:
            if self.failure is not None:
                raise CheckpointError(self.failure)
            raise Terminated(number, self.path)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Try once more, if the last time failed.

        Raises:
            CheckpointError: if it fails again.
        """
        if self.failure is not None:
            self.failure = save_or_warn(trainer, self.path)
            if self.failure is not None:
                raise CheckpointError(self.failure)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.signals.restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.signals.restore()


def _names(trainer: pl.Trainer) -> list[str]:
    """What is logged, as far as it is known."""
    return sorted(trainer.callback_metrics)


def _is_last_epoch(trainer: pl.Trainer) -> bool:
    """Whether training ends with this epoch, which is over."""
    epochs, steps = trainer.fit_loop.max_epochs, trainer.max_steps
    done = epochs not in (None, -1) and trainer.fit_loop.epoch_progress.current.processed >= epochs
    return done or (steps not in (None, -1) and trainer.global_step >= steps) or trainer.should_stop
