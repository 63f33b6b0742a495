"""Exact resume: what Lightning's checkpoints leave out, saved and restored for every process."""

import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from hybridgen.reliability import places
from hybridgen.reliability.random_state import random_states, restore_random_states
from hybridgen.reliability.settings import apply_changes, reschedule, settings_of

KEY = "hybridgen_resume"


class ExactResume(Checkpoint):
    """Makes every checkpoint of a training one from which it goes on as if it had never stopped.

    In the checkpoint, under ``hybridgen_resume``: where in the loops training was, the random states of every process
    and what else only it has (``rank_state`` of the model), gradients of an unfinished accumulation, the last
    validation's values, and the settings with which the optimisers were made. It is a ``Checkpoint`` to Lightning only
    so that it comes after all callbacks that change anything.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None
        self._settings: list[list[dict[str, Any]]] = []
        self._options: Any = None
        self._resumes = False

    # Saving ------------------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The optimisers are new here: their saved state comes next."""
        self._settings = settings_of(trainer.optimizers)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != "fit":
            return
        place = places.find_place(trainer)
        accumulating = places.is_accumulating(trainer)
        due = place in (places.STOPPED, places.VALIDATION_DUE) and places.validation_due(trainer)
        checkpoint[KEY] = {
            "place": place,
            "step": places.batches_stepped(trainer),
            "rows_before": places.rows_before(trainer, place),
            "unlogged": places.unlogged(trainer, place),
            "epoch": trainer.current_epoch,
            "metrics": {name: value.detach().cpu() for name, value in trainer.callback_metrics.items()},
            "settings": self._settings,
            "limits": _limits(trainer),
            "ranks": _gathered(trainer, _rank_state(pl_module, accumulating)),
        }
        places.straighten(checkpoint["loops"]["fit_loop"], place, accumulating=places_wait(trainer), validation_due=due)

    # Restoring ---------------------------------------------------------------------------------------------------

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != "fit":
            return
        self._resumes = True
        self._loaded = checkpoint.get(KEY)
        self._options = checkpoint.get("options")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loaded = self._loaded
        if loaded is None:
            if self._resumes:
                _warn("the checkpoint was written without the state of random draws: training goes on, not exactly")
            return
        place = loaded["place"]
        if place == places.INSIDE:
            _warn("the checkpoint was written in the middle of a batch: training goes on, but not exactly")
        trainer._logger_connector._callback_metrics.update(
            {name: value.to(pl_module.device) for name, value in loaded["metrics"].items()}
        )
        places.go_on(trainer, place)
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        apply_changes(trainer.optimizers, schedulers, loaded["settings"], self._settings)
        if self._options != getattr(pl_module, "options", None) or loaded["limits"] != _limits(trainer):
            reschedule(schedulers)
        for logger in trainer.loggers if loaded["unlogged"] else ():
            logger.log_metrics(metrics=loaded["unlogged"] | {"epoch": loaded["epoch"]}, step=loaded["step"])
            logger.save()
        self._restore_rank(trainer, pl_module, loaded["ranks"], place)

    def _restore_rank(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, ranks: list[dict[str, Any]], place: str
    ) -> None:
        if len(ranks) != trainer.world_size:
            if place not in (places.EPOCH, places.EPOCH_ENDING):
                raise ValueError(
                    f"the checkpoint was written by {len(ranks)} processes in the middle of an epoch, but there are "
                    f"{trainer.world_size} now: go on with {len(ranks)}, or from a checkpoint of an epoch's end"
                )
            _warn(
                f"the checkpoint was written by {len(ranks)} processes and there are {trainer.world_size} now: "
                "training goes on with other random draws"
            )
            return
        state = ranks[trainer.global_rank]
        if "model" in state:
            pl_module.load_rank_state(state["model"])
        for name, gradient in state.get("gradients", {}).items():
            parameter = pl_module.get_parameter(name)
            parameter.grad = gradient.to(parameter.device)
        restore_random_states(state["random"])  # the last thing before the first batch


def places_wait(trainer: pl.Trainer) -> bool:
    """Whether Lightning's own counters wait for more batches; it does not count those of manual optimisation."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def _rank_state(module: pl.LightningModule, accumulating: bool) -> dict[str, Any]:
    state: dict[str, Any] = {"random": random_states()}
    if hasattr(module, "rank_state"):
        state["model"] = module.rank_state()
    if accumulating:
        state["gradients"] = {
            name: parameter.grad.detach().cpu()
            for name, parameter in module.named_parameters()
            if parameter.grad is not None
        }
    return state


def _gathered(trainer: pl.Trainer, state: dict[str, Any]) -> list[dict[str, Any]]:
    """What every process has, in each of them."""
    distributed = torch.distributed
    if trainer.world_size == 1 or not (distributed.is_available() and distributed.is_initialized()):
        return [state]
    found: list[Any] = [None] * trainer.world_size
    distributed.all_gather_object(found, state)
    return found


def _limits(trainer: pl.Trainer) -> dict[str, Any]:
    """What decides how long training is, and with it the schedules."""
    return {
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "batches": float(trainer.num_training_batches),
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
    }


@pl.utilities.rank_zero_only
def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
