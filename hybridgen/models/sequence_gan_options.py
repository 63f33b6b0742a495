"""What the options of a sequence GAN may be, and how its random numbers and learning rates follow from the batch."""

import math
from typing import Any

import torch

from hybridgen.closest import did_you_mean

MODES = ("direct", "latent")
PENALTIES = ("gradient_penalty", "r1_r2", "r1", "none")
SCORES = ("both", "sequence", "steps")
SCHEDULES = ("cosine", "constant")


def check_options(options: dict[str, Any]) -> None:
    """Check the value of every option.

    Raises:
        ValueError: if one does not fit; the message names the option.
    """
    for name, known in (("mode", MODES), ("penalty", PENALTIES), ("scores", SCORES), ("schedule", SCHEDULES)):
        if options[name] not in known:
            hint = did_you_mean(options[name], known, f"choose one of {', '.join(known)}")
            raise ValueError(f"{name} is {options[name]!r}: {hint}")
    whole = ("sequence_noise", "step_noise", "steps_per_call", "code_size", "hidden_size", "num_layers")
    for name in (*whole, "autoencoder_steps", "latent_updates", "critic_steps", "penalty_every", "accumulate_batches"):
        if not isinstance(options[name], int) or options[name] < 1:
            raise ValueError(f"{name} is {options[name]!r}: give a whole number of at least 1")
    for name in ("penalty_weight", "code_noise", "feature_matching", "moment_weight", "warmup_steps"):
        if not options[name] >= 0:
            raise ValueError(f"{name} is {options[name]!r}: give a number of at least 0")
    rates = ("learning_rate", "autoencoder_learning_rate", "critic_learning_rate", "gradient_clip_val", "code_floor")
    for name in rates:
        if options[name] is not None and not options[name] > 0:
            raise ValueError(f"{name} is {options[name]!r}: give a number above 0")
    if not 0 <= options["final_learning_rate"] <= 1:
        raise ValueError(f"final_learning_rate is {options['final_learning_rate']!r}: give a fraction, 0 to 1")


def random_of(seed: int, number: int, rank: int = 0) -> torch.Generator:
    """Random numbers of one batch (or chunk) of one process: a run that was interrupted draws the same again."""
    key = ((seed * 1_000_003 + number) * 1009 + rank) % (2**63 - 1)
    return torch.Generator().manual_seed(key)


def rate_factor(schedule: str, done: int, total: float, final: float, warmup: int) -> float:
    """The learning rate as a fraction of its peak after ``done`` of ``total`` batches."""
    if done < warmup:
        return (done + 1) / (warmup + 1)
    if schedule == "constant" or not math.isfinite(total):
        return 1.0
    part = min(1.0, (done - warmup) / max(1.0, total - warmup))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * part))
