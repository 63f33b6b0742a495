"""Trainings whose every batch, loss and weight is written down, and checkpoints of every moment that one may die at."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from hybridgen.reliability import places
from hybridgen.reliability.checkpoint_io import SafeCheckpointIO
from hybridgen.reliability.resume import ExactResume
from hybridgen.reliability.saving import KeepLast

LINES = ["the cat sat on the mat", "a dog", "the lazy dog", "stop", "a fox jumps over it", "one quick dog jumps"]
TEXT = "the quick brown fox jumps over the lazy dog.\n" * 6


def bits(value):
    """Everything in a batch or a state, as what two equal ones have in common."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return tuple((str(name), bits(part)) for name, part in sorted(value.items(), key=lambda item: str(item[0])))
    if isinstance(value, list | tuple):
        return tuple(bits(part) for part in value)
    return repr(value)


class Diary(pl.Callback):
    """What happened, in order: batches with their losses and learning rates, validations with their values."""

    def __init__(self):
        self.entries = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        now = {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("train/")}
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self.entries.append(("batch", trainer.current_epoch, batch_idx, trainer.global_step, bits(batch), now, rates))

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            now = {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("val/")}
            self.entries.append(("validation", trainer.current_epoch, trainer.global_step, "", now, None))

    def on_train_epoch_start(self, trainer, pl_module):
        self.entries.append(("epoch start", trainer.current_epoch))

    def on_train_epoch_end(self, trainer, pl_module):
        self.entries.append(("epoch end", trainer.current_epoch))


class KeepAll(KeepLast):
    """Saves at every moment that it can, keeps every file, and knows how much of the diary had been written then."""

    def __init__(self, folder, diary, *, active):
        super().__init__(folder, minutes=0)
        self.diary, self.active = diary, active
        self.kept = []

    def on_train_batch_end(self, trainer, pl_module, *arguments):
        if self.active and places.find_place(trainer) in (places.BATCH, places.VALIDATION_DUE):
            self._keep(trainer)

    def on_validation_end(self, trainer, pl_module):
        if self.active and places.find_place(trainer) == places.VALIDATION and not trainer.sanity_checking:
            self._keep(trainer)

    def on_train_epoch_end(self, trainer, pl_module):
        if self.active:
            self._keep(trainer)

    def _keep(self, trainer):
        place = places.find_place(trainer)
        self._save(trainer, 0)
        copy = self.folder / f"moment-{len(self.kept)}.ckpt"
        if trainer.is_global_zero:
            shutil.copy(self.path, copy)
        self.kept.append((copy, place, len(self.diary.entries)))


def train(folder, make, *, resume_from=None, callbacks=(), **options):
    """Train; returns the diary, the last weights, the optimisers' states, and the checkpoints of all moments."""
    diary = Diary()
    model, data = make()
    keep = KeepAll(Path(folder) / "checkpoints", diary, active=resume_from is None)
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 2,
        "gradient_clip_val": 1.0 if model.automatic_optimization else None,
    }
    trainer = pl.Trainer(
        **settings | options, callbacks=[*callbacks, diary, keep, ExactResume()], plugins=[SafeCheckpointIO()]
    )
    # A resumed process does not begin with the same draws.
    torch.manual_seed(99 if resume_from else 7)
    np.random.seed(99 if resume_from else 7)  # noqa: NPY002 - the global generator is meant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, datamodule=data, ckpt_path=resume_from)
    weights = {n: v.detach().clone() for n, v in model.state_dict().items()}
    return diary, weights, [optimizer.state_dict() for optimizer in trainer.optimizers], keep.kept


def some_of(kept):
    """A moment within an epoch, one before a validation, an epoch's end and a validation's, as far as there are."""
    found = {}
    for number, (_, place, _) in enumerate(kept[:-1]):
        if number:
            found.setdefault(place, number)
    return sorted(found.values())


def assert_exact(folder, make, *, callbacks=list, choose=some_of, **options):
    """From checkpoints of an uninterrupted training, training goes on as that one did, to the last bit."""
    diary, weights, states, kept = train(Path(folder) / "whole", make, callbacks=callbacks(), **options)
    moments = choose(kept)
    assert len(moments) >= 2
    for moment in moments:
        path, place, written = kept[moment]
        told = (moment, place)
        expected = diary.entries[written:]
        if all(entry[0] == "epoch end" for entry in expected):
            continue  # max_steps is reached: there is nothing to go on with
        again, other_weights, other_states, _ = train(
            Path(folder) / f"from-{moment}", make, resume_from=str(path), callbacks=callbacks(), **options
        )
        assert [entry[:4] for entry in again.entries] == [entry[:4] for entry in expected], told
        for one, other in zip(again.entries, expected, strict=True):
            assert bits(one) == bits(other), (told, one[:4], one[-2:], other[-2:])
        for name, value in weights.items():
            assert torch.equal(value, other_weights[name]), (told, name)
        assert bits(states) == bits(other_states), told
