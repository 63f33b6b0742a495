import numpy as np
import torch

from hybridgen.generation.randomness import GOLDEN_GAMMA, mix, uniforms

from .toy_models import chi_square_is_plausible


def test_mix_gives_the_published_splitmix64_sequence():
    states = np.asarray([1234567], dtype=np.uint64) + np.arange(1, 4, dtype=np.uint64) * GOLDEN_GAMMA
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_draws_are_pinned():
    # Samples of a seed must stay the same from release to release.
    assert uniforms(1, [0, 7], 0).tolist() == [0.6935121390102292, 0.4206846226673492]


def test_a_draw_depends_on_its_own_sample_only():
    alone = [float(uniforms(3, [number], 5)[0]) for number in (0, 9, 4)]
    assert uniforms(3, np.array([0, 9, 4]), 5).tolist() == alone
    assert len({*alone, *uniforms(3, [0, 9, 4], 6), *uniforms(4, [0, 9, 4], 5)}) == 9


def test_draws_are_uniform_across_samples_steps_and_seeds():
    families = [
        uniforms(0, np.arange(20000), 0),
        np.concatenate([uniforms(0, [3], step) for step in range(5000)]),
        np.concatenate([uniforms(seed, [3], 7) for seed in range(5000)]),
    ]
    for draws in families:
        assert draws.min() >= 0
        assert draws.max() < 1
        counts = torch.bincount(torch.from_numpy((draws * 50).astype(np.int64)), minlength=50)
        assert chi_square_is_plausible(counts, torch.full((50,), len(draws) / 50))


def test_successive_draws_and_neighbouring_samples_are_independent():
    now, later = uniforms(0, np.arange(20000), 0), uniforms(0, np.arange(20000), 1)
    for first, second in ((now, later), (now[:-1], now[1:]), (now, uniforms(1, np.arange(20000), 0))):
        cells = (first * 8).astype(np.int64) * 8 + (second * 8).astype(np.int64)
        counts = torch.bincount(torch.from_numpy(cells), minlength=64)
        assert chi_square_is_plausible(counts, torch.full((64,), len(first) / 64))
