"""Train an experiment with several seeds, test each, and write the result as one small JSON file.

    python scripts/run_experiment.py experiments/variational_rnn/jsb_lstm.yaml --seeds 0 1 2

writes experiments/results/variational_rnn-jsb_lstm.json: mean, spread and values of every test figure, parameters, wall
time of training, the machine, the command, and the published rows of experiments/published.json beside them. With
--evaluate, what `hybridgen evaluate` says of generated samples is among the figures. What was trained already (run
folders FAMILY-NAME-seedN/0) is only tested again.
"""

import argparse
import csv
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hybridgen.data.files import write_text
from hybridgen.loading import CheckpointError, load

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="a file in experiments/FAMILY/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go")
    parser.add_argument("--out", type=Path, help="the JSON file (default: experiments/results/FAMILY-NAME.json)")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which one is tested")
    parser.add_argument("--evaluate", action="store_true", help="compare generated samples with the data, too")
    parser.add_argument(
        "--test", default="", metavar="OPTIONS", help="further options of hybridgen test, in one string"
    )
    parser.add_argument("--fit", nargs=argparse.REMAINDER, default=[], help="what follows goes to hybridgen fit")
    options = parser.parse_args()
    if not options.config.is_file():
        print(f"error: there is no file {options.config}: give one in experiments/", file=sys.stderr)
        return 2
    name = f"{options.config.parent.name}-{options.config.stem}"
    found: list[dict[str, float]] = []
    seconds: list[float] = []
    for seed in options.seeds:
        folder = options.runs / f"{name}-seed{seed}" / "0"
        taken = folder / "seconds.txt"
        if not taken.is_file():
            begun = time.monotonic()
            fit(options.config, seed, folder, options.fit)
            taken.write_text(f"{time.monotonic() - begun:.1f}\n")
        seconds.append(float(taken.read_text()))
        found.append(test(folder, options.checkpoint, shlex.split(options.test)))
        if options.evaluate:
            found[-1] |= evaluate(folder, options.checkpoint)
        print(f"seed {seed}: {json.dumps(found[-1])}", flush=True)
    out = options.out or ROOT / "experiments" / "results" / f"{name}.json"
    published = json.loads((ROOT / "experiments" / "published.json").read_text(encoding="utf-8"))
    config, chosen = options.config.resolve(), " --evaluate" if options.evaluate else ""
    chosen += f" --test {shlex.quote(options.test)}" if options.test else ""
    chosen += f" --checkpoint {options.checkpoint}" if options.checkpoint != "best" else ""
    shown = config.relative_to(ROOT) if config.is_relative_to(ROOT) else options.config
    command = f"python scripts/run_experiment.py {shown} --seeds {' '.join(map(str, options.seeds))}{chosen}"
    result = {
        "experiment": name.replace("-", "/", 1),
        "command": command + (f" --fit {' '.join(options.fit)}" if options.fit else ""),
        "seeds": options.seeds,
        "metrics": {metric: summary([values[metric] for values in found]) for metric in found[0]},
        "parameters": parameters(folder / "checkpoints" / f"{options.checkpoint}.ckpt"),
        "seconds": round(statistics.mean(seconds)),
        "machine": machine(),
        "published": published.get(name, []),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"{out} written")
    return 0


def fit(config: Path, seed: int, folder: Path, more: list[str]) -> None:
    """Train one seed into its run folder."""
    where = ["--runs", str(folder.parent.parent), "--name", folder.parent.name, "--seed_everything", str(seed)]
    quiet = ["--wandb", "off", "--trainer.enable_progress_bar", "false"]
    if folder.exists():
        raise SystemExit(f"error: {folder} holds a run that was not finished: remove it")
    hybridgen("fit", "--config", str(config), *where, *quiet, *more)


def evaluate(folder: Path, checkpoint: str) -> dict[str, float]:
    """What `hybridgen evaluate` says of samples; its pictures stay in the run folder."""
    out = folder / "evaluation"
    path = folder / "checkpoints" / f"{checkpoint}.ckpt"
    hybridgen("evaluate", "--ckpt", str(path), "--config", str(folder / "config.yaml"), "--out", str(out))
    return json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["metrics"]


def test(folder: Path, checkpoint: str, more: Sequence[str]) -> dict[str, float]:
    """The figures of the test data."""
    config, path = folder / "config.yaml", folder / "checkpoints" / f"{checkpoint}.ckpt"
    with tempfile.TemporaryDirectory() as scratch:
        logger = ["--trainer.logger", "pytorch_lightning.loggers.CSVLogger", "--trainer.logger.save_dir", scratch]
        quiet = ["--trainer.enable_progress_bar", "false"]
        hybridgen("test", "--config", str(config), "--ckpt_path", str(path), *logger, *quiet, *more)
        with next(Path(scratch).glob("**/metrics.csv")).open() as file:
            rows = list(csv.DictReader(file))
    values = {name: value for row in rows for name, value in row.items() if value and name.startswith("test/")}
    # Loaders of several protocols have a suffix that says no more than their names.
    return {name.split("/dataloader_idx_")[0]: float(value) for name, value in sorted(values.items())}


def hybridgen(*arguments: str) -> None:
    """Run the command; a failure ends this script too."""
    finished = subprocess.run([sys.executable, "-m", "hybridgen", *arguments], stdout=subprocess.DEVNULL)
    if finished.returncode:
        raise SystemExit(finished.returncode)


def summary(values: list[float]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds."""
    spread = round(statistics.stdev(values), 5) if len(values) > 1 else None
    return {"mean": round(statistics.mean(values), 5), "std": spread, "values": [round(v, 5) for v in values]}


def parameters(checkpoint: Path) -> int | None:
    """Trainable numbers of the model, each once."""
    try:
        return sum(p.numel() for p in load(checkpoint).parameters() if p.requires_grad)
    except CheckpointError:
        return None


def machine() -> str:
    """What it ran on."""
    threads = os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads()
    processor = platform.processor() or platform.machine()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    return f"{os.cpu_count()} cores of {processor}, {threads} threads, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
