"""Every experiment on a GPU: a short epoch with its validation and samples, a test, and samples from the checkpoint."""

from pathlib import Path

import pytest
import torch
from experiment_configs import every_config, skip_unless_trainable

from hybridgen.cli import main
from hybridgen.commands.training import run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

QUIET = ["--trainer.enable_progress_bar", "false", "--wandb", "off", "--trainer.accelerator", "gpu"]
FEW = ["--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "2", "--trainer.limit_test_batches", "2"]


@every_config
def test_an_experiment(config, tmp_path, monkeypatch):
    skip_unless_trainable(config)
    monkeypatch.chdir(tmp_path)
    once = ["--trainer.max_epochs", "1", "--trainer.max_steps", "-1"]
    every = ["--trainer.val_check_interval", "1.0", "--trainer.check_val_every_n_epoch", "1"]
    assert run(["fit", "--config", str(config), *once, *every, *QUIET, *FEW]) == 0
    folder = Path("runs") / config.stem / "0"
    checkpoint = str(folder / "checkpoints" / "last.ckpt")
    assert run(["test", "--config", str(folder / "config.yaml"), "--ckpt_path", checkpoint, *QUIET, *FEW]) == 0
    text = config.parent.name in ("language_model", "text_vae")
    where = [] if text else ["--out", str(tmp_path / "samples")]
    assert main(["sample", "--ckpt", checkpoint, "--num_samples", "2", *where]) == 0
