"""Several processes that train one model: what they must do alike, and what each must do in its own way."""

import os
import random
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from hybridgen.data.files import write_text

#: Seconds that the other processes wait for what the first one chooses.
PATIENCE = 120.0
#: Stores that this process has: the first may be where the others' stores are, for as long as it lives.
_STORES: list[torch.distributed.Store] = []


class NoiseByRank(pl.Callback):
    """Gives every process but the first random numbers of its own, for dropout, latents and the noise of a GAN.

    After ``seed_everything`` all processes draw the same, so that n of them would see one draw n times. What the data
    is shuffled by has a seed of its own and stays the same; the first process draws what it would draw alone.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the random state of a checkpoint is restored, which has each process's own already."""
        rank = trainer.global_rank
        if rank:
            seed = (torch.initial_seed() + 1_000_003 * rank) % 2**63
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002  # libraries that draw from it


def chosen_by_first(what: str, choose: Callable[[], str], folder: str | Path) -> str:
    """What the first of the processes that a launcher started chooses; the others wait for it.

    Under torchrun they ask the store that it made for them; under SLURM a small file, named after the job and its
    step, in a folder that all of them see.

    Args:
        what: a name for it, the same in all processes, another for each choice.
        choose: is called in the first process alone, or in every one where no launcher started it.
        folder: where the file goes.

    Raises:
        ValueError: if the first process chooses nothing in two minutes.
    """
    if _torchrun():
        return _by_store(what, choose)
    job = _slurm_job()
    return choose() if job is None else _by_file(f"{what}-{job}", choose, Path(folder))


def _torchrun() -> bool:
    return torch.distributed.is_torchelastic_launched() and int(os.environ.get("WORLD_SIZE", 1)) > 1


def _slurm_job() -> str | None:
    """A name that only the processes of this start of this job step have, or None outside of a job with several."""
    env = os.environ
    if "SLURM_PROCID" not in env or int(env.get("SLURM_NTASKS", 1)) < 2 or env.get("SLURM_JOB_NAME") in ("bash", "sh"):
        return None
    parts = (env.get("SLURM_JOB_ID", "0"), env.get("SLURM_STEP_ID", "0"), env.get("SLURM_RESTART_COUNT", "0"))
    return "-".join(parts)


def _by_store(what: str, choose: Callable[[], str]) -> str:
    store, rank, size = next(torch.distributed.rendezvous("env://"))
    _STORES.append(store)
    store = torch.distributed.PrefixStore(f"hybridgen/{what}", store)
    if rank:
        return _ask(store, rank)
    # Where torchrun has started the processes again, the store may still hold what those before them asked.
    for other in range(1, size):
        store.delete_key(f"ask/{other}")
    try:
        chosen, failure = choose(), None
    except Exception as error:
        chosen, failure = "", error
    _answer(store, range(1, size), f"failed {failure}" if failure else f"chosen {chosen}")
    if failure:
        raise failure
    return chosen


def _ask(store: torch.distributed.Store, rank: int) -> str:
    """Ask until there is an answer: the first question may be deleted with those of earlier processes."""
    question, begun = uuid.uuid4().hex, time.monotonic()
    while not store.check([f"answer/{question}"]):
        if time.monotonic() - begun > PATIENCE:
            raise ValueError(f"the first process has not answered in {PATIENCE:.0f} seconds: see its output")
        store.set(f"ask/{rank}", question)
        time.sleep(0.05)
    state, _, text = store.get(f"answer/{question}").decode().partition(" ")
    store.set(f"heard/{question}", "")
    if state == "failed":
        raise ValueError(text)
    return text


def _answer(store: torch.distributed.Store, others: range, text: str) -> None:
    """Answer every other process, and wait until it has heard; one that never asks has died."""
    waiting, begun = set(others), time.monotonic()
    while waiting and time.monotonic() - begun < PATIENCE:
        for rank in sorted(waiting):
            if not store.check([f"ask/{rank}"]):
                continue
            question = store.get(f"ask/{rank}").decode()
            store.set(f"answer/{question}", text)
            if store.check([f"heard/{question}"]):
                waiting.discard(rank)
        time.sleep(0.02)


def _by_file(name: str, choose: Callable[[], str], folder: Path) -> str:
    file = folder / f".{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}"
    if int(os.environ["SLURM_PROCID"]) == 0:
        chosen = choose()
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, chosen)
        return chosen
    waited = time.monotonic()
    while not file.is_file():
        if time.monotonic() - waited > PATIENCE:
            raise ValueError(
                f"the first process of the job has not written {file} in {PATIENCE:.0f} seconds: see its output, and "
                "that all nodes share this folder"
            )
        time.sleep(0.1)
    return file.read_text(encoding="utf-8")
