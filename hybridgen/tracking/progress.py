"""The progress bar of `hybridgen`: how fast training is, and when it will be over."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

#: Seconds between two lines where the output is no terminal.
LINE_EVERY = 30.0


class Progress(TQDMProgressBar):
    """Lightning's bar with tokens a second and the estimated end of the whole training.

    Where the output is no terminal (a file, a scheduler's log) there is no bar but a line now and then, and one at the
    end of every epoch. Tokens are counted by ``num_targets`` of a batch, where it has that. The end is estimated from
    the time since this training began (or went on), validations and samples included, and from the progress by
    ``max_epochs``, ``max_steps`` or ``max_time``, whichever is furthest.

    Args:
        line_every: seconds between two lines where the output is no terminal.
        terminal: whether the output is a terminal; asked of it when omitted.
    """

    def __init__(self, line_every: float = LINE_EVERY, terminal: bool | None = None) -> None:
        self._terminal = sys.stdout.isatty() if terminal is None else terminal
        # Redrawn at most some times a second by tqdm; every batch is offered.
        super().__init__(refresh_rate=1 if self._terminal else 0)
        self.line_every = line_every
        self._begun = self._written = self._drawn = time.monotonic()
        self._tokens = self._batches = 0
        self._training = 0.0  # seconds that batches took
        self._batch_begun = 0.0
        self._progress_at_start = 0.0

    # Lightning disables the bar of all ranks but the first, through this, or for a moment.
    @property
    def _writes(self) -> bool:
        return self._enabled and not self._terminal

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._begun = self._written = time.monotonic()
        self._tokens = self._batches = 0
        self._training = 0.0
        self._progress_at_start = _progress(trainer) or 0.0

    def on_train_batch_start(self, *arguments: Any) -> None:
        super().on_train_batch_start(*arguments)
        self._batch_begun = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        self._training += now - self._batch_begun
        self._batches += 1
        self._tokens += getattr(batch, "num_targets", 0) * trainer.world_size
        # Drawing and reading the logged values takes longer than a small model's step.
        if self._terminal and (now - self._drawn > 0.1 or batch_idx + 1 == self.total_train_batches):
            self._drawn = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        elif self._writes and now - self._written > self.line_every:
            self._line(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self._writes:
            self._line(trainer, pl_module)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What Lightning shows but the version, and speed and estimated end."""
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        return shown | self.speed(trainer)

    def speed(self, trainer: pl.Trainer) -> dict[str, str]:
        """``tokens/s`` (or ``batches/s``) of training, and the time until its ``end``, as far as they are known."""
        shown = {}
        if self._training > 0:
            count, unit = (self._tokens, "tokens") if self._tokens else (self._batches, "batches")
            rate = count / self._training
            shown[f"{unit}/s"] = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}"
        done = _progress(trainer)
        if done is not None and done > self._progress_at_start:
            elapsed = time.monotonic() - self._begun
            left = elapsed * (1 - done) / (done - self._progress_at_start)
            shown["end in"] = _clock(left)
            shown["at"] = time.strftime("%H:%M" if left < 86400 else "%d %b %H:%M", time.localtime(time.time() + left))
        return shown

    def _line(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._written = time.monotonic()
        batch = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        parts = [f"epoch {trainer.current_epoch}", f"batch {batch}/{self.total_train_batches}"]
        for name, value in self.get_metrics(trainer, pl_module).items():
            parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
        print(", ".join(parts), flush=True)


def _progress(trainer: pl.Trainer) -> float | None:
    """How much of the training is done, 0 to 1, or None where it has no end."""
    done = []
    if trainer.max_steps is not None and trainer.max_steps > 0:
        done.append(trainer.global_step / trainer.max_steps)
    per_epoch = trainer.num_training_batches
    if trainer.max_epochs is not None and trainer.max_epochs > 0 and 0 < per_epoch < float("inf"):
        batches = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        done.append(batches / (per_epoch * trainer.max_epochs))
    for callback in trainer.callbacks:
        if isinstance(callback, pl.callbacks.Timer) and callback._duration is not None:
            done.append(callback.time_elapsed() / callback._duration)
    return min(1.0, max(done)) if done else None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
