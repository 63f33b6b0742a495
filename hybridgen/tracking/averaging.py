"""Averages of the weights over training, which nearly always evaluate better than the last weights.

Both callbacks keep a second copy of the weights beside the trained ones. Validation, samples and the checkpoint's
``state_dict`` are of the average; the trained weights lie in the checkpoint too, so that training goes on exactly.
Lightning's own callback does the copying; what is added here is when to average, and models whose layers depend on
the data (a vocabulary) and are made late.
"""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, WeightAveraging
from torch import Tensor


class _Averaging(WeightAveraging):
    """What both averages share."""

    def __init__(self, **options: Any) -> None:
        # Buffers are copied: an average of counts and indices means nothing.
        super().__init__(use_buffers=False, **options)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the copy, after the model has all its layers; stand just before the checkpoint callbacks."""
        if stage == "fit":
            # Lightning sets callbacks up before the model. Our models may be set up twice.
            pl_module.setup(stage)
            # What runs between here and on_validation_end (samples, say) sees the average.
            others = [c for c in trainer.callbacks if c is not self]
            first = next((i for i, c in enumerate(others) if isinstance(c, Checkpoint)), len(others))
            trainer.callbacks = [*others[:first], self, *others[first:]]
        super().setup(trainer, pl_module, stage)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the average in place until the validation's end."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the trained weights back."""
        if self._average_model is not None:
            self._swap_models(pl_module)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore both sets of weights where training goes on; to evaluate, the average is all there is to load."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class ExponentialAveraging(_Averaging):
    """Exponential moving average of the weights after every step (Polyak & Juditsky 1992).

        average += (1 - d) * (weights - average),   d = min(decay, (1 + n) / (10 + n)) after n steps

    so that the first weights, which mean little, are soon forgotten.

    Args:
        decay: how much of the average stays with each step, in [0, 1). 0.999 looks back over a thousand steps.

    Raises:
        ValueError: if ``decay`` does not fit.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay of ExponentialAveraging is {decay}: give a number in [0, 1)")

        def average(averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
            steps = int(count)
            torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + steps) / (10 + steps)))

        super().__init__(multi_avg_fn=average)
        self.decay = decay


class TriggeredAveraging(_Averaging):
    """Mean of the weights over all steps since validation stopped improving: NT-ASGD.

    Non-monotonically triggered averaging, Merity et al. 2018, arXiv:1708.02182: from the first validation on whose
    value is worse than the best of those more than ``patience`` validations before it. Until then the weights are
    what they are. Made for a constant learning rate.

    Args:
        patience: the paper's n.
        monitor: the validation value, less is better.

    Raises:
        ValueError: if ``patience`` is less than 1; in training, if nothing of the name is logged.
    """

    def __init__(self, patience: int = 5, monitor: str = "val/loss") -> None:
        if patience < 1:
            raise ValueError(f"patience of TriggeredAveraging is {patience}: give at least 1")
        super().__init__()
        self.patience = patience
        self.monitor = monitor
        self.triggered = False
        self.history: list[float] = []

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return self.triggered and step_idx is not None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._follow(pl_module)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the monitored figure.

        Raises:
            ValueError: if validation logs no such figure.
        """
        super().on_validation_end(trainer, pl_module)
        if trainer.sanity_checking or self.triggered:
            return
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            known = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise ValueError(f"monitor of TriggeredAveraging is {self.monitor!r}, but validation logs {known}")
        earlier = self.history[: -self.patience]
        self.triggered = bool(earlier) and float(value) > min(earlier)
        self.history.append(float(value))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._follow(pl_module)
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._follow(pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"triggered": self.triggered, "history": list(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.triggered = state_dict["triggered"]
        self.history = list(state_dict["history"])

    def _follow(self, pl_module: pl.LightningModule) -> None:
        """Until it is triggered, the average is the weights themselves."""
        if not self.triggered and self._average_model is not None:
            self._average_model.n_averaged.zero_()
            self._average_model.update_parameters(pl_module)
            self._average_model.n_averaged.zero_()
