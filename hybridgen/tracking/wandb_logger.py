"""Weights & Biases, on the terms that it may neither stop nor hang a training."""

import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

WANDB_MODES = ("auto", "online", "offline", "off")
_SECONDS_TO_START = 30


class CarefulWandbLogger(WandbLogger):
    """Lightning's logger; the first thing that goes wrong in it is told in a warning, and the run goes on without.

    ``metrics.csv`` is beside it and has every number.
    """

    failed = False

    def start(self) -> bool:
        """Begin the run now, so that what fails does so before training; returns whether it is there."""
        _guarded(lambda self: self.experiment)(self)
        return not self.failed

    def describe(self, values: dict[str, Any]) -> None:
        """Add to the run's configuration."""
        self._call(lambda: self.experiment.config.update(values, allow_val_change=True))

    def draw_against(self, metric: str) -> None:
        """Draw the learning curves against a logged value instead of the number of steps."""

        def define() -> None:
            self.experiment.define_metric(metric)
            for stage in ("train", "val", "test"):
                self.experiment.define_metric(f"{stage}/*", step_metric=metric)

        self._call(define)

    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._experiment is not None and rank_zero_only.rank == 0:
            self._call(lambda: self._experiment.finish(exit_code=int(status != "success")))

    @rank_zero_only
    def _call(self, function: Callable[[], Any]) -> None:
        _guarded(lambda self: function())(self)


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, doing nothing once anything has failed."""

    @wraps(method)
    def careful(self: CarefulWandbLogger, *arguments: Any, **options: Any) -> Any:
        if self.failed:
            return None
        try:
            return method(self, *arguments, **options)
        except Exception as error:
            # Whatever it is: the dashboard is not worth a training.
            self.failed = True
            warnings.warn(
                f"Weights & Biases failed and is left out from here on ({type(error).__name__}: {error}); "
                "metrics.csv has every number",
                stacklevel=2,
            )
            return None

    return careful


for _name in ("log_hyperparams", "log_metrics", "log_table", "log_text", "log_image", "log_audio", "watch", "finalize"):
    setattr(CarefulWandbLogger, _name, _guarded(getattr(CarefulWandbLogger, _name)))


def wandb_logger(folder: Path, *, name: str, mode: str, run_id: str | None = None) -> CarefulWandbLogger | None:
    """The logger of a run, started, or None where it is off or does not start.

    Whether it is online is decided here, before it starts, so that a missing key or network can neither ask a
    question nor hang a run.

    Args:
        folder: the run folder.
        name: of the run.
        mode: one of ``WANDB_MODES``; ``auto`` is online where there are a key and an answer of the server.
        run_id: of the run that goes on; a new one by default.
    """
    if mode == "off":
        return None
    online = mode == "online" or (mode == "auto" and has_wandb_key() and reaches_wandb())
    import wandb

    settings = wandb.Settings(init_timeout=_SECONDS_TO_START, silent=True)
    where = {"project": "hybridgen", "name": name, "save_dir": folder, "id": run_id}
    logger = CarefulWandbLogger(**where, offline=not online, settings=settings)
    return logger if logger.start() else None


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


def circumstances() -> dict[str, Any]:
    """What a run depends on beside its configuration: the command line, versions, and the revision of the code."""
    versions = {"python": sys.version.split()[0]}
    for package in ("hybridgen", "torch", "pytorch-lightning", "wandb", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"argv": list(sys.argv), "versions": versions, "git": git_revision()}


def git_revision() -> dict[str, Any] | None:
    """Commit of the folder that the command runs in and whether files in it differ from it; None without git."""

    def git(*arguments: str) -> str:
        found = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
        return found.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
