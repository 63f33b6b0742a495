"""One trial: a run of `hybridgen fit` in a process of its own, watched through its metrics.csv."""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Seconds between two looks at a run.
LOOK = 1.0


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        values: the monitored value at each validation, in order.
        code: exit code of the process.
        stopped: whether it was stopped from here, as hopeless.
        seconds: wall time.
        message: the last line that it wrote to standard error.
    """

    values: list[float]
    code: int
    stopped: bool
    seconds: float
    message: str


def run_trial(config: Path, folder: Path, monitor: str, *, hopeless: Callable[[int, float], bool]) -> Outcome:
    """Train by a configuration and tell after every validation.

    Args:
        config: for `hybridgen fit`.
        folder: of the run, which is not there yet; its parent's name is the run's.
        monitor: the value that is watched.
        hopeless: called with the number of a validation, from 0, and its value; the run is stopped where it says so.
    """
    command = [
        sys.executable, "-m", "hybridgen", "fit", "--config", str(config), "--runs", str(folder.parent.parent),
        "--name", folder.parent.name, "--monitor", monitor, "--trainer.enable_progress_bar", "false",
    ]  # fmt: skip
    log = folder.parent.with_name(folder.parent.name + ".log")  # the name may have a dot of its own
    log.parent.mkdir(parents=True, exist_ok=True)
    begun, told, stopped = time.monotonic(), 0, False
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            while True:
                ended = process.poll() is not None
                values = read_values(folder / "metrics.csv", monitor)
                while told < len(values) and not stopped:
                    stopped = hopeless(told, values[told]) and not ended
                    told += 1
                if stopped and not ended:
                    process.send_signal(signal.SIGTERM)
                    process.wait()
                if ended or stopped:
                    break
                time.sleep(LOOK)
        finally:
            if process.poll() is None:  # we are being stopped ourselves
                process.terminate()
                process.wait()
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("hybridgen: error:")] or lines[-1:]
    message = said[-1].removeprefix("hybridgen: error: ") if said else ""
    values = read_values(folder / "metrics.csv", monitor)
    return Outcome(values, process.returncode, stopped, time.monotonic() - begun, message)


def read_values(metrics: Path, monitor: str) -> list[float]:
    """The values of a column of a metrics.csv that may be being written; empty where there are none yet."""
    if not metrics.is_file():
        return []
    with metrics.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    values = []
    for row in rows:
        try:
            values.append(float(row.get(monitor) or ""))
        except ValueError:  # another row, or one that is half written
            continue
    return values
