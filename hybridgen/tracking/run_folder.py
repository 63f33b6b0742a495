"""A run folder: `runs/NAME/VERSION/` with config.yaml, checkpoints, metrics.csv, samples and wandb."""

import os
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, Logger

from hybridgen.tracking.wandb_logger import CarefulWandbLogger, circumstances, wandb_logger

_CHOSEN = "HYBRIDGEN_RUN_FOLDER"


def next_run_folder(root: str | Path, name: str) -> Path:
    """Make the folder of a new run: the first number that no run of this name has.

    The processes that Lightning starts for further devices get the folder of the first.

    Raises:
        ValueError: if it cannot be made.
    """
    parent = Path(root) / name
    chosen = os.environ.get(_CHOSEN)
    if chosen and int(os.environ.get("LOCAL_RANK", 0)) > 0 and Path(chosen).parent == parent.absolute():
        return Path(chosen)
    taken = [int(p.name) for p in parent.glob("*") if p.name.isdigit()] if parent.is_dir() else []
    folder = parent / str(max(taken, default=-1) + 1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"the run folder {folder} cannot be made ({error.strerror}): give another place by --runs"
        ) from None
    os.environ[_CHOSEN] = str(folder.absolute())
    return folder


def loggers(folder: Path, *, name: str, wandb_mode: str) -> list[Logger]:
    """CSV always; Weights & Biases unless it is off or does not start."""
    csv = CSVLogger(save_dir=folder.parent.parent, name=folder.parent.name, version=folder.name)
    dashboard = wandb_logger(folder, name=f"{name}/{folder.name}", mode=wandb_mode)
    return [csv] if dashboard is None else [csv, dashboard]


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
    """Writes the whole configuration into the run folder and into Weights & Biases.

    There it stands under ``configuration`` (the seed, and model, data, trainer with their class paths) beside the
    command line, the versions and the git revision.
    """

    def __init__(self, *args: Any, folder: Path | None = None, **kwargs: Any) -> None:
        super().__init__(*args, save_to_log_dir=False, **kwargs)
        self.folder = folder

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Called by Lightning on the first process only."""
        if self.folder is None or stage != "fit":
            return
        text = self.parser.dump(self.config, skip_none=False)
        (self.folder / "config.yaml").write_text(text, encoding="utf-8")
        for logger in trainer.loggers:
            if isinstance(logger, CarefulWandbLogger):
                logger.describe({"configuration": yaml.safe_load(text), **circumstances()})
                if hasattr(pl_module, "step_metric"):
                    logger.draw_against(pl_module.step_metric)
