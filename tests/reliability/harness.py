"""Trainings whose every batch, loss and weight is written down, and checkpoints of every moment that one may die at."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from hybridgen.reliability.checkpoint_io import SafeCheckpointIO
from hybridgen.reliability.resume import ExactResume
from hybridgen.reliability.saving import KeepBest, KeepLast

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
        logged = {n: float(v) for n, v in trainer.logged_metrics.items() if n.startswith("train/")}
        now = {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("train/")}
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        del logged
        self.entries.append(("batch", trainer.current_epoch, batch_idx, trainer.global_step, bits(batch), now, rates))

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            now = {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("val/")}
            self.entries.append(("validation", trainer.current_epoch, trainer.global_step, now))

    def on_train_epoch_start(self, trainer, pl_module):
        self.entries.append(("epoch start", trainer.current_epoch))

    def on_train_epoch_end(self, trainer, pl_module):
        self.entries.append(("epoch end", trainer.current_epoch))


class KeepAll(KeepLast):
    """Copies every last.ckpt, and knows how much of the diary had been written at that moment."""

    def __init__(self, folder, diary, **options):
        super().__init__(folder, minutes=0, **options)
        self.diary = diary
        self.kept = []

    def _save(self, trainer, number):
        super()._save(trainer, number)
        copy = self.folder / f"moment-{len(self.kept)}.ckpt"
        shutil.copy(self.path, copy)
        entries = len(self.diary.entries)
        # It saves at the epoch's end after the diary's last entry of the epoch.
        self.kept.append((copy, entries))


def train(folder, make, *, resume_from=None, callbacks=(), batches=1, **options):
    """Train; returns the diary, the last weights, and the checkpoints with their place in the diary."""
    diary = Diary()
    model, data = make()
    keep = KeepAll(Path(folder) / "checkpoints", diary, batches=batches)
    monitor = KeepBest(dirpath=Path(folder) / "best", filename="best", monitor=None, save_last=False)
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 3,
        "gradient_clip_val": 1.0 if model.automatic_optimization else None,
    }
    trainer = pl.Trainer(
        **settings | options,
        callbacks=[*callbacks, diary, monitor, keep, ExactResume()],
        plugins=[SafeCheckpointIO()],
    )
    torch.manual_seed(99 if resume_from else 7)  # a resumed process does not begin with the same draws
    np.random.seed(99 if resume_from else 7)  # noqa: NPY002 - the global generator is meant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, datamodule=data, ckpt_path=resume_from)
    weights = {n: v.detach().clone() for n, v in model.state_dict().items()}
    states = [optimizer.state_dict() for optimizer in trainer.optimizers]
    return diary, weights, states, keep.kept


def assert_exact(folder, make, *, callbacks=list, moments=None, **options):
    """From each checkpoint of an uninterrupted training, training goes on as that one did, to the last bit."""
    diary, weights, states, kept = train(Path(folder) / "whole", make, callbacks=callbacks(), **options)
    assert len(kept) > 3
    chosen = range(len(kept)) if moments is None else sorted({m % len(kept) for m in moments})
    for moment in chosen:
        path, written = kept[moment]
        again, other_weights, other_states, _ = train(
            Path(folder) / f"from-{moment}", make, resume_from=str(path), callbacks=callbacks(), batches=0, **options
        )
        expected = diary.entries[written:]
        assert len(again.entries) == len(expected), (moment, [e[:3] for e in again.entries], [e[:3] for e in expected])
        for number, (one, other) in enumerate(zip(again.entries, expected, strict=True)):
            assert one[:4] == other[:4], (moment, number, one[:4], other[:4])
            assert bits(one) == bits(other), (moment, number, one[:4], one[-2:], other[-2:])
        for name, value in weights.items():
            assert torch.equal(value, other_weights[name]), (moment, name)
        assert bits(states) == bits(other_states), moment
