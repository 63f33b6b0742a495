"""``run.json``: what a run says of itself, however it ends."""

import os

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel

from hybridgen.report.run_folder import Run
from hybridgen.run_record import read_record
from hybridgen.tracking.record import RunRecord


class Model(BoringModel):
    """Ends as it is told."""

    def __init__(self, ends=None):
        super().__init__()
        self.ends = ends

    def on_train_batch_end(self, *arguments):
        if self.ends is not None and self.trainer.global_step == 3:
            raise self.ends


def fit(folder, ends=None, epochs=2):
    model = Model(ends)
    trainer = pl.Trainer(
        max_epochs=epochs,
        limit_train_batches=4,
        limit_val_batches=1,
        callbacks=[RunRecord(folder, monitor="val/loss")],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, torch.utils.data.DataLoader(torch.ones(8, 32)), torch.utils.data.DataLoader(torch.ones(1, 32)))
    return model


def test_a_run_that_finishes(tmp_path):
    model = fit(tmp_path)
    found = read_record(tmp_path)
    assert found["state"] == "finished"
    assert (found["steps"], found["process"], found["resumed"]) == (8, os.getpid(), 0)
    assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert not list(tmp_path.glob("*.partial"))
    fit(tmp_path)  # it goes on
    again = read_record(tmp_path)
    assert again["resumed"] == 1
    assert again["started"] == found["started"]
    assert again["seconds"] >= found["seconds"]


def test_a_run_that_fails_says_of_what(tmp_path):
    with pytest.raises(ValueError, match="numbers"):
        fit(tmp_path, ValueError("no numbers"))
    assert read_record(tmp_path)["state"] == "failed"
    assert read_record(tmp_path)["error"] == "ValueError: no numbers"
    assert Run(tmp_path).state == "failed"


def test_a_run_that_is_stopped(tmp_path):
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        fit(tmp_path, KeyboardInterrupt())
    assert read_record(tmp_path)["state"] == "interrupted"
    assert read_record(tmp_path)["error"] is None


def test_a_damaged_record_is_none(tmp_path):
    (tmp_path / "run.json").write_text('{"state": "runn')
    assert read_record(tmp_path) == {}
