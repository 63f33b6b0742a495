"""Every configuration in experiments/ is trained for a few steps."""

import os
from pathlib import Path

import pytest
import yaml

from hybridgen.commands.training import run

ROOT = Path(__file__).parent.parent
#: Every one but the spaces of `hybridgen tune`, which are tested with it.
CONFIGS = [p for p in sorted((ROOT / "experiments").glob("**/*.yaml")) if p.parent.name != "tuning"]
#: Data sets that must be brought by `hybridgen data`, and files one of which says that it is there.
NEEDED = {
    "ptb": ("ptb", "ptb/train.txt"),
    "tinyshakespeare": ("tinyshakespeare", "tinyshakespeare/input.txt"),
    "jsb": ("polymusic", "polymusic/JSB_Chorales.mat"),
    "nottingham": ("polymusic", "polymusic/Nottingham.mat"),
    "sheep": ("sketches", "sketches/aaron_sheep.npz"),
    "stocks": ("stocks", "stocks/stock_data.csv"),
    "energy": ("energy", "energy/energy_windows.npz", "energy/energy_data.csv"),
    "fsdd": ("fsdd", "fsdd/recordings/0_george_0.wav"),
    "air_quality": ("air_quality", "air_quality/air_quality_windows.npz"),
}


def test_there_are_configurations():
    assert len(CONFIGS) >= 19


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "experiments")))
def test_it_trains_for_a_few_steps(config, tmp_path, monkeypatch):
    source = yaml.safe_load(config.read_text())["data"]["init_args"]["source"]
    name, *files = NEEDED.get(source, (source,))
    home = Path(os.environ.get("HYBRIDGEN_DATA", "nowhere"))
    if files and not any((home / file).is_file() for file in files):
        pytest.skip(f"{name} is not here: get it with `hybridgen data {name}`, and set HYBRIDGEN_DATA")
    if "vae_checkpoint:" in config.read_text():
        pytest.skip("it needs a trained text VAE: tests/models/test_latent_gan.py trains it with a small one")
    monkeypatch.chdir(tmp_path)
    few = ["--trainer.max_steps", "3", "--trainer.limit_val_batches", "1", "--trainer.num_sanity_val_steps", "0"]
    quiet = ["--trainer.enable_progress_bar", "false", "--wandb", "off"]
    assert run(["fit", "--config", str(config), *few, *quiet]) == 0
    assert (tmp_path / "runs" / config.stem / "0" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize("given", ["own", "none"])
def test_checkpoints_of_the_configuration_are_the_users_choice(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    extra = tmp_path / "extra.yaml"
    own = "callbacks:\n  - class_path: pytorch_lightning.callbacks.ModelCheckpoint\n    init_args: {dirpath: mine}\n"
    lines = own if given == "own" else "enable_checkpointing: false\n"
    extra.write_text("trainer:\n" + "".join(f"  {line}\n" for line in lines.splitlines()))
    config = ROOT / "experiments" / "language_model" / "embedded.yaml"
    few = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "1", "--trainer.enable_progress_bar", "false"]
    assert run(["fit", "--config", str(config), "--config", str(extra), "--wandb", "off", *few]) == 0
    assert not list(tmp_path.glob("runs/**/*.ckpt"))
    assert bool(list(tmp_path.glob("mine/*.ckpt"))) == (given == "own")
