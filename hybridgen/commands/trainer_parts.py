"""What a run of the trainer is made of beside the model: its callbacks and plugins.

THE place where callbacks that every training gets are added: a line in :func:`training_callbacks`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning.callbacks import Checkpoint, ProgressBar

from hybridgen.reliability.atomic import LAST
from hybridgen.reliability.checkpoint_io import SafeCheckpointIO
from hybridgen.reliability.fitting import check_fit
from hybridgen.reliability.resume import ExactResume
from hybridgen.reliability.run_choice import CHECKPOINTS, Choice
from hybridgen.reliability.saving import MINUTES, KeepLast
from hybridgen.reliability.termination import StopOnSignal
from hybridgen.reliability.verify import read
from hybridgen.tracking.dashboard import TrackWandb
from hybridgen.tracking.figures import WriteFigures
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
    if config.get("ckpt_path") and Path(config.ckpt_path).is_file():
        added.append(WriteFigures(config.ckpt_path))
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
    kept = folder / CHECKPOINTS if config.wandb_checkpoints else None
    added: list[pl.Callback] = [RunRecord(folder, monitor=monitor), TrackWandb(monitor=monitor, checkpoints=kept)]
    # A checkpoint callback of the configuration, or none at all, is the user's choice; a signal saves nevertheless.
    if config.trainer.enable_checkpointing is False:
        added.append(StopOnSignal())
    else:
        ours = not has(own, Checkpoint)
        if ours:
            added.append(checkpoints(folder, monitor=monitor))
        minutes, batches = config.save_every_minutes, config.save_every_batches
        minutes = minutes if ours or minutes != MINUTES else 0.0
        added += [KeepLast(folder / CHECKPOINTS, minutes=minutes, batches=batches, epochs=ours), ExactResume()]
    added.append(NoiseByRank())
    if not has(own, SkipNonFinite):
        added.append(SkipNonFinite())
    if hasattr(model, "run_callbacks"):
        added += model.run_callbacks(folder)
    return added


#: Strategies that write checkpoints by their own way.
_OWN_FILES = ("deepspeed",)


def checkpoint_plugins(
    own: Any, config: Any, model: pl.LightningModule, choice: Choice | None, *, training: bool
) -> list[Any]:
    """The plugins of a run: those of the configuration, and ours for whole checkpoints.

    Args:
        own: plugins of the configuration.
        config: the command's options.
        model: what goes on from a checkpoint.
        choice: where training goes on.
        training: whether the model is trained, not only evaluated.
    """
    plugins = [] if own is None else [*(own if isinstance(own, list) else [own])]
    strategy = str(config.trainer.strategy).lower()
    if "fsdp" in strategy and choice is not None:
        # Lightning reads it in a way of its own there, which would run what is in the file, and asks no plugin.
        check_fit(read(choice.checkpoint), model, training=training)
    if any(name in strategy for name in _OWN_FILES) or any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        return plugins
    ours = SafeCheckpointIO(inspect=lambda checkpoint: check_fit(checkpoint, model, training=training))
    if choice is not None:
        ours.damaged = set(choice.damaged)
        if choice.branches:
            ours.others = {choice.checkpoint.absolute().parent / LAST}
    return [*plugins, ours]
