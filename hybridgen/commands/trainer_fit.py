"""Whether the trainer's options fit the model and this machine, asked before anything starts; Lightning's own answers
do not say what to do instead."""

from typing import Any

import torch

#: Models that step their optimisers themselves have options of their own for what the trainer cannot do for them.
_OWN = {"accumulate_grad_batches": "accumulate_batches", "gradient_clip_val": "gradient_clip_val"}


def check_trainer(trainer: Any, model: Any, data: Any, *, default_clip: float, training: bool) -> None:
    """Check that trainer, model and data fit each other and the machine.

    Args:
        trainer: the trainer's options, as the command line gives them.
        model: the model.
        data: the data module, or None.
        default_clip: the trainer's ``gradient_clip_val`` where nobody has chosen one.
        training: whether the model is to be trained.

    Raises:
        ValueError: if they do not; the message names the option.
    """
    if data is None:
        raise ValueError(
            "there is no data: give a configuration with data, or --data and a class such as hybridgen.data.TextData"
        )
    wants_gpu = str(trainer.accelerator) in ("gpu", "cuda")
    if wants_gpu and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator is {trainer.accelerator}, but torch sees no GPU: leave it out, or see what "
            "hybridgen doctor says of the devices"
        )
    if str(trainer.devices) == "0":
        raise ValueError("trainer.devices is 0: give the number of devices, at least 1, or auto")
    if not training:
        return
    name = type(model).__name__
    if not model.automatic_optimization:
        unset = {"accumulate_grad_batches": (None, 1), "gradient_clip_val": (None, default_clip)}
        for option, kept in unset.items():
            if getattr(trainer, option) in kept:
                continue
            own = _OWN[option]
            instead = f"use model.{own}" if own in getattr(model, "options", {}) else "leave it out"
            raise ValueError(f"trainer.{option} is not for {name}, which steps its optimisers itself: {instead}")
    strategy = trainer.strategy if isinstance(trainer.strategy, str) else type(trainer.strategy).__name__
    if "fsdp" in strategy.lower():
        if not torch.cuda.is_available():
            raise ValueError(f"trainer.strategy is {strategy}, which needs GPUs: use ddp")
        if not model.automatic_optimization:
            raise ValueError(f"trainer.strategy {strategy} cannot train {name}, whose networks take turns: use ddp")
        if trainer.gradient_clip_val is not None and trainer.gradient_clip_algorithm in (None, "norm"):
            raise ValueError(
                f"trainer.strategy {strategy} cannot clip gradients by their norm: give --trainer.gradient_clip_val "
                "null, or use ddp"
            )
