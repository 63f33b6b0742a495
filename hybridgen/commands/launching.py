"""What the trainer is told where a launcher (torchrun, SLURM) has started the processes."""

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import torch


def launched(trainer: Any, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Options of the trainer that follow from how the command was started.

    Under torchrun Lightning takes ``devices auto`` for all devices of the machine (one, on a CPU) and refuses to start
    where torchrun has made another number of processes; here ``auto`` is as many as there are.

    Args:
        trainer: the options of the command line: ``devices`` and ``num_nodes``.
        environment: variables; those of this process by default.

    Returns:
        What to give the trainer instead: nothing, or ``devices`` and ``num_nodes``.

    Raises:
        ValueError: if the options do not fit the processes that there are.
    """
    env = dict(os.environ) if environment is None else environment
    if "TORCHELASTIC_RUN_ID" not in env or "LOCAL_WORLD_SIZE" not in env:
        if int(trainer.num_nodes) > 1 and "SLURM_NTASKS" not in env:
            raise ValueError(
                f"trainer.num_nodes is {trainer.num_nodes}, but nothing has started the other nodes: start the command "
                "on every node by torchrun (scripts/launch_nodes.sh), or by srun (scripts/launch_slurm.sh)"
            )
        if "LOCAL_RANK" not in env and "SLURM_NTASKS" not in env and "MASTER_PORT" in env:
            _check_port(env["MASTER_PORT"], str(trainer.devices))
        return {}
    here, nodes = int(env["LOCAL_WORLD_SIZE"]), int(env.get("GROUP_WORLD_SIZE", 1))
    asked = str(trainer.devices)
    if asked.lstrip("-").isdigit() and int(asked) not in (here, -1):
        raise ValueError(
            f"trainer.devices is {asked}, but torchrun started {here} processes on this node: leave it out, or give "
            f"torchrun --nproc_per_node {asked}"
        )
    if int(trainer.num_nodes) not in (1, nodes):
        raise ValueError(
            f"trainer.num_nodes is {trainer.num_nodes}, but torchrun was started on {nodes} nodes: leave it out"
        )
    given = {"num_nodes": nodes}
    if asked in ("auto", "-1"):
        given["devices"] = here
    return given


def script(path: str) -> str:
    """The file that Lightning runs again for each further process, unless this one was started by ``python -m``.

    Args:
        path: what this process was started as.
    """
    if Path(path).stem == "hybridgen" and Path(path).is_file():
        return str(Path(path).absolute())
    return shutil.which("hybridgen") or "hybridgen"


def _check_port(port: str, devices: str) -> None:
    """Raise where several processes are to meet at a port that somebody else has."""
    several = int(devices) != 1 if devices.lstrip("-").isdigit() else torch.cuda.device_count() > 1
    if not several:
        return
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"MASTER_PORT is {port!r}: give a number of 1 to 65535, or unset it")
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("", int(port)))
        except OSError as error:
            raise ValueError(
                f"MASTER_PORT is {port}, which is taken ({error.strerror}): give another, or unset it"
            ) from None


def unused_gpu(trainer: Any) -> str | None:
    """In one line, that there is a GPU which this training leaves alone; None where there is none, or it is used.

    Args:
        trainer: the Lightning trainer.
    """
    if trainer.strategy.root_device.type != "cpu" or not torch.cuda.is_available():
        return None
    return "this machine has a GPU, which this training does not use: --trainer.accelerator gpu does"


def processes(trainer: Any) -> str | None:
    """In one line, how the work is divided over processes; None for one process alone.

    Args:
        trainer: the Lightning trainer.
    """
    if trainer.world_size < 2:
        return None
    kind = "GPUs" if torch.cuda.is_available() and trainer.strategy.root_device.type == "cuda" else "processes"
    together = trainer.world_size * trainer.accumulate_grad_batches
    return (
        f"{trainer.world_size} {kind} on {trainer.num_nodes} node{'s' if trainer.num_nodes > 1 else ''}: a step is of "
        f"{together} times data.batch_size"
    )
