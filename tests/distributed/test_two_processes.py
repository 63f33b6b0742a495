"""Two processes that share a batch train as one that has all of it: gloo on this machine's CPU."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .scenarios import OTHERS, SCENARIOS, run

pytestmark = pytest.mark.distributed


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def two_processes(folder, *names):
    """Run scenarios in two processes; for each, what the first has and what the second."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    script = Path(__file__).parent / "scenarios.py"
    processes = []
    for rank in range(2):
        env = os.environ | address | {"LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(script), str(folder), *names]
        processes.append(
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(said)[-4000:]
    read = [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for name in names for rank in range(2)]
    return dict(zip(names, zip(read[::2], read[1::2], strict=True), strict=True))


def test_two_processes_are_one(tmp_path):
    """One test for all models: what takes long is starting the processes."""
    found = two_processes(tmp_path, *SCENARIOS, *OTHERS)
    wrong = {name: differences(run(name, tmp_path, 1), *found[name]) for name in SCENARIOS}
    assert wrong == {name: [] for name in SCENARIOS}
    # A number gone wrong in one process: both leave the step out, and go on together.
    first, second = found["one_rank_breaks"]
    assert first["skipped"] == second["skipped"] == 2  # once in each epoch
    assert torch.equal(first["weights"], second["weights"])
    assert first["weights"].isfinite().all()


def differences(alone, first, second):
    """What two processes have otherwise than one that trained alone, in words."""
    found = []
    for values in (first["losses"], second["losses"]):
        worst = max(abs(a - b) / max(1, abs(b)) for a, b in zip(values, alone.losses, strict=True))
        if not worst <= 1e-5:
            found.append(f"losses differ by {worst}")
    worst = float((first["weights"] - alone.weights).abs().max())
    if not worst <= 1e-5:
        found.append(f"weights differ by {worst}")
    if not torch.equal(first["weights"], second["weights"]):
        found.append("the processes have different weights")
    if len(set(alone.losses)) < 4:
        found.append("nothing was learned")
    if first["validation"] != second["validation"] or not first["validation"]:
        found.append("the processes have different validation figures")
    # Where no random numbers are in it.
    for name in ("val/loss", "val/nats_per_frame"):
        drawn = "val/elbo" in alone.validation or "val/elbo_per_frame" in alone.validation
        if name in alone.validation and not drawn:
            worst = abs(first["validation"][name] - alone.validation[name])
            if not worst <= 1e-5:
                found.append(f"{name} differs by {worst}")
    if torch.equal(first["drawn"], second["drawn"]):
        found.append("the processes draw the same noise")
    if not torch.equal(first["drawn"], alone.drawn):
        found.append("the first process draws otherwise than alone")
    if first["skipped"] or second["skipped"]:
        found.append("steps were skipped")
    return found
