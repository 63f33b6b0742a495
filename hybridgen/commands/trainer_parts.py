"""What a run of the trainer is made of beside the model: its callbacks, and in time its plugins.

THE place where callbacks that every training gets are added: a line in :func:`training_callbacks`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ProgressBar

from hybridgen.tracking.finite import SkipNonFinite
from hybridgen.tracking.processes import NoiseByRank
from hybridgen.tracking.progress import Progress
from hybridgen.tracking.record import RunRecord
from hybridgen.tracking.run_folder import checkpoints


def has(callbacks: Sequence[pl.Callback], kind: type) -> bool:
    """Whether the user's configuration has a callback of a kind already."""
    return any(isinstance(callback, kind) for callback in callbacks)


def common_callbacks(own: Sequence[pl.Callback], config: Any) -> list[pl.Callback]:
    """What every run has, of training and of evaluation, beside the callbacks of the configuration.

    Args:
        own: the callbacks of the configuration; one of them takes the place of ours of its kind.
        config: the command's options.
    """
    added: list[pl.Callback] = []
    if config.trainer.enable_progress_bar is not False and not has(own, ProgressBar):
        added.append(Progress())
    return added


def training_callbacks(
    own: Sequence[pl.Callback], config: Any, model: pl.LightningModule, folder: Path
) -> list[pl.Callback]:
    """What every training in a run folder has, beside :func:`common_callbacks`.

    Args:
        own: the callbacks of the configuration; one of them takes the place of ours of its kind.
        config: the options of ``hybridgen fit``.
        model: what is trained; its ``run_callbacks(folder)`` come last.
        folder: the run folder.
    """
    monitor = config.monitor or getattr(model, "monitor", "val/loss")
    added: list[pl.Callback] = [RunRecord(folder, monitor=monitor)]
    # A checkpoint callback of the configuration, or none at all, is the user's choice.
    if config.trainer.enable_checkpointing is not False and not has(own, Checkpoint):
        added.append(checkpoints(folder, monitor=monitor))
    added.append(NoiseByRank())
    if not has(own, SkipNonFinite):
        added.append(SkipNonFinite())
    if hasattr(model, "run_callbacks"):
        added += model.run_callbacks(folder)
    return added
