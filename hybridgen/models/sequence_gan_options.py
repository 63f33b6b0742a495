"""What the options of a sequence GAN may be, and how its random numbers and learning rates follow from the batch."""

import math
from typing import Any, NamedTuple

import torch

from hybridgen.closest import did_you_mean

MODES = ("direct", "latent", "timegan")
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
    counts = ("autoencoder_steps", "supervisor_steps", "latent_updates", "critic_steps", "penalty_every")
    for name in (*whole, *counts, "accumulate_batches"):
        if not isinstance(options[name], int) or options[name] < 1:
            raise ValueError(f"{name} is {options[name]!r}: give a whole number of at least 1")
    steps = options["warm_start_steps"]
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"warm_start_steps is {steps!r}: give a whole number of at least 0")
    for name in ("penalty_weight", "code_noise", "feature_matching", "moment_weight", "warmup_steps"):
        if options[name] is not None and not options[name] >= 0:
            raise ValueError(f"{name} is {options[name]!r}: give a number of at least 0")
    rates = ("learning_rate", "autoencoder_learning_rate", "critic_learning_rate", "gradient_clip_val", "code_floor")
    for name in (*rates, "critic_threshold"):
        if options[name] is not None and not options[name] > 0:
            raise ValueError(f"{name} is {options[name]!r}: give a number above 0")
    if not 0 <= options["final_learning_rate"] <= 1:
        raise ValueError(f"final_learning_rate is {options['final_learning_rate']!r}: give a fraction, 0 to 1")
    if options["feedback"] and options["mode"] != "direct":
        raise ValueError(f"feedback is of mode 'direct' alone, but mode is {options['mode']!r}: leave it at false")
    if options["feedback"] and (options["stack"] or {}).get("bidirectional"):
        raise ValueError("feedback: true goes step by step, but the stack is bidirectional: set one of them to false")
    if steps and not options["feedback"]:
        raise ValueError(f"warm_start_steps is {steps}, but nothing real can be read before feedback is true: set both")
    if options["mode"] == "latent":
        judged = {"moment_weight": 0.0, "critic_stack": {}, "scores": "both"}
        for name, without in judged.items():
            if (options[name] or without) != without:
                raise ValueError(
                    f"{name} is about a critic of sequences, but mode 'latent' has one of codes: leave it out"
                )
    if options["augmentation"] is not None and options["mode"] != "direct":
        raise ValueError(
            f"augmentation changes sequences, but mode {options['mode']!r} has a critic of codes: leave it out"
        )


class Part(NamedTuple):
    """A part of training, between two batches.

    Attributes:
        name: ``autoencoder``, ``supervisor``, ``warm_start`` or ``adversarial``, which is the last.
        start: its first batch.
        end: the batch after its last.
    """

    name: str
    start: int
    end: float


def parts_of(options: Any, total: float) -> list[Part]:
    """The parts of a training, one after the other, each of at least one batch but for the last.

    Args:
        options: hyperparameters of a sequence GAN.
        total: batches of the whole training.
    """
    lengths = {
        "direct": {"warm_start": options["warm_start_steps"]},
        "latent": {"autoencoder": options["autoencoder_steps"]},
        "timegan": {"autoencoder": options["autoencoder_steps"], "supervisor": options["supervisor_steps"]},
    }[options["mode"]]
    parts, start = [], 0
    for name, steps in lengths.items():
        if steps:
            parts.append(Part(name, start, start + steps))
            start += steps
    return [*parts, Part("adversarial", start, total)]


def part_at(options: Any, step: int, total: float = math.inf) -> Part:
    """The part of training that a batch is of; arguments as of :func:`parts_of`."""
    return next(part for part in reversed(parts_of(options, total)) if step >= part.start)


def random_of(seed: int, number: int, rank: int = 0) -> torch.Generator:
    """Random numbers of one batch (or chunk) of one process: a run that was interrupted draws the same again."""
    key = ((seed * 1_000_003 + number) * 1009 + rank) % (2**63 - 1)
    return torch.Generator().manual_seed(key)
