"""Which run folder a training goes on in: ``--resume auto | PATH | never``."""

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hybridgen.reliability.verify import CheckpointError, newest_valid, read

try:
    import fcntl
except ImportError:  # a system without
    fcntl = None  # type: ignore[assignment]

CHECKPOINTS = "checkpoints"
_LOCK = ".lock"
_LOCKED: list[IO[str]] = []


@dataclass
class Choice:
    """A place to go on from.

    Attributes:
        folder: the run folder, or None where the checkpoint lies in none.
        checkpoint: the file to go on from.
        rows_before: steps of the loggers below this are in ``metrics.csv`` for good.
        warnings: what is to be told: newer files that are damaged.
        damaged: those files.
        branches: whether the run has newer checkpoints than this one, which was asked for.
    """

    folder: Path | None
    checkpoint: Path
    rows_before: int = 0
    warnings: list[str] = field(default_factory=list)
    damaged: set[Path] = field(default_factory=set)
    branches: bool = False


def by_path(path: str | Path) -> Choice:
    """Go on in a run folder, from its newest whole checkpoint; or from a checkpoint, in the run folder that it is in.

    Raises:
        CheckpointError: if there is no such place, or nothing whole in it.
    """
    path = Path(path)
    if path.is_dir():
        checkpoints = path if path.name == CHECKPOINTS else path / CHECKPOINTS
        found = _newest(checkpoints)
        if found is None:
            raise CheckpointError(f"--resume: {path} has no checkpoint: give a run folder that has, or a .ckpt file")
        return found[0]
    contents = read(path)
    inside = path.parent.name == CHECKPOINTS and (path.parent.parent / "config.yaml").is_file()
    if not inside:
        return Choice(None, path)
    return Choice(path.parent.parent, path, _rows_before(contents), branches=path.name != "last.ckpt")


def automatic(root: str | Path, name: str, limits: dict[str, Any]) -> tuple[Choice | None, str]:
    """The newest run of a name, where it can go on.

    Args:
        root: folder of the run folders.
        name: of the run.
        limits: ``max_epochs``, ``max_steps`` and ``max_time`` of the trainer now.

    Returns:
        Where to go on, or None for a new run; and why, for the user.

    Raises:
        CheckpointError: if the newest run has checkpoints, none of them whole.
    """
    parent = Path(root) / name
    numbers = [int(p.name) for p in parent.glob("*") if p.name.isdecimal() and p.is_dir()] if parent.is_dir() else []
    for number in sorted(numbers, reverse=True):
        folder = parent / str(number)
        found = _newest(folder / CHECKPOINTS)
        if found is None:
            continue  # it ended before its first checkpoint
        choice, contents = found
        if _is_finished(folder, contents, limits):
            return None, f"{folder} is finished: a new run"
        return choice, f"going on with {folder}"
    return None, f"there is no run of {name} with a checkpoint in {parent.parent}: a new run"


def _newest(checkpoints: Path) -> tuple[Choice, dict[str, Any]] | None:
    path, damaged = newest_valid(checkpoints)
    if path is None:
        if damaged:
            raise CheckpointError(
                f"no checkpoint in {checkpoints} is whole ({'; '.join(damaged.values())}): start a new run with "
                "--resume never"
            )
        return None
    told = [f"{message.partition(': use')[0]}: going on from {path}" for message in damaged.values()]
    contents = read(path)
    found = Choice(checkpoints.parent, path, _rows_before(contents), told, {Path(os.path.abspath(p)) for p in damaged})
    return found, contents


def _rows_before(contents: dict[str, Any]) -> int:
    # Older checkpoints know only the optimiser's steps, which are those of the loggers for one optimiser.
    return int(contents.get("hybridgen_resume", {}).get("rows_before", contents.get("global_step", 0)))


def _is_finished(folder: Path, contents: dict[str, Any], limits: dict[str, Any]) -> bool:
    """Whether a run has got to where it is to end now, or ended by itself under the limits of now."""
    progress = contents.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {}).get("current", {})
    epochs, steps = progress.get("processed", 0), contents.get("global_step", 0)
    most_epochs, most_steps = limits.get("max_epochs"), limits.get("max_steps")
    if most_epochs is None and most_steps in (None, -1):
        most_epochs = 1000  # Lightning's own
    for done, most in ((epochs, most_epochs), (steps, most_steps)):
        if most not in (None, -1) and done >= most:
            return True
    # By early stopping, say; not where the clock ended it, or it has been given more to do.
    before = saved_config(folder).get("trainer") or {}
    same = all(before.get(name) == limits.get(name) for name in ("max_epochs", "max_steps", "max_time"))
    return same and not limits.get("max_time") and _state(folder) == "finished"


def _state(folder: Path) -> str | None:
    try:
        return json.loads((folder / "run.json").read_text(encoding="utf-8")).get("state")
    except (OSError, ValueError, AttributeError):
        return None


def saved_config(folder: Path) -> dict[str, Any]:
    """What ``config.yaml`` of a run folder says, or nothing where it is missing or broken."""
    import yaml

    try:
        found = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def lock(folder: Path) -> None:
    """Keep other trainings out of a run folder until :func:`unlock`, or until this process is gone.

    Raises:
        ValueError: if another process has it.
    """
    if fcntl is None:
        return
    path = folder / _LOCK
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"the run folder {folder} cannot be written to ({error.strerror})") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        other = file.read().strip() or "another process"
        file.close()
        raise ValueError(
            f"the run folder {folder} is in use by process {other}: wait for it, or give another --name"
        ) from None
    except OSError:
        file.close()
        return  # a file system without locks
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    _LOCKED.append(file)


def unlock() -> None:
    """Let others into the run folders of this process; one that holds nothing, since nothing began, is removed."""
    while _LOCKED:
        file = _LOCKED.pop()
        path = Path(file.name)
        # A start that fails on its data would leave a number that means nothing.
        nothing = False
        with contextlib.suppress(OSError):
            nothing = [each.name for each in path.parent.iterdir()] == [path.name]
            if nothing:
                path.unlink()
        file.close()  # before the folder goes: where files are shared, an open one that was removed is still in it
        if nothing:
            with contextlib.suppress(OSError):  # somebody else has begun in it
                path.parent.rmdir()
