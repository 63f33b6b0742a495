"""What reliability costs: seconds to save and verify a checkpoint, and the guards' part of a training step.

    python scripts/benchmark_reliability.py               figures as JSON (about a minute on 2 cores)
    python scripts/benchmark_reliability.py --quick       small ones, a few seconds

A checkpoint is of a model and the two moments of Adam, float32. Ours is written beside its place with its checksum,
forced to the disk and put in its place, the one before kept; ``torch.save`` writes into its place without waiting.
They are run in turn; figures are medians.

The guards are the callbacks that every `hybridgen fit` has: looking for numbers that are not finite, for signals, and
whether it is time to save. Their part of a step is the processor time in their hooks over that of the whole steps, of a
character model of two layers of 256 LSTM cells (batch 32, 64 steps back). Saves are not in it: one every ten minutes
is a part by itself.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from benchmark_cells import machine

from hybridgen.data import TextData
from hybridgen.models import LanguageModel
from hybridgen.reliability import atomic
from hybridgen.reliability.checkpoint_io import SafeCheckpointIO
from hybridgen.reliability.resume import ExactResume
from hybridgen.reliability.saving import MINUTES, KeepLast
from hybridgen.reliability.verify import read, verify
from hybridgen.tracking.finite import SkipNonFinite
from hybridgen.tracking.processes import NoiseByRank

_HOOKS = (
    "on_train_batch_start",
    "on_before_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "on_train_batch_end",
)


def checkpoint_of(parameters: int) -> dict[str, Any]:
    """Weights in matrices of a million numbers, and as many moments twice."""
    shapes = [min(1_000_000, parameters - start) for start in range(0, parameters, 1_000_000)]
    weights = {f"layers.{number}.weight": torch.randn(shape) for number, shape in enumerate(shapes)}
    moments = {number: {"exp_avg": w.clone(), "exp_avg_sq": w.square()} for number, w in enumerate(weights.values())}
    about = {"hybridgen_model": "Benchmark", "options": {}, "codec": {}}
    return about | {"state_dict": weights, "optimizer_states": [{"state": moments}]}


def measure_checkpoint(parameters: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds of each way to save, and to read again, run in turn."""
    contents = checkpoint_of(parameters)
    ours, plain = folder / "last.ckpt", folder / "plain.ckpt"
    ways: dict[str, Callable[[], Any]] = {
        "save": lambda: atomic.save(contents, ours, rotate=True),
        "torch_save": lambda: torch.save(contents, plain),
        "verify": lambda: verify(ours),
        "verify_and_read": lambda: read(ours),
        "torch_load": lambda: torch.load(plain, weights_only=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begun)
    found = {f"{name}_seconds": round(statistics.median(values[1:]), 4) for name, values in seconds.items()}
    size = ours.stat().st_size
    for path in folder.glob("*.ckpt*"):
        path.unlink()
    part = 100 * found["save_seconds"] / (60 * MINUTES)
    return {"parameters": parameters, "megabytes": round(size / 1e6, 1), **found, "percent_of_training": round(part, 3)}


class Timed:
    """Adds up the processor time that callbacks spend in their hooks.

    Args:
        callbacks: whose hooks are timed from now on.
    """

    def __init__(self, callbacks: list[pl.Callback]) -> None:
        self.seconds = {type(callback).__name__: 0.0 for callback in callbacks}
        for callback in callbacks:
            for name in _HOOKS:
                setattr(callback, name, self._timed(getattr(callback, name), type(callback).__name__))

    def _timed(self, hook: Callable[..., Any], of: str) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            begun = time.process_time()
            try:
                return hook(*arguments)
            finally:
                self.seconds[of] += time.process_time() - begun

        return timed


class Steps(pl.Callback):
    """Processor time of the steps after the first few, and what the guards spent of it.

    Args:
        timed: the guards' clock.
        warm_up: steps that are left out.
    """

    def __init__(self, timed: Timed, warm_up: int) -> None:
        self.timed, self.warm_up = timed, warm_up
        self.begun, self.ended, self.before = 0.0, 0.0, {}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        if trainer.global_step == self.warm_up:
            self.begun, self.before = time.process_time(), dict(self.timed.seconds)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ended = time.process_time()


def measure_guards(steps: int, width: int, folder: Path) -> dict[str, Any]:
    """The guards' part of a training step, in percent."""
    warm_up = max(2, steps // 5)
    guards: list[pl.Callback] = [
        SkipNonFinite(),
        NoiseByRank(),
        KeepLast(folder / "checkpoints", epochs=False),
        ExactResume(),
    ]
    timed = Timed(guards)
    clock = Steps(timed, warm_up)
    model = LanguageModel(stack={"cell": "lstm", "hidden_size": width, "num_layers": 2}, embedding_size=64)
    data = TextData(batch_size=32, bptt=64, cache_dir=str(folder / "cache"))
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        callbacks=[clock, *guards],
        plugins=[SafeCheckpointIO()],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, datamodule=data)
    whole = clock.ended - clock.begun
    parts = {name: timed.seconds[name] - clock.before[name] for name in timed.seconds}
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": steps - warm_up,
        "milliseconds_a_step": round(1000 * whole / (steps - warm_up), 3),
        "percent": {name: round(100 * part / whole, 3) for name, part in parts.items()},
        "percent_together": round(100 * sum(parts.values()) / whole, 3),
        "goal_percent": 3.0,
    }


def main() -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small ones, a few seconds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: a temporary folder)")
    parser.add_argument("--out", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        sizes, rounds = ((50_000, 200_000), 2) if options.quick else ((5_000_000, 20_000_000), 5)
        found = {
            "machine": machine(),
            "threads": options.threads,
            "checkpoint": [measure_checkpoint(size, rounds, folder) for size in sizes],
            "guards": measure_guards(*((12, 16) if options.quick else (100, 256)), folder),
        }
    text = json.dumps(found, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
