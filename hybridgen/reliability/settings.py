"""Settings of optimisers and schedules that were changed between the start of a run and now: they hold from now on.

An optimiser's saved state has its settings in it, the learning rate too, which would silently undo what was asked for.
"""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def settings_of(optimizers: list[Optimizer]) -> list[list[dict[str, Any]]]:
    """The settings of every group of parameters, as plain values."""
    return [
        [
            {name: _plain(value) for name, value in group.items() if name != "params" and not isinstance(value, Tensor)}
            for group in optimizer.param_groups
        ]
        for optimizer in optimizers
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def apply_changes(
    optimizers: list[Optimizer],
    schedulers: list[LRScheduler],
    then: list[list[dict[str, Any]]],
    now: list[list[dict[str, Any]]],
) -> None:
    """Let what was changed hold, and leave all else as it was restored.

    A learning rate that was changed takes its place as the schedule's peak: the rate in force is multiplied by the
    ratio of the two.

    Args:
        optimizers: with their saved state.
        schedulers: of them, with their saved state.
        then: settings with which they were made when the run started, by :func:`settings_of`.
        now: settings with which they were made now.
    """
    if [len(groups) for groups in then] != [len(groups) for groups in now]:
        return
    for optimizer, old_groups, new_groups in zip(optimizers, then, now, strict=True):
        for group, old, new in zip(optimizer.param_groups, old_groups, new_groups, strict=True):
            for name in new:
                if name in ("lr", "initial_lr") or old.get(name) == new[name]:
                    continue
                group[name] = tuple(new[name]) if isinstance(new[name], list) else new[name]
            before, after = (values.get("initial_lr", values["lr"]) for values in (old, new))
            if before != after:
                group["lr"] = group["lr"] * after / before if before else after
                if "initial_lr" in group:
                    group["initial_lr"] = after
    for scheduler in schedulers:
        if hasattr(scheduler, "base_lrs"):
            scheduler.base_lrs = [group["initial_lr"] for group in scheduler.optimizer.param_groups]


def reschedule(schedulers: list[LRScheduler]) -> None:
    """Compute the rates in force anew, where a schedule says them from its own options and the number of steps."""
    for scheduler in schedulers:
        if type(scheduler) is LambdaLR:
            for group, base, shape in zip(
                scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
            ):
                group["lr"] = base * shape(scheduler.last_epoch)
            scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]
