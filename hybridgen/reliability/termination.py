"""SIGTERM and Ctrl-C: training ends after the batch, with a checkpoint and the exit code that schedulers expect."""

import math
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds within which two signals are one: a process may get it from the terminal, from the first process and from a
# launcher, and schedulers send SIGTERM to a process and to its group.
_SAME = 2.0


class Terminated(SystemExit):
    """Training was ended by a signal; leaves with 128 and its number.

    Args:
        number: of the signal.
        saved: the checkpoint that was written, if one was.
    """

    def __init__(self, number: int, saved: Any = None) -> None:
        super().__init__(128 + number)
        self.number, self.saved = number, saved

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        if self.saved is None:
            return f"stopped by {name}: nothing was saved"
        return f"stopped by {name}: saved {self.saved}, go on from it with --resume auto"


class Signals:
    """Remembers the first signal, for training to end at the next batch; a later one ends the process at once.

    Those that come within two seconds of the first are the same one, passed on by several.

    Attributes:
        received: number of the first signal, 0 before.
    """

    def __init__(self) -> None:
        self.received = 0
        self._when = 0.0
        self._before: dict[int, Any] = {}
        self._trainer: pl.Trainer | None = None

    def install(self, trainer: pl.Trainer) -> None:
        """Take the place of Lightning's handlers, which end a training without saying so to who started it."""
        self._trainer = trainer
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            before = signal.signal(number, self._handle)
            self._before.setdefault(number, before)

    def restore(self) -> None:
        """Put the handlers from before back, where nobody else has done so since."""
        for number, handler in self._before.items():
            if handler is not None and signal.getsignal(number) == self._handle:
                signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = self._trainer is None or self._trainer.global_rank == 0
        if self.received:
            if time.monotonic() - self._when < _SAME:
                return
            self._tell_others(signal.SIGKILL)
            os._exit(128 + number)
        self.received, self._when = number, time.monotonic()
        if first:
            self._tell_others(number)

    def _tell_others(self, number: int) -> None:
        """Pass a signal on to the processes that Lightning started beside this one."""
        launcher = None if self._trainer is None else self._trainer.strategy.launcher
        for process in getattr(launcher, "procs", None) or []:
            try:
                os.kill(process.pid, number)
            except (OSError, TypeError):
                continue


def agreed(trainer: pl.Trainer, value: int) -> int:
    """The largest of the processes' values: what one of them has seen, all of them act on."""
    distributed = torch.distributed
    if trainer.world_size == 1 or not (distributed.is_available() and distributed.is_initialized()):
        return value
    tensor = torch.tensor(value, dtype=torch.int64, device=trainer.strategy.root_device)
    distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX)
    return int(tensor)


class Validation:
    """The validation that runs within a training: how long it takes, and whether a signal came, agreed by all.

    Attributes:
        seconds: that the last one took, rounded up, the longest of all processes; 0 before the first.
    """

    def __init__(self) -> None:
        self.seconds = 0
        self._begun = 0.0
        self._left = 0

    def start(self, trainer: pl.Trainer) -> None:
        """To be called in ``on_validation_start``."""
        self._begun = time.monotonic()
        batches = sum(trainer.num_val_batches)
        if trainer.world_size > 1:
            # One that has more batches than another would wait for its answer for ever.
            batches = -agreed(trainer, -int(batches) if math.isfinite(batches) else 0)
        self._left = batches

    def told_to_stop(self, trainer: pl.Trainer, received: int) -> int:
        """To be called in ``on_validation_batch_end``: the number of the signal that a process has got, or 0."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or self._left <= 0:
            return 0
        self._left -= 1
        return agreed(trainer, received)

    def end(self, trainer: pl.Trainer) -> None:
        """To be called in ``on_validation_end``."""
        if not trainer.sanity_checking:
            self.seconds = agreed(trainer, math.ceil(time.monotonic() - self._begun))


class StopOnSignal(pl.Callback):
    """Ends a training that saves no checkpoints when a signal comes.

    Args:
        signals: who remembers them; made anew by default.
    """

    def __init__(self, signals: Signals | None = None) -> None:
        self.signals = signals or Signals()
        self._validation = Validation()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.signals.install(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any) -> None:
        """End the training when a signal has come to any process.

        Raises:
            Terminated: if one has.
        """
        if number := agreed(trainer, self.signals.received):
            raise Terminated(number)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation.start(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any) -> None:
        """End a long validation when a signal has come to any process.

        Raises:
            Terminated: if one has.
        """
        if number := self._validation.told_to_stop(trainer, self.signals.received):
            raise Terminated(number)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.signals.restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.signals.restore()
