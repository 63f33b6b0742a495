"""Where in its loops a trainer is when a checkpoint is saved, and how it gets there again.

Lightning can go on from a checkpoint, but not at every moment and not exactly: a validation that was due is left out, a
scheduler that waits for a validation misses one, with ``max_steps`` an epoch is counted twice. So the counters in the
checkpoint are put into the one form that its loops go on from without a guess, and what they would leave out is named.
All of it is about private parts of Lightning 2.6; ``tests/reliability/test_exact_resume.py`` says whether they fit.
"""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loops.evaluation_loop import RestartStage

BATCH = "batch"  # a batch has been trained, the next one is next
VALIDATION_DUE = "validation due"  # likewise, but a validation comes first
VALIDATION = "validation"  # one within an epoch has ended
EPOCH_ENDING = "epoch ending"  # all of an epoch is done but the schedulers that wait for its validation
STOPPED = "stopped"  # training ended within an epoch, by max_steps or the clock
EPOCH = "epoch"  # an epoch is over
INSIDE = "inside"  # somewhere from which training cannot go on exactly


def find_place(trainer: pl.Trainer) -> str:
    """Where training is: one of the names above."""
    fit = trainer.fit_loop
    epoch, batch = fit.epoch_progress.current, fit.epoch_loop.batch_progress.current
    if epoch.processed == epoch.ready:
        if batch.ready and not fit.epoch_loop._num_ready_batches_reached():
            return STOPPED
        return EPOCH if epoch.completed == epoch.processed else EPOCH_ENDING
    if epoch.started != epoch.ready or not batch.ready == batch.started == batch.processed or batch.ready == 0:
        return INSIDE
    if batch.completed == batch.processed:
        return VALIDATION if trainer.validating else INSIDE
    if validation_due(trainer):
        return VALIDATION_DUE
    # After the last batch the epoch ends; there is no batch to go on with.
    return INSIDE if fit.epoch_loop._num_ready_batches_reached() else BATCH


def validation_due(trainer: pl.Trainer) -> bool:
    """Whether a validation follows the batch, had training not been told to stop."""
    stopping, trainer.should_stop = trainer.should_stop, False
    try:
        return trainer.fit_loop.epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
    finally:
        trainer.should_stop = stopping


def straighten(loops: dict[str, Any], place: str, *, accumulating: bool, validation_due: bool) -> None:
    """Put the counters of a checkpoint into the form that Lightning's loops go on from.

    Args:
        loops: ``fit_loop`` of the checkpoint's ``loops``; changed in place.
        place: where training is.
        accumulating: whether the optimiser waits for more batches.
        validation_due: whether a validation comes, or came, after the batch.
    """
    epoch, batch = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    for part in ("total", "current"):
        if place in (BATCH, VALIDATION_DUE):
            batch[part]["completed"] = batch[part]["processed"]
        if place == STOPPED:
            epoch[part]["processed"] -= 1
            epoch[part]["completed"] = epoch[part]["processed"]
        if place == EPOCH_ENDING:
            epoch[part]["completed"] = epoch[part]["processed"]
    if place == BATCH and not accumulating:
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
    # Going on, Lightning passes by the validation that has been, and counts.
    if place == STOPPED and validation_due and not accumulating:
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def go_on(trainer: pl.Trainer, place: str) -> None:
    """Set the loops of a trainer that has read a checkpoint so that what comes next is what would have come next.

    Called when they are ready and nothing has run yet, in ``on_train_start``.

    Args:
        trainer: with the counters of the checkpoint.
        place: as it was saved.
    """
    fit = trainer.fit_loop
    if fit._combined_loader_states_to_load:
        # A schedule that asks for the number of steps has had the loaders made before their position was known.
        fit._restarting = True
        fit._load_combined_loader_states()
        iter(fit._data_fetcher)
    # Otherwise the first epoch's end leaves out the schedulers that wait for a validation.
    fit._restarting = False
    if place in (EPOCH_ENDING, EPOCH):
        fit.epoch_loop.restarting = False  # the next epoch starts like any other
    if place == EPOCH_ENDING:
        fit.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
    if place == VALIDATION_DUE:
        validation = fit.epoch_loop.val_loop
        validation.restarting = False
        validation._restart_stage = RestartStage.RESTARTED_MID_EVALUATION


def batches_stepped(trainer: pl.Trainer) -> int:
    """The number on the axis of the loggers: batches after which the optimiser stepped."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def is_accumulating(trainer: pl.Trainer) -> bool:
    """Whether the gradients are of a part of the batches that an optimiser step is for."""
    module = trainer.lightning_module
    if not module.automatic_optimization:
        return bool(getattr(module, "holds_gradients", False))
    return trainer.fit_loop.epoch_loop._should_accumulate()


def rows_before(trainer: pl.Trainer, place: str) -> int:
    """Steps of the loggers below this one are done with; what they get from here on is of this one or later."""
    return batches_stepped(trainer) + (place == VALIDATION)


def unlogged(trainer: pl.Trainer, place: str) -> dict[str, float]:
    """Values of the batch just trained, which the loggers get only after this checkpoint is saved."""
    connector = trainer._logger_connector
    waits = trainer.lightning_module.automatic_optimization and trainer.fit_loop.epoch_loop._should_accumulate()
    if place not in (BATCH, VALIDATION_DUE) or waits or not connector.should_update_logs:
        return {}
    return {name: float(value) for name, value in connector.metrics["log"].items()}
