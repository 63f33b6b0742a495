"""Every experiment on a GPU: a short epoch with its validation and samples, a test, and samples from the checkpoint."""

import os
from pathlib import Path

import pytest
import torch
import yaml

from hybridgen.cli import main
from hybridgen.commands.training import run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

ROOT = Path(__file__).parent.parent.parent
CONFIGS = [p for p in sorted((ROOT / "experiments").glob("**/*.yaml")) if p.parent.name != "tuning"]
QUIET = ["--trainer.enable_progress_bar", "false", "--wandb", "off", "--trainer.accelerator", "gpu"]
FEW = ["--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "2", "--trainer.limit_test_batches", "2"]
#: Where the data of an experiment that is not embedded would be.
HOMES = {"jsb": "polymusic", "nottingham": "polymusic", "sheep": "sketches"}


def there(config):
    source = str(yaml.safe_load(config.read_text())["data"]["init_args"]["source"])
    home = Path(os.environ.get("HYBRIDGEN_DATA", "nowhere"), HOMES.get(source, source))
    named = ("ptb", "tinyshakespeare", "stocks", "energy", "fsdd", "air_quality", *HOMES)
    return source not in named or home.is_dir()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "experiments")))
def test_an_experiment(config, tmp_path, monkeypatch):
    if "vae_checkpoint:" in config.read_text():
        pytest.skip("it needs a trained text VAE: tests/models/test_training_options.py trains its model")
    if not there(config):
        pytest.skip("its data are not here: get them with `hybridgen data`, and set HYBRIDGEN_DATA")
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
