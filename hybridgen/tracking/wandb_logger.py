"""Weights & Biases, on the terms that it may neither stop nor hang a training."""

import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

WANDB_MODES = ("auto", "online", "offline", "off")
_SECONDS_TO_START = 30
_SECONDS_TO_FINISH = 30  # what is not uploaded by then stays in the run folder, for wandb sync
_SERVER = "https://api.wandb.ai"


class CarefulWandbLogger(WandbLogger):
    """Lightning's logger; the first thing that goes wrong in it is told in a warning, and the run goes on without.

    ``metrics.csv`` is beside it and has every number.
    """

    failed = False
    #: How many batches were trained on, for the horizontal axis.
    batches: Callable[[], int] | None = None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values, with the number of batches beside them (Lightning adds epoch and step)."""
        counted = {} if self.batches is None else {"batch": self.batches()}
        super().log_metrics({**metrics, **counted}, step)

    def start(self) -> bool:
        """Begin the run now, so that what fails does so before training; returns whether it is there."""
        _guarded(lambda self: self.experiment)(self)
        return not self.failed

    def describe(self, values: dict[str, Any]) -> None:
        """Add to the run's configuration."""
        self._call(lambda: self.experiment.config.update(values, allow_val_change=True))

    def draw_against(self, metric: str) -> None:
        """Draw learning curves against a logged value; ``batch`` and ``epoch`` can be chosen in its place."""

        def define() -> None:
            for axis in {"epoch", "batch", metric}:
                self.experiment.define_metric(axis, hidden=True)
            for stage in ("train", "val", "test"):
                self.experiment.define_metric(f"{stage}/*", step_metric=metric)

        self._call(define)

    def summarise(self, values: dict[str, Any]) -> None:
        """Set values of the run's summary, which tables of runs show."""
        self._call(lambda: self.experiment.summary.update(values))

    def keep_files(self, paths: Sequence[Path], *, metadata: dict[str, Any]) -> None:
        """Keep checkpoints with the run, as one artifact of the type ``model``."""

        def keep() -> None:
            import wandb

            artifact = wandb.Artifact(f"checkpoints-{self.experiment.id}", type="model", metadata=metadata)
            for path in paths:
                artifact.add_file(str(path), name=path.name)
            self.experiment.log_artifact(artifact)

        self._call(keep)

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


class WandbLabels(NamedTuple):
    """Where a run stands among others.

    Attributes:
        project: of the dashboard; by default ``WANDB_PROJECT``, or hybridgen.
        group: of runs that belong together, the trials of a sweep or the seeds of an experiment.
        tags: words to filter by.
    """

    project: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()


def wandb_logger(
    folder: Path, *, name: str, mode: str, run_id: str | None = None, labels: WandbLabels | None = None
) -> CarefulWandbLogger | None:
    """The logger of a run, started, or None where it is off or does not start.

    Whether it is online is decided here, before it starts, so that a missing key or network can neither ask a
    question nor hang a run.

    Args:
        folder: the run folder.
        name: of the run.
        mode: one of ``WANDB_MODES``; ``auto`` is online where there are a key and an answer of the server.
        run_id: of the run that goes on; a new one by default.
        labels: where the run stands among others.
    """
    if mode == "off":
        return None
    why = None
    if mode == "auto" and not has_wandb_key():
        why = "there is no key (wandb login)"
    elif mode == "auto" and not reaches_wandb():
        why = f"{_address().hostname} does not answer"
    if why is not None:
        _tell(f"Weights & Biases is offline, {why}: wandb sync sends what is in {folder}")
    online = mode == "online" or (mode == "auto" and why is None)
    import wandb

    known = getattr(wandb.Settings, "model_fields", {})  # older versions wait for ever
    finish = {"finish_timeout": _SECONDS_TO_FINISH} if "finish_timeout" in known else {}
    settings = wandb.Settings(init_timeout=_SECONDS_TO_START, silent=True, **finish)
    labels = labels or WandbLabels()
    project = labels.project or os.environ.get("WANDB_PROJECT") or "hybridgen"
    where: dict[str, Any] = {"project": project, "name": name, "save_dir": folder, "id": run_id}
    # What is not given here W&B takes from its own variables (WANDB_RUN_GROUP, WANDB_TAGS).
    where |= {"group": labels.group} if labels.group else {}
    where |= {"tags": list(labels.tags)} if labels.tags else {}
    logger = CarefulWandbLogger(**where, offline=not online, settings=settings)
    return logger if logger.start() else None


@rank_zero_only
def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _address() -> SplitResult:
    """Where the server is: that of ``WANDB_BASE_URL``, or the public one."""
    base = os.environ.get("WANDB_BASE_URL") or _SERVER
    found = urlsplit(base if "://" in base else f"https://{base}")
    return found if found.hostname else urlsplit(_SERVER)


def has_wandb_key() -> bool:
    """Whether there is a key that needs no question."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        netrc = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
        return netrc.is_file() and str(_address().hostname) in netrc.read_text(errors="replace")
    except (OSError, RuntimeError):  # not to be read, or nobody's home
        return False


def reaches_wandb(seconds: float = 2.0) -> bool:
    """Whether the server answers, or the proxy that leads to it."""
    try:
        place = _address()
        host = str(place.hostname)
        proxy = None if proxy_bypass(host) else getproxies().get(place.scheme) or getproxies().get("all")
        if proxy:
            place = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        port = place.port or {"https": 443, "socks5": 1080, "socks5h": 1080}.get(place.scheme, 80)
        with socket.create_connection((str(place.hostname), port), timeout=seconds):
            return True
    except (OSError, ValueError):
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
