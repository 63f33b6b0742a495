"""Two processes that share a batch train as one that has all of it: gloo on this machine's CPU."""

import pytest
import torch

from .forked import exit_codes
from .scenarios import SCENARIOS, run

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo"),
]


def train(rank, name, folder):
    torch.save(vars(run(name, folder, 2)), folder / f"{rank}.pt")


def in_two_processes(name, folder):
    """Train a scenario; what the first process has and what the second."""
    assert exit_codes(train, name, folder) == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_are_one(name, tmp_path):
    found = in_two_processes(name, tmp_path)
    assert differences(run(name, tmp_path, 1), *found) == []


def test_a_number_gone_wrong_in_one_process(tmp_path):
    """Both leave the step out, and go on together."""
    first, second = in_two_processes("one_rank_breaks", tmp_path)
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
    if first["test"] != second["test"]:
        found.append("the processes have different test figures")
    for name, value in alone.test.items():
        if not abs(first["test"][name] - value) <= 1e-5 * abs(value):
            found.append(f"{name} is {first['test'][name]}, alone {value}")
    if torch.equal(first["drawn"], second["drawn"]):
        found.append("the processes draw the same noise")
    if not torch.equal(first["drawn"], alone.drawn):
        found.append("the first process draws otherwise than alone")
    if first["skipped"] or second["skipped"]:
        found.append("steps were skipped")
    return found
