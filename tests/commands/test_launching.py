"""What follows from how the command was started, and the scripts that start it."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hybridgen.commands.launching import launched, unused_gpu
from hybridgen.tracking import processes
from hybridgen.tracking.run_folder import next_run_folder

SCRIPTS = Path(__file__).parents[2] / "scripts"
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "3"}


def options(devices="auto", num_nodes=1):
    return SimpleNamespace(devices=devices, num_nodes=num_nodes)


def test_auto_is_as_many_as_torchrun_has_started():
    assert launched(options(), TORCHRUN) == {"devices": 2, "num_nodes": 3}
    assert launched(options("2", 3), TORCHRUN) == {"num_nodes": 3}
    assert launched(options(-1), TORCHRUN) == {"devices": 2, "num_nodes": 3}
    assert launched(options(), {}) == {}
    assert launched(options(4, 2), {"SLURM_NTASKS": "8"}) == {}


@pytest.mark.parametrize(
    ("given", "environment", "said"),
    [
        (options(4), TORCHRUN, "trainer.devices is 4, but torchrun started 2 processes"),
        (options(num_nodes=2), TORCHRUN, "trainer.num_nodes is 2, but torchrun was started on 3 nodes"),
        (options(num_nodes=2), {}, "nothing has started the other nodes"),
    ],
)
def test_what_does_not_fit_is_one_sentence(given, environment, said):
    with pytest.raises(ValueError, match=said):
        launched(given, environment)


@pytest.mark.parametrize(("there", "uses", "told"), [(True, "cpu", True), (True, "cuda", False), (False, "cpu", False)])
def test_a_gpu_that_is_not_used_is_told(there, uses, told, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(uses)))
    assert (unused_gpu(trainer) is not None) == told
    assert not told or "--trainer.accelerator gpu" in unused_gpu(trainer)


def test_processes_of_a_slurm_job_have_the_folder_of_the_first(tmp_path, monkeypatch):
    job = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "train"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    found = []
    for rank in ("0", "1"):
        monkeypatch.setenv("SLURM_PROCID", rank)
        monkeypatch.setenv("LOCAL_RANK", "0")  # as on two nodes
        found.append(next_run_folder(tmp_path, "run"))
    assert found == [tmp_path / "run" / "0"] * 2
    monkeypatch.setenv("SLURM_JOB_ID", "8")  # another job makes another
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert next_run_folder(tmp_path, "run") == tmp_path / "run" / "1"
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    with pytest.raises(ValueError, match="the first process of the job has not written"):
        next_run_folder(tmp_path, "run")


@pytest.mark.parametrize(
    ("script", "arguments", "environment", "expected"),
    [
        (
            "launch_torchrun.sh",
            ["2", "--config", "a.yaml"],
            {},
            "torchrun --standalone --nproc_per_node 2 --max_restarts 3 -m hybridgen fit --resume auto --config a.yaml",
        ),
        (
            "launch_nodes.sh",
            ["2", "8", "node1:29500", "--config", "a.yaml"],
            {"RESTARTS": "5"},
            "torchrun --nnodes 2 --nproc_per_node 8 --max_restarts 5 --rdzv_backend c10d --rdzv_endpoint node1:29500 "
            "--rdzv_id hybridgen -m hybridgen fit --resume auto --config a.yaml",
        ),
        (
            "launch_slurm.sh",
            ["--config", "a.yaml"],
            {"SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"},
            "srun --kill-on-bad-exit=1 hybridgen fit --resume auto --trainer.num_nodes 2 --trainer.devices 4 "
            "--config a.yaml",
        ),
    ],
)
def test_launchers_start_what_they_say(script, arguments, environment, expected, tmp_path):
    for name in ("torchrun", "srun"):
        stub = tmp_path / name
        stub.write_text(f'#!/usr/bin/env bash\necho {name} "$@"\n')
        stub.chmod(0o755)
    env = os.environ | environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    finished = subprocess.run([SCRIPTS / script, *arguments], env=env, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == expected
    if script == "launch_slurm.sh":  # told to end, it is queued again
        (tmp_path / "srun").write_text("#!/usr/bin/env bash\nexit 143\n")
        stub = tmp_path / "scontrol"
        stub.write_text('#!/usr/bin/env bash\necho scontrol "$@"\n')
        stub.chmod(0o755)
        ended = subprocess.run([SCRIPTS / script, *arguments], env=env, capture_output=True, text=True)
        assert (ended.returncode, ended.stdout.strip()) == (143, "scontrol requeue 7")
    wrong = subprocess.run([SCRIPTS / script], env=env, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("usage: ")
