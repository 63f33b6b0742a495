"""The progress bar."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from hybridgen.tracking.progress import Progress, _clock


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch, index):
        inputs = batch if isinstance(batch, torch.Tensor) else batch.inputs
        loss = self.layer(inputs).square().mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Batches:
    """Batches that say how many targets they have."""

    def __len__(self):
        return 6

    def __iter__(self):
        return iter([SimpleNamespace(inputs=torch.ones(2, 1), num_targets=100) for _ in range(6)])


def fit(loader, bar, **options):
    options = {"max_epochs": 2} | options
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", callbacks=[bar], **quiet, **options)
    trainer.fit(Model(), loader)
    return trainer


def test_without_a_terminal_there_is_a_line_an_epoch(capsys):
    bar = Progress(terminal=False)
    fit(Batches(), bar)
    first, second = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert first.startswith("epoch 0, batch 6/6, train/loss ")
    assert "tokens/s " in first
    assert "end in 0:0" in first
    assert "at " in first
    assert second.startswith("epoch 1, batch 6/6")
    assert "end in 0:00" in second
    assert bar._tokens == 1200


def test_a_line_now_and_then(capsys):
    fit(Batches(), Progress(line_every=0.0, terminal=False), max_epochs=1)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 7  # one a batch and one for the epoch


def test_on_a_terminal_there_is_a_bar(capsys):
    fit(Batches(), Progress(terminal=True))
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert "Epoch 1: 100%" in shown
    assert "tokens/s=" in shown
    assert "end in=" in shown


def test_batches_without_targets_are_counted_themselves(capsys):
    fit(torch.utils.data.DataLoader(torch.ones(6, 1)), Progress(terminal=False), max_steps=3, max_epochs=-1)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")][-1:]
    assert "batches/s" in line
    assert "tokens/s" not in line


def test_the_estimate_is_of_the_whole_training(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("hybridgen.tracking.progress.time.monotonic", lambda: now[0])
    bar = Progress(terminal=False)
    trainer = SimpleNamespace(
        max_steps=-1,
        max_epochs=4,
        num_training_batches=10,
        callbacks=[],
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=9)),
    )
    now[0] = 60.0
    assert bar.speed(trainer)["end in"] == "3:00"  # a quarter in a minute
    bar._progress_at_start = 0.125  # resumed half an epoch before
    assert bar.speed(trainer)["end in"] == "6:00"
    trainer.max_epochs = -1
    assert "end in" not in bar.speed(trainer)


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (65, "1:05"), (3661, "1:01:01"), (360000, "100:00:00")])
def test_clock(seconds, text):
    assert _clock(seconds) == text
