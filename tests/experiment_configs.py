"""The configurations in experiments/, and which of them can be trained on this machine."""

import os
from pathlib import Path

import pytest
import yaml

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
#: The decorator of a test that is run with each of them, ``config``.
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "experiments")))


def skip_unless_trainable(config):
    """Skip a test whose configuration needs data, or a checkpoint, that are not here."""
    source = yaml.safe_load(config.read_text())["data"]["init_args"]["source"]
    name, *files = NEEDED.get(source, (source,))
    home = Path(os.environ.get("HYBRIDGEN_DATA", "nowhere"))
    if files and not any((home / file).is_file() for file in files):
        pytest.skip(f"{name} is not here: get it with `hybridgen data {name}`, and set HYBRIDGEN_DATA")
    if "vae_checkpoint:" in config.read_text():
        pytest.skip("it needs a trained text VAE: tests/models/test_latent_gan.py trains it with a small one")
