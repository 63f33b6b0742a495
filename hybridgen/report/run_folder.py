"""What a run folder holds, however far the run came."""

import math
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from hybridgen.report.metrics import Curve, read_curves
from hybridgen.run_record import RECORD, process_started, read_record

#: Any of these makes a folder a run folder.
_SIGNS = ("config.yaml", RECORD, "metrics.csv", "checkpoints")
#: Seconds without a sign of life after which a run of another machine, or one without a record, is taken for dead.
QUIET = 3600.0
#: State of a run whose record holds what no run writes.
UNREADABLE = "unreadable"
#: Numbers of a record, and what they are below: times are seconds since 1970 that calendars have a date for.
_NUMBERS = {"started": 1e11, "updated": 1e11} | dict.fromkeys(("seconds", "epochs", "steps", "parameters"), 1e15)
_TEXTS = ("state", "error", "monitor", "step_metric", "model", "data", "host")
_KINDS: dict[str, type] = {"argv": list, "versions": dict} | dict.fromkeys(_TEXTS, str)


@dataclass(frozen=True)
class Run:
    """A run folder, read when asked.

    Attributes:
        folder: where it is.
    """

    folder: Path

    @property
    def name(self) -> str:
        """``NAME/VERSION``."""
        folder = self.folder.absolute()
        return f"{folder.parent.name}/{folder.name}"

    @cached_property
    def record(self) -> dict[str, Any]:
        """What ``run.json`` says; empty for a run that has none.

        Something else than a run writes is left out, and makes its state ``unreadable``: a list of runs must not end
        at one of them.
        """
        found = read_record(self.folder)
        odd = [name for name, value in found.items() if not _as_written(name, value)]
        if not odd:
            return found
        kept = {name: value for name, value in found.items() if name not in odd}
        return kept | {"state": UNREADABLE, "error": f"{self.folder / RECORD} is damaged at {', '.join(odd)}"}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration; empty where there is none, or half of one."""
        try:
            found = yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """The logged values by name."""
        return read_curves(self.folder / "metrics.csv")

    @property
    def model(self) -> str:
        """Class of the model; empty if it is not known."""
        return self.section("model")[0] or str(self.record.get("model") or "")

    @property
    def data(self) -> str:
        """Class and source of the data; empty if they are not known."""
        name, arguments = self.section("data")
        source = arguments.get("source") or arguments.get("train") or arguments.get("folder") or ""
        return f"{name} {Path(str(source)).name if source else ''}".strip() or str(self.record.get("data") or "")

    def section(self, name: str) -> tuple[str, dict[str, Any]]:
        """Class name and arguments of ``model`` or ``data``; empty ones where the configuration has none."""
        section = self.config.get(name)
        if not isinstance(section, dict):
            return "", {}
        arguments = section.get("init_args")
        return str(section.get("class_path") or "").rpartition(".")[2], arguments if isinstance(arguments, dict) else {}

    @property
    def monitor(self) -> str | None:
        """The logged value that the best checkpoint has least of, as far as it can be told."""
        said = self.config.get("monitor")
        wanted = self.record.get("monitor") or (said if isinstance(said, str) else None)
        known = [wanted, "val/loss", *sorted(name for name in self.curves if name.startswith("val/"))]
        return next((name for name in known if name in self.curves), wanted)

    @property
    def best(self) -> float | None:
        """The least monitored value."""
        curve = self.curves.get(self.monitor or "")
        return None if curve is None else curve.best

    @property
    def checkpoint(self) -> Path | None:
        """The best checkpoint, else the last, else None."""
        paths = (self.folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
        return next((path for path in paths if path.is_file()), None)

    @property
    def epochs(self) -> int:
        """Epochs that were begun."""
        last = max((epoch for curve in self.curves.values() for epoch in curve.epochs), default=-1) + 1
        return max(last, int(self.record.get("epochs") or 0))

    @property
    def steps(self) -> int:
        """Steps of the optimiser."""
        last = max((step for curve in self.curves.values() for step in curve.steps), default=-1) + 1
        return max(last, int(self.record.get("steps") or 0))

    @property
    def started(self) -> float:
        """Seconds since 1970 at which it began."""
        if self.record.get("started"):
            return float(self.record["started"])
        return min(self._changes(), default=self.folder.stat().st_mtime)

    @property
    def updated(self) -> float:
        """Seconds since 1970 of its last sign of life."""
        return max([*self._changes(), float(self.record.get("updated") or 0)], default=self.folder.stat().st_mtime)

    @property
    def seconds(self) -> float:
        """Wall time; of a run without a record, between its first and its last file."""
        if self.record.get("seconds") is not None:
            return float(self.record["seconds"])
        return max(0.0, self.updated - self.started)

    def _changes(self) -> list[float]:
        files = [self.folder / name for name in ("config.yaml", "hparams.yaml", "metrics.csv", RECORD)]
        files += (self.folder / "checkpoints").glob("*.ckpt")
        return [path.stat().st_mtime for path in files if path.is_file()]

    @property
    def state(self) -> str:
        """``finished``, ``running``, ``interrupted``, ``failed``, ``died`` or ``unreadable``; see :func:`run_state`."""
        return run_state(self)


def _as_written(name: str, value: Any) -> bool:
    """Whether a value of ``run.json`` is of the kind that a run writes."""
    if value is None:
        return True
    if name in _NUMBERS:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _NUMBERS[name]
    return isinstance(value, _KINDS.get(name, object))


def run_state(run: Run, *, now: float | None = None) -> str:
    """Whether a run is over, and how.

    What ``run.json`` says holds, but for a run that says it is running: its process must be there, or, where it is on
    another machine, must have written within the hour. A run without that file has finished if it reached the end that
    its configuration says.
    """
    now = time.time() if now is None else now
    said = run.record.get("state")
    if said and said != "running":
        return str(said)
    quiet = now - run.updated > QUIET
    if said == "running":
        # On Windows nothing asks after a process: signal 0, which does elsewhere, is Ctrl-C there and would end it.
        if run.record.get("host") == socket.gethostname() and os.name != "nt":
            return "running" if _lives(run.record) else "died"
        return "died" if quiet else "running"
    trainer = run.config.get("trainer") if isinstance(run.config.get("trainer"), dict) else {}
    ends = [(run.epochs, trainer.get("max_epochs")), (run.steps, trainer.get("max_steps"))]
    if any(isinstance(end, int) and 0 < end <= done for done, end in ends):
        return "finished"
    return "died" if quiet else "running"


def _lives(record: dict[str, Any]) -> bool:
    process = record.get("process")
    if not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # it is there, and another user's
    begun = record.get("process_started")
    return begun is None or process_started(process) in (None, begun)


def open_run(path: str | Path) -> Run:
    """The run in a folder; ``runs/NAME`` without a version is its newest.

    Raises:
        ValueError: if it is no run folder; the message says what to give.
    """
    folder = Path(path)
    if folder.is_file() and folder.suffix == ".ckpt":
        folder = folder.absolute().parent.parent
    if not folder.is_dir():
        raise ValueError(f"there is no run folder {path}: `hybridgen runs` lists those there are")
    if is_run(folder):
        return Run(folder)
    versions = [child for child in folder.iterdir() if child.name.isdecimal() and is_run(child)]
    if not versions:
        raise ValueError(f"{path} is no run folder (no config.yaml, no metrics.csv): `hybridgen runs` lists them")
    return Run(max(versions, key=lambda child: int(child.name)))


def is_run(folder: Path) -> bool:
    """Whether a folder looks like one that ``fit`` made."""
    return any((folder / sign).exists() for sign in _SIGNS)


def find_runs(root: str | Path) -> list[Run]:
    """The runs under a folder, newest first.

    Raises:
        ValueError: if there is no such folder.
    """
    if not Path(root).is_dir():
        raise ValueError(f"--runs: there is no folder {root}: give the one that `hybridgen fit` wrote to")
    return sorted((Run(folder) for folder in _walk(Path(root))), key=lambda run: (-run.started, run.name))


def _walk(folder: Path, depth: int = 4) -> Iterator[Path]:
    try:
        children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.is_symlink())
    except OSError:
        return
    for child in children:
        if child.name.isdecimal() and is_run(child):
            yield child
        elif depth > 1 and not child.name.startswith("."):
            yield from _walk(child, depth - 1)


def summary(run: Run) -> dict[str, Any]:
    """What ``hybridgen runs`` shows of a run, as plain values."""
    best = run.best
    return {
        "name": run.name,
        "folder": str(run.folder),
        "model": run.model,
        "data": run.data,
        "state": run.state,
        "error": run.record.get("error"),
        "epochs": run.epochs,
        "steps": run.steps,
        "monitor": run.monitor,
        "best": best if best is None or math.isfinite(best) else None,
        "started": run.started,
        "seconds": round(run.seconds, 1),
        "parameters": parameters(run),
        "checkpoint": None if run.checkpoint is None else str(run.checkpoint),
    }


def parameters(run: Run) -> int | None:
    """Trainable numbers of the model, as the run recorded; of older runs, the numbers in its checkpoint, each once."""
    if run.record.get("parameters") is not None:
        return int(run.record["parameters"])
    if run.checkpoint is None:
        return None
    import torch

    try:
        state = torch.load(run.checkpoint, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        sizes = {tensor.data_ptr(): tensor.numel() for tensor in state.values()}
    except Exception:  # whatever is wrong with the file: a list of runs must not end at one of them
        return None
    return sum(sizes.values())
