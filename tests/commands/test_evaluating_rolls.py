"""Scores of generated music: a key that music hardly uses must not decide what counts as a copy."""

from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hybridgen.commands import evaluating_rolls


def rolls(number, seed):
    """Pieces of 8 frames of 6 keys, the last of which nobody plays."""
    played = np.random.default_rng(seed).random((number, 8, 6)) < 0.4
    played[..., 5] = False
    return played.astype(np.float32)


class Model:
    def __init__(self, seed, stray):
        self.seed, self.stray = seed, stray

    def generate(self, number, *, length, seed):
        made = torch.from_numpy(rolls(number, self.seed))
        made[:, 0, 5] = float(self.stray)
        return list(made)


def test_a_stray_key_hardly_counts():
    train = rolls(60, 0)
    train[0, 0, 5] = 1  # played once in all of the training music
    data = SimpleNamespace(parts={"train": SimpleNamespace(rolls=train), "test": SimpleNamespace(rolls=rolls(30, 1))})
    options = Namespace(window=8, num_samples=40, runs=1, iterations=0.0005, seed=0)
    plain, stray = (evaluating_rolls.evaluate(Model(2, stray), data, options) for stray in (False, True))
    assert plain.memorisation.ratio == pytest.approx(1, abs=0.15)
    assert stray.memorisation.ratio == pytest.approx(1, abs=0.3)
    assert stray.manifolds.recall > 0.2
    del data.parts["test"]
    assert evaluating_rolls.evaluate(Model(2, False), data, options).memorisation is None
