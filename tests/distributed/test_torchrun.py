"""The real command under torchrun: one run of several processes, and two nodes one of which dies."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .forked import free_port

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

CONFIG = """
model:
  class_path: hybridgen.models.LanguageModel
  init_args: {stack: {cell: gru, hidden_size: 6, num_layers: 1, dropout: 0.1}, embedding_size: 6}
data:
  class_path: hybridgen.data.TextData
  init_args: {train: text.txt, valid: text.txt, codec: bytes, batch_size: 2, bptt: 6, cache_dir: cache}
trainer: {max_steps: 300, accelerator: cpu, enable_progress_bar: false, log_every_n_steps: 1, limit_val_batches: 2,
  enable_model_summary: false}
"""
FIT = ["-m", "hybridgen", "fit", "--config", "small.yaml"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun")
    (folder / "small.yaml").write_text(CONFIG)
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 60)
    return folder


def torchrun(folder, *options, log):
    """Start torchrun; what it says goes into a file."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")} | {"OMP_NUM_THREADS": "1"}
    env["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # as scripts/launch_nodes.sh does
    command = [sys.executable, "-m", "torch.distributed.run", *options]
    with (folder / log).open("w") as file:
        return subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=subprocess.STDOUT)


def losses(run):
    """The training loss by step; every step is there once."""
    rows = [row for row in csv.DictReader((run / "metrics.csv").open()) if row["train/loss"]]
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps))
    return {int(row["step"]): float(row["train/loss"]) for row in rows}


@pytest.fixture(scope="module")
def uninterrupted(folder):
    """A run of two processes on one node."""
    started = torchrun(folder, "--standalone", "--nproc_per_node", "2", *FIT, "--wandb", "offline", log="whole.log")
    assert started.wait(timeout=400) == 0, (folder / "whole.log").read_text()[-4000:]
    return folder / "runs" / "small" / "0"


def test_two_processes_are_one_run(uninterrupted, folder):
    assert [p.name for p in uninterrupted.parent.iterdir()] == ["0"]
    assert len(list((uninterrupted / "wandb").glob("offline-run-*"))) == 1
    assert sorted(losses(uninterrupted)) == list(range(300))
    said = (folder / "whole.log").read_text()
    assert said.count("run folder: ") == 1
    assert "2 processes on 1 node: a step is of 2 times data.batch_size" in said


def workers_of(process):
    """Processes that a process has started, by Linux's own list."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux to find torchrun's workers")
def test_a_node_that_dies_is_started_again_and_nothing_is_lost(uninterrupted, folder):
    port = free_port()
    meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}", "--rdzv_id", "test"]
    nodes = ["--nnodes", "2", "--nproc_per_node", "1", "--max_restarts", "3", "--local_addr", "127.0.0.1", *meeting]
    again = ["--name", "elastic", "--wandb", "off", "--resume", "auto", "--save_every_batches", "20"]
    agents = [torchrun(folder, *nodes, *FIT, *again, log=f"node{number}.log") for number in range(2)]

    def told():
        return "\n".join((folder / f"node{number}.log").read_text()[-4000:] for number in range(2))

    try:
        run = folder / "runs" / "elastic" / "0"
        saved = run / "checkpoints" / "last.ckpt"
        limit = time.monotonic() + 240
        while not saved.is_file():
            assert time.monotonic() < limit, told()
            assert all(agent.poll() is None for agent in agents), told()
            time.sleep(0.02)
        (worker,) = workers_of(agents[1])
        os.kill(worker, signal.SIGKILL)
        assert [agent.wait(timeout=400) for agent in agents] == [0, 0], told()
    finally:
        for agent in agents:
            agent.kill()
    assert "going on with" in (folder / "node0.log").read_text() + (folder / "node1.log").read_text()
    assert [p.name for p in run.parent.iterdir() if p.name.isdigit()] == ["0"]
    whole, interrupted = losses(uninterrupted), losses(run)
    assert interrupted == pytest.approx(whole, abs=1e-6)
    assert json.loads((run / "run.json").read_text())["state"] == "finished"
