"""What several processes must choose alike, and draw otherwise."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hybridgen.tracking import processes
from hybridgen.tracking.processes import NoiseByRank


@pytest.fixture
def chosen(monkeypatch):
    """Three processes of torchrun as threads with one store; what each gets, or the error that it raises."""
    shared = torch.distributed.HashStore()

    def run(choose):
        found = {}

        def one(rank):
            try:
                found[rank] = by_store(rank, choose)
            except ValueError as error:
                found[rank] = str(error)

        def by_store(rank, choose):
            store = torch.distributed.PrefixStore("hybridgen/folder", shared)
            if rank:
                return processes._ask(store, rank)
            time.sleep(0.2)  # the others ask before
            return processes._by_store("folder", choose)

        monkeypatch.setattr(torch.distributed, "rendezvous", lambda url: iter([(shared, 0, 3)]))
        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        return found

    return run


def test_all_have_what_the_first_chooses(chosen):
    calls = []
    assert chosen(lambda: calls.append(1) or "runs/a/0") == dict.fromkeys(range(3), "runs/a/0")
    assert calls == [1]
    # Started again: the store still holds the questions and answers of before.
    assert chosen(lambda: "runs/a/1") == dict.fromkeys(range(3), "runs/a/1")


def test_all_fail_where_the_first_does(chosen):
    def fail():
        raise ValueError("there is no place")

    assert chosen(fail) == dict.fromkeys(range(3), "there is no place")


def test_one_that_never_answers_is_told(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.2)
    with pytest.raises(ValueError, match="the first process has not answered in 0 seconds"):
        processes._ask(torch.distributed.HashStore(), 1)


def test_noise_differs_by_process_and_the_first_draws_what_it_would_alone():
    drawn = []
    for rank in range(3):
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        NoiseByRank().on_fit_start(SimpleNamespace(global_rank=rank), None)
        drawn.append((float(torch.rand(())), float(np.random.rand())))  # noqa: NPY002
    assert len(set(drawn)) == 3
    torch.manual_seed(5)
    assert drawn[0][0] == float(torch.rand(()))
