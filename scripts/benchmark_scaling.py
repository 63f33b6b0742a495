"""Throughput of a language model trained by 1, 2, ... processes (or GPUs), and a paper estimate for many more.

    python scripts/benchmark_scaling.py --processes 1 2 --out docs/benchmark_scaling.json
    python scripts/benchmark_scaling.py --estimate 1 8 64 1000

Weak scaling: every process has the same batch, so a step of n processes is of n times the tokens. Processes are started
by torchrun and share the cores; with GPUs each has one. Steps are timed after a warm-up, the reduction of gradients
included. The estimate is arithmetic on its assumptions, which are printed with it; nothing of it is measured.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WARM_UP = 5


def main(arguments: list[str] | None = None) -> int:
    """Measure or estimate; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="numbers of processes, or of GPUs")
    parser.add_argument("--hidden_size", type=int, default=256)
    parser.add_argument("--num_layers", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16, help="lanes of each process")
    parser.add_argument("--bptt", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40, help=f"steps that are timed, after {WARM_UP} that are not")
    parser.add_argument("--out", help="also write the JSON into this file")
    parser.add_argument("--estimate", type=int, nargs="+", metavar="GPUS", help="estimate instead of measuring")
    parser.add_argument("--parameters", type=float, default=100e6, help="of the estimate: weights of the model")
    parser.add_argument("--tokens", type=float, default=32 * 256, help="of the estimate: tokens of a GPU in a step")
    parser.add_argument("--flops", type=float, default=60e12, help="of the estimate: operations a second, sustained")
    parser.add_argument("--bandwidth", type=float, default=40e9, help="of the estimate: bytes a second between nodes")
    parser.add_argument("--latency", type=float, default=20e-6, help="of the estimate: seconds of one hop")
    parser.add_argument("--overlap", type=float, default=0.5, help="of the estimate: part of the reduction hidden")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        work(options)
        return 0
    if options.estimate:
        keys = ("parameters", "tokens", "flops", "bandwidth", "latency", "overlap")
        given = {key: getattr(options, key) for key in keys}
        found: dict[str, Any] = {"assumptions": given, "rows": [estimate(n, **given) for n in options.estimate]}
    else:
        found = measure(options)
    text = json.dumps(found, indent=2)
    print(text)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    return 0


def estimate(
    gpus: int, *, parameters: float, tokens: float, flops: float, bandwidth: float, latency: float, overlap: float
) -> dict[str, float]:
    """Seconds of a step and efficiency, on paper.

    A step computes 6 operations for each weight and token (2 forwards, 4 backwards), and reduces the float32 gradient
    in a ring, where each GPU sends and receives 2 (n - 1) / n times its bytes in 2 (n - 1) hops; over log2 n hops twice
    where a tree takes over, as NCCL does, whichever is faster.

    Args:
        gpus: n.
        parameters: weights that take part in every token's step.
        tokens: of each GPU in a step.
        flops: operations a second that a GPU sustains.
        bandwidth: bytes a second that each GPU can send to another node.
        latency: seconds of one hop.
        overlap: part of the reduction that is done while the backward pass goes on, at most that pass itself.
    """
    compute = 6 * parameters * tokens / flops
    volume = 4 * parameters * 2 * (gpus - 1) / gpus
    hops = min(2 * (gpus - 1), 2 * math.ceil(math.log2(gpus))) if gpus > 1 else 0
    reduce = volume / bandwidth + hops * latency
    hidden = min(overlap * reduce, compute * 2 / 3)
    step = compute + reduce - hidden
    return {
        "gpus": gpus,
        "tokens_per_step": tokens * gpus,
        "compute_seconds": compute,
        "reduction_seconds": reduce,
        "step_seconds": step,
        "tokens_per_second": tokens * gpus / step,
        "efficiency": compute / step,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start torchrun for each number of processes."""
    import torch

    gpus = torch.cuda.device_count()
    rows = []
    for count in options.processes:
        if gpus and count > gpus:
            raise SystemExit(f"--processes {count}: this machine has {gpus} GPUs")
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "row.json"
            sizes = [
                f"--{name}={getattr(options, name)}" for name in ("hidden_size", "num_layers", "batch_size", "bptt")
            ]
            command = [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"),
                *(__file__, "--worker", str(out), f"--steps={options.steps}", *sizes),
            ]
            threads = {} if gpus else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
            finished = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
            if finished.returncode:
                raise SystemExit(f"{count} processes failed:\n{finished.stderr[-3000:]}")
            rows.append(json.loads(out.read_text()))
    base = rows[0]["tokens_per_second"] / rows[0]["processes"]
    for row in rows:
        row["efficiency"] = row["tokens_per_second"] / (row["processes"] * base)
    machine = torch.cuda.get_device_name() if gpus else f"{platform.machine()}, {os.cpu_count()} cores"
    return {"machine": machine, "torch": torch.__version__, "rows": rows}


def work(options: argparse.Namespace) -> None:
    """One process of a measurement; the first writes what came out."""
    import pytorch_lightning as pl
    import torch

    from hybridgen.data import TextData
    from hybridgen.models import LanguageModel
    from hybridgen.tracking import SkipNonFinite

    class Clock(pl.Callback):
        """Times the steps after the warm-up."""

        def __init__(self) -> None:
            self.begun = self.ended = 0.0

        def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int) -> None:
            if trainer.global_step in (WARM_UP, WARM_UP + options.steps):
                if model.device.type == "cuda":
                    torch.cuda.synchronize()
                self.begun, self.ended = self.ended, time.perf_counter()

    pl.seed_everything(0, verbose=False)
    stack = {"cell": "lstm", "hidden_size": options.hidden_size, "num_layers": options.num_layers}
    model = LanguageModel(stack=stack, embedding_size=options.hidden_size, schedule="constant")
    data = TextData(batch_size=options.batch_size, bptt=options.bptt)
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="auto",
        devices=int(os.environ["LOCAL_WORLD_SIZE"]),
        max_steps=WARM_UP + options.steps,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        callbacks=[SkipNonFinite(), clock],
    )
    trainer.fit(model, datamodule=data)
    if trainer.global_rank:
        return
    seconds = (clock.ended - clock.begun) / options.steps
    weights = sum(p.numel() for p in model.parameters())
    row = {
        "processes": trainer.world_size,
        "parameters": weights,
        "tokens_per_step": options.batch_size * options.bptt * trainer.world_size,
        "step_seconds": seconds,
        "tokens_per_second": options.batch_size * options.bptt * trainer.world_size / seconds,
        "bytes_reduced_per_step": 4 * weights if trainer.world_size > 1 else 0,
    }
    Path(options.worker).write_text(json.dumps(row), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
