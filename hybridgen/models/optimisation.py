"""Optimisers and learning-rate schedules by name, as configurations hold them."""

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LinearLR, ReduceLROnPlateau

from hybridgen.closest import did_you_mean
from hybridgen.models.processes import whole_parameters
from hybridgen.objectives.variational import KLControl

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
#: Each schedule's own options and their defaults.
SCHEDULES: dict[str, dict[str, Any]] = {
    "cosine": {},
    "constant": {},
    "step": {"after": 4, "every": 1, "factor": 0.5},
    "plateau": {"patience": 1, "factor": 0.5, "threshold": 1.0e-4, "monitor": "val/loss"},
}


def make_optimizer(
    modules: Iterable[nn.Module],
    name: str = "adamw",
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    options: dict[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """An optimiser over the parameters of some modules, each once.

    Weight decay is for matrices alone, not for biases, gains and other vectors.

    Args:
        modules: whose parameters are trained.
        name: ``adamw`` (Loshchilov & Hutter 2019, arXiv:1711.05101), ``adam``, ``sgd``, ``rmsprop``, ``adagrad``.
        learning_rate: where a schedule starts or peaks.
        weight_decay: of matrices.
        options: further arguments of torch's class, such as ``{momentum: 0.9}``.

    Raises:
        ValueError: if there is no such optimiser or option, or a value does not fit.
    """
    if name not in OPTIMIZERS:
        otherwise = f"choose one of {', '.join(OPTIMIZERS)}"
        raise ValueError(f"there is no optimizer {name!r}: {did_you_mean(name, OPTIMIZERS, otherwise)}")
    cls = OPTIMIZERS[name]
    own = [option for option in inspect.signature(cls).parameters if option not in ("params", "lr", "weight_decay")]
    _check_options(f"optimizer {name!r}", options or {}, own)
    parameters = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}.values()
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    try:
        return cls([g for g in groups if g["params"]], lr=learning_rate, **(options or {}))
    except TypeError as error:
        raise ValueError(f"an option of optimizer {name!r} has a value of the wrong type: {error}") from None


def configure(module: Any) -> tuple[list[torch.optim.Optimizer], list[dict[str, Any]]]:
    """Optimiser and schedule of a Lightning module by its hyperparameters: what ``configure_optimizers`` returns.

    Args:
        module: with a trainer, and the hyperparameters ``optimizer``, ``optimizer_options``, ``learning_rate``,
            ``weight_decay``, ``betas``, ``schedule``, ``schedule_options``, ``warmup_steps`` and
            ``final_learning_rate``.

    Raises:
        ValueError: if one of them does not fit.
    """
    options = module.hparams
    betas = {"betas": tuple(options.betas)} if options.optimizer in ("adamw", "adam") else {}
    with whole_parameters(module):
        optimizer = make_optimizer(
            [module],
            options.optimizer,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            options=betas | (options.optimizer_options or {}),
        )
    fuse_(optimizer, module.device)
    schedulers = make_schedule(
        optimizer,
        options.schedule,
        module.trainer,
        warmup_steps=options.warmup_steps,
        final_fraction=options.final_learning_rate,
        options=options.schedule_options,
    )
    return [optimizer], schedulers


def fuse_(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Let Adam go over the weights once, by torch's fused kernel, where there is one.

    On a CPU that is a third of the time of an update and a tenth of a whole step of a word model. Set on the groups
    rather than in the constructor, which Lightning's gradient clipping in half precision refuses.

    Args:
        optimizer: left as it is unless it is an ``Adam`` or ``AdamW`` for which no implementation was chosen.
        device: where the weights are.
    """
    if not isinstance(optimizer, torch.optim.Adam) or device.type not in ("cpu", "cuda"):
        return
    for group in optimizer.param_groups:
        if not any(group.get(name) for name in ("fused", "foreach", "differentiable")):
            group["fused"] = True


def adamw(
    modules: Iterable[nn.Module], *, learning_rate: float, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """:func:`make_optimizer` for AdamW."""
    options = {"betas": tuple(betas)}
    return make_optimizer(modules, learning_rate=learning_rate, weight_decay=weight_decay, options=options)


def make_schedule(
    optimizer: torch.optim.Optimizer,
    name: str,
    trainer: Any,
    *,
    warmup_steps: int = 0,
    final_fraction: float = 0.05,
    options: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """A schedule as Lightning takes it: the second of what ``configure_optimizers`` returns.

    Args:
        optimizer: its learning rate is the peak.
        name: one of these, all after a linear warm-up:

            * ``cosine``: falls to ``final_fraction`` of the peak at the end of training.
            * ``constant``.
            * ``step``: multiplied by ``factor`` after the first ``after`` epochs, and again every ``every`` epochs
              (Zaremba et al. 2014, arXiv:1409.2329: 4 or 6, 1, 0.5 or 1 / 1.2).
            * ``plateau``: multiplied by ``factor`` when ``monitor`` has not fallen by ``threshold`` of itself for more
              than ``patience`` validations that end an epoch.
        trainer: the trainer; asked for the number of steps.
        warmup_steps: steps until the peak.
        final_fraction: of ``cosine``.
        options: what ``step`` and ``plateau`` have of their own, as above.

    Raises:
        ValueError: if there is no such schedule or option, a value does not fit, or the cosine has no end.
    """
    if name not in SCHEDULES:
        otherwise = f"choose one of {', '.join(SCHEDULES)}"
        raise ValueError(f"schedule is {name!r}: {did_you_mean(name, SCHEDULES, otherwise)}")
    _check_options(f"schedule {name!r}", options or {}, SCHEDULES[name])
    chosen = SCHEDULES[name] | (options or {})
    if "factor" in chosen and not 0 < chosen["factor"] < 1:
        raise ValueError(f"factor of schedule {name!r} is {chosen['factor']}: give a number between 0 and 1")
    if name == "plateau":
        reduce = ReduceLROnPlateau(
            optimizer, factor=chosen["factor"], patience=chosen["patience"], threshold=chosen["threshold"]
        )
        plateau = {"scheduler": reduce, "interval": "epoch", "monitor": chosen["monitor"]}
        if warmup_steps == 0:
            return [plateau]
        # Of torch's schedulers the one that multiplies what is there, and so leaves the reductions alone.
        rise = LinearLR(optimizer, start_factor=1 / (warmup_steps + 1), total_iters=warmup_steps)
        return [{"scheduler": rise, "interval": "step"}, plateau]
    total_steps = trainer.estimated_stepping_batches  # also makes the loaders, which num_training_batches needs
    if name == "step":
        after, every = chosen["after"], chosen["every"]
        if after < 0 or every < 1:
            raise ValueError(f"schedule 'step' has after={after} and every={every}: give at least 0 and 1, in epochs")
        per_epoch = steps_per_epoch(trainer)

        def shape(step: int) -> float:
            return chosen["factor"] ** math.ceil(max(0, step // per_epoch - after + 1) / every)

        scheduler = LambdaLR(optimizer, _warmed_up(shape, warmup_steps))
    else:
        scheduler = warmup_then(
            optimizer,
            schedule=name,
            warmup_steps=warmup_steps,
            total_steps=total_steps,
            final_fraction=final_fraction,
        )
    return [{"scheduler": scheduler, "interval": "step"}]


def steps_per_epoch(trainer: Any) -> int:
    """Optimiser steps of an epoch.

    Args:
        trainer: one that has loaded its data, as it has in ``on_train_start``; before, ``on_fit_start`` included, it
            takes an epoch for endless.

    Raises:
        ValueError: if the data does not say how long an epoch is.
    """
    batches = trainer.num_training_batches
    if not math.isfinite(batches):
        raise ValueError("the data does not say how long an epoch is: give schedules in steps")
    return max(1, math.ceil(batches / trainer.accumulate_grad_batches))


def tell_epoch_length(kl_control: KLControl, trainer: Any) -> None:
    """Let schedules of the KL that are in epochs know how long one is; for ``on_train_start``.

    Raises:
        ValueError: if there are such, and the data does not say.
    """
    if any(schedule.epochs is not None for schedule in kl_control.schedules):
        kl_control.set_steps_per_epoch(steps_per_epoch(trainer))


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
    if schedule not in ("cosine", "constant"):
        raise ValueError(f"schedule is {schedule!r}: choose one of cosine, constant")
    check_end(schedule, total_steps)

    def factor(step: int) -> float:
        return rate_factor(schedule, step, total_steps, final_fraction, warmup_steps)

    return LambdaLR(optimizer, factor)


def check_end(schedule: str, total_steps: float) -> None:
    """Check that a schedule which needs the end of training has one.

    Raises:
        ValueError: if it has not.
    """
    if schedule == "cosine" and not math.isfinite(total_steps):
        raise ValueError("schedule 'cosine' needs an end: set trainer.max_epochs or max_steps, or use 'constant'")


def rate_factor(schedule: str, done: int, total: float, final: float, warmup: int) -> float:
    """The learning rate as a fraction of its peak after ``done`` of ``total`` steps; see :func:`warmup_then`."""
    if done < warmup:
        return (done + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    part = min(1.0, (done - warmup) / max(1.0, total - warmup))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * part))


def _warmed_up(shape: Callable[[int], float], warmup_steps: int) -> Callable[[int], float]:
    return lambda step: (step + 1) / (warmup_steps + 1) if step < warmup_steps else shape(step)


def _check_options(owner: str, options: dict[str, Any], known: Iterable[str]) -> None:
    known = list(known)
    for option in options:
        if option not in known:
            otherwise = f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"{owner} has no option {option!r}: {did_you_mean(option, known, otherwise)}")
