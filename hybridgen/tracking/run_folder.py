"""A run folder: `runs/NAME/VERSION/` with config.yaml, checkpoints, metrics.csv, samples and wandb."""

import os
import socket
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

WANDB_MODES = ("auto", "online", "offline", "off")


def next_run_folder(root: str | Path, name: str) -> Path:
    """The folder of a new run: the first number that no run of this name has."""
    parent = Path(root) / name
    taken = [int(p.name) for p in parent.glob("*") if p.name.isdigit()] if parent.is_dir() else []
    return parent / str(max(taken, default=-1) + 1)


def loggers(folder: Path, *, name: str, wandb_mode: str) -> list[Logger]:
    """CSV always; Weights & Biases unless it is off.

    Whether Weights & Biases is online is decided here, before it starts, so that a missing key or network can neither
    ask a question nor hang a run.
    """
    csv = CSVLogger(save_dir=folder.parent.parent, name=folder.parent.name, version=folder.name)
    if wandb_mode == "off":
        return [csv]
    online = wandb_mode == "online" or (wandb_mode == "auto" and has_wandb_key() and reaches_wandb())
    folder.mkdir(parents=True, exist_ok=True)
    return [csv, WandbLogger(project="hybridgen", name=f"{name}/{folder.name}", save_dir=folder, offline=not online)]


def has_wandb_key() -> bool:
    """Whether there is a key that needs no question."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "api.wandb.ai" in netrc.read_text(errors="replace")


def reaches_wandb(seconds: float = 2.0) -> bool:
    """Whether the server answers."""
    try:
        with socket.create_connection(("api.wandb.ai", 443), timeout=seconds):
            return True
    except OSError:
        return False


def checkpoints(folder: Path, *, monitor: str) -> ModelCheckpoint:
    """`checkpoints/last.ckpt` after every validation and `checkpoints/best.ckpt` by the monitored value."""
    return ModelCheckpoint(
        dirpath=folder / "checkpoints",
        filename="best",
        monitor=monitor,
        mode="min",
        save_last=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )


class SaveConfig(SaveConfigCallback):
    """Writes the whole configuration into the run folder and into every logger."""

    def __init__(self, *args: Any, folder: Path | None = None, **kwargs: Any) -> None:
        super().__init__(*args, save_to_log_dir=False, **kwargs)
        self.folder = folder

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Called by Lightning on the first process only."""
        if self.folder is None or stage != "fit":
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "config.yaml"
        self.parser.save(self.config, path, skip_none=False, overwrite=True, multifile=False)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update({"configuration": self.config.as_dict()}, allow_val_change=True)
