"""The optimiser that models share: AdamW with warm-up and a cosine or constant schedule."""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

SCHEDULES = ("cosine", "constant")


def adamw(
    modules: Iterable[nn.Module], *, learning_rate: float, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """AdamW whose weight decay is for matrices alone, not for biases, gains and other vectors.

    Loshchilov & Hutter 2019, arXiv:1711.05101.
    """
    parameters = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}.values()
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=betas)


def warmup_then(
    optimizer: torch.optim.Optimizer, *, schedule: str, warmup_steps: int, total_steps: float, final_fraction: float
) -> LambdaLR:
    """A learning rate that rises linearly over ``warmup_steps``, then follows the schedule.

    Args:
        optimizer: its learning rate is the peak.
        schedule: ``"cosine"`` falls to ``final_fraction`` of the peak at ``total_steps``; ``"constant"`` stays.
        warmup_steps: steps until the peak.
        total_steps: steps of the whole training; infinite is allowed for ``"constant"`` only.
        final_fraction: where the cosine ends, of the peak.

    Raises:
        ValueError: if the schedule is unknown, or the cosine has no end.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}: choose one of {', '.join(SCHEDULES)}")
    if schedule == "cosine" and not math.isfinite(total_steps):
        raise ValueError("schedule 'cosine' needs an end: set trainer.max_epochs or max_steps, or use 'constant'")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if schedule == "constant":
            return 1.0
        done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)
