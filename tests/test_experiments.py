"""Every configuration in experiments/ is trained for a few steps."""

import pytest
from experiment_configs import CONFIGS, ROOT, every_config, skip_unless_trainable

from hybridgen.commands.training import run


def test_there_are_configurations():
    assert len(CONFIGS) >= 19


@every_config
def test_it_trains_for_a_few_steps(config, tmp_path, monkeypatch):
    skip_unless_trainable(config)
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
