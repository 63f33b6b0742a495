"""A run folder: `runs/NAME/VERSION/` with config.yaml, checkpoints, metrics.csv, samples and wandb."""

import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import Logger

from hybridgen.reliability.atomic import free_number
from hybridgen.reliability.saving import KeepBest
from hybridgen.tracking.metrics_table import MetricsTable
from hybridgen.tracking.processes import chosen_by_first
from hybridgen.tracking.wandb_logger import CarefulWandbLogger, WandbLabels, circumstances, wandb_logger

_CHOSEN = "HYBRIDGEN_RUN_FOLDER"


def next_run_folder(root: str | Path, name: str) -> Path:
    """Make the folder of a new run: the first number that no run of this name has.

    The processes that Lightning, torchrun or SLURM start for further devices get the folder of the first.

    Raises:
        ValueError: if it cannot be made.
    """
    parent = Path(root) / name
    chosen = os.environ.get(_CHOSEN)
    if chosen and int(os.environ.get("LOCAL_RANK", 0)) > 0 and Path(chosen).parent == parent.absolute():
        return Path(chosen)
    folder = Path(chosen_by_first("run-folder", lambda: str(_make_next(parent)), parent))
    os.environ[_CHOSEN] = str(folder.absolute())
    return folder


def _make_next(parent: Path) -> Path:
    while True:
        taken = [int(p.name) for p in parent.glob("*") if p.name.isdecimal()] if parent.is_dir() else []
        folder = parent / str(max(taken, default=-1) + 1)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if parent.is_dir() and folder.is_dir():
                continue  # another training, which began at the same moment, has it
            raise ValueError(f"the run folder {folder} cannot be made: {parent} is no folder") from None
        except OSError as error:
            raise ValueError(
                f"the run folder {folder} cannot be made ({error.strerror}): give another place by --runs"
            ) from None
        return folder


def loggers(
    folder: Path, *, name: str, wandb_mode: str, rows_before: int | None = None, labels: WandbLabels | None = None
) -> list[Logger]:
    """CSV always; Weights & Biases unless it is off or does not start.

    Args:
        folder: the run folder.
        name: of the run on the dashboard.
        wandb_mode: see :func:`hybridgen.tracking.wandb_logger.wandb_logger`.
        rows_before: where a run goes on: rows of ``metrics.csv`` with smaller steps are kept, later ones come again.
        labels: where the run stands among others on the dashboard.
    """
    csv = MetricsTable(
        save_dir=folder.parent.parent, name=folder.parent.name, version=folder.name, rows_before=rows_before
    )
    run_id = None if rows_before is None else _wandb_run_id(folder)
    dashboard = wandb_logger(folder, name=f"{name}/{folder.name}", mode=wandb_mode, run_id=run_id, labels=labels)
    return [csv] if dashboard is None else [csv, dashboard]


def keep_table(folder: Path) -> None:
    """Keep what ``metrics.csv`` has, as ``metrics-N.csv``, where a run goes on from before some of it."""
    table = folder / "metrics.csv"
    if table.is_file():
        shutil.copyfile(table, free_number(table))


def _wandb_run_id(folder: Path) -> str | None:
    """The id under which a run was tracked before, from the names of its files: ``run-20260101_120000-ID``."""
    names = [path.name.rpartition("run-")[2] for path in (folder / "wandb").glob("*run-*-*")]
    return max(names).partition("-")[2] if names else None


def checkpoints(folder: Path, *, monitor: str) -> KeepBest:
    """`checkpoints/best.ckpt` by the monitored value; `last.ckpt` is kept by reliability.saving.KeepLast."""
    return KeepBest(
        dirpath=folder / "checkpoints",
        filename="best",
        monitor=monitor,
        mode="min",
        save_last=False,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )


class SaveConfig(SaveConfigCallback):
    """Writes the whole configuration into the run folder and into Weights & Biases.

    There it stands under ``configuration`` (the seed, and model, data, trainer with their class paths) beside the
    command line, the versions and the git revision.
    """

    def __init__(self, *args: Any, folder: Path | None = None, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, save_to_log_dir=False, **kwargs)
        self.folder, self.name = folder, name
        self._waits = False

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Called by Lightning on the first process only."""
        if self.folder is None or stage != "fit":
            return
        self._waits = (self.folder / "config.yaml").is_file()
        if not self._waits:
            self._save(trainer, pl_module)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Where a run goes on, its configuration is another only when the checkpoint has been found to fit."""
        if self._waits:
            self._save(trainer, pl_module)

    def _save(self, trainer: Any, pl_module: Any) -> None:
        # A run that went on is one that can be trained from its start by the same file.
        config = self.config.clone()
        config.resume, config.ckpt_path = "never", None
        config.name = self.name or config.name  # else it would be that of this file, config
        text = self.parser.dump(config, skip_none=False)
        path = self.folder / "config.yaml"
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            os.replace(path, free_number(path))  # what the run was until here
        path.write_text(text, encoding="utf-8")
        for logger in trainer.loggers:
            if isinstance(logger, CarefulWandbLogger):
                logger.describe({"configuration": yaml.safe_load(text), **circumstances()})
