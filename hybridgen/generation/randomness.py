"""Random numbers that belong to a sample, not to a batch.

The draw for new token t of sample i under seed s is a function of (s, i, t) alone, so sample 7 of seed 1 is
the same whether it is drawn alone, in a batch of 64, or after an interruption. Nothing is carried from step
to step.

Sample i of seed s owns one SplitMix64 stream. With G = 0x9E3779B97F4A7C15, all sums modulo 2**64:

    state(s, i)      = mix(mix(s + G) + (i + 1) G)
    uniform(s, i, t) = (mix(state(s, i) + (t + 1) G) >> 11) * 2**-53, in [0, 1)

``mix`` is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators").
"""

from collections.abc import Sequence

import numpy as np

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seed: int, samples: Sequence[int] | np.ndarray, step: int) -> np.ndarray:
    """One uniform number in [0, 1) for each sample.

    Args:
        seed: in [0, 2**64).
        samples: ``(B,)`` numbers of the samples, >= 0.
        step: number of the draw, >= 0; in generation, tokens generated so far.

    Returns:
        ``(B,)`` float64.
    """
    return uniforms_of_steps(seed, samples, step, 1)[0]


def uniforms_of_steps(seed: int, samples: Sequence[int] | np.ndarray, first: int, count: int) -> np.ndarray:
    """``uniforms`` of the ``count`` steps from ``first`` on, ``(count, B)``: one call of NumPy's for many steps."""
    seed_key = mix(np.asarray([seed], dtype=np.uint64) + GOLDEN_GAMMA)
    states = mix(seed_key + (np.asarray(samples, dtype=np.uint64) + np.uint64(1)) * GOLDEN_GAMMA)  # (B,)
    steps = np.arange(first + 1, first + 1 + count, dtype=np.uint64)[:, None]
    bits = mix(states + steps * GOLDEN_GAMMA)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, a bijection of 64-bit words.

    Args:
        values: uint64 array of any shape; arithmetic wraps modulo 2**64.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
