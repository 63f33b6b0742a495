"""FSDP: on two GPUs as a user would; without them its arithmetic, on two processes of this machine's CPU.

Lightning refuses FSDP on a CPU, and so does the command. Torch's own class trains there if it is told so, with two
things in its way: the device is to be named, and what is gathered for a checkpoint must not be moved to the CPU, where
it is.
"""

import csv
import os
import subprocess
import sys
from unittest.mock import patch

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy, fsdp
from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel, StateDictType
from torch.distributed.fsdp.api import FullOptimStateDictConfig

from hybridgen.reliability.checkpoint_io import SafeCheckpointIO
from hybridgen.reliability.resume import ExactResume
from hybridgen.reliability.verify import verify

from .forked import exit_codes
from .scenarios import run, sequence_model

pytestmark = pytest.mark.distributed


class OnCPU(FSDPStrategy):
    """FSDP of the whole model, without GPUs."""

    def _setup_model(self, model):
        options = {"sharding_strategy": self.sharding_strategy, "device_id": torch.device("cpu"), **self.kwargs}
        return FullyShardedDataParallel(module=model, **options)


def gathered_in_place(module, world_size, rank0_only=True):
    configs = FullStateDictConfig(), FullOptimStateDictConfig(offload_to_cpu=False)
    return FullyShardedDataParallel.state_dict_type(module, StateDictType.FULL_STATE_DICT, *configs)


class Look(pl.Callback):
    """Which parameters decay, and the whole weights at the end."""

    def on_train_start(self, trainer, pl_module):
        names = {id(p): n for n, p in pl_module.named_parameters()}
        groups = trainer.optimizers[0].param_groups
        self.decay = sorted(names[id(p)] for p in groups[0]["params"])
        self.others = sorted(names[id(p)] for group in groups[1:] for p in group["params"])

    def on_train_end(self, trainer, pl_module):
        self.weights = {name: value.clone() for name, value in trainer.strategy.lightning_module_state_dict().items()}


def train(rank, name, folder):
    look = Look()
    strategy = OnCPU(process_group_backend="gloo")
    with patch.object(fsdp, "_get_full_state_dict_context", gathered_in_place):
        found = run(name, folder, 2, strategy=strategy, clip=None, callbacks=[look])
    seen = {"losses": found.losses, "decay": look.decay, "others": look.others, "weights": look.weights}
    torch.save(seen, folder / f"{rank}.pt")


def train_and_go_on(rank, folder):
    """Train; save within the second epoch; and go on from there in another trainer."""
    seen = []
    for path, drawn in ((None, 1), (folder / "mid.ckpt", 5)):
        model, data, _, _ = sequence_model(3, folder)
        losses = Losses(None if path else folder / "mid.ckpt")
        torch.manual_seed(drawn)
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=2,
            strategy=OnCPU(process_group_backend="gloo"),
            max_epochs=2,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[losses, ExactResume()],
            plugins=[SafeCheckpointIO()],
        )
        with patch.object(fsdp, "_get_full_state_dict_context", gathered_in_place):
            trainer.fit(model, datamodule=data, ckpt_path=path)
            weights = trainer.strategy.lightning_module_state_dict()
        seen.append({"losses": losses.seen, "weights": {name: value.clone() for name, value in weights.items()}})
    torch.save(seen, folder / f"{rank}.pt")


class Losses(pl.Callback):
    """Keeps the losses, and saves after the first batch of the second epoch."""

    def __init__(self, path):
        self.path, self.seen = path, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(float(trainer.callback_metrics["train/loss"]))
        if self.path and (trainer.current_epoch, batch_idx) == (1, 0):
            trainer.save_checkpoint(self.path)


on_cpu = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes part where there is one"),
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo"),
]
MODELS = ["language_model", "text_vae", "variational_rnn", "sequence_model", "draw_images"]
SOON = ["variational_rnn"]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=on_cpu if n in SOON else [*on_cpu, pytest.mark.slow]) for n in MODELS]
)
def test_two_shards_train_as_one_model(name, tmp_path):
    assert exit_codes(train, name, tmp_path) == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    look = Look()
    alone = run(name, tmp_path, 1, clip=None, callbacks=[look])
    assert first["losses"] == pytest.approx(alone.losses, rel=1e-5)
    assert first["decay"] == second["decay"] == look.decay  # pieces are flat, but what was a matrix decays
    assert first["others"] == second["others"] == look.others
    for part in (first, second):
        assert part["weights"].keys() == look.weights.keys()
        for key, value in look.weights.items():
            torch.testing.assert_close(part["weights"][key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes part where there is one")
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_shards_go_on_exactly(tmp_path):
    assert exit_codes(train_and_go_on, tmp_path) == [0, 0]
    assert verify(tmp_path / "mid.ckpt") == "sha256"
    for rank in range(2):
        whole, again = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert again["losses"] == whole["losses"][3:]
        assert whole["weights"].keys() == again["weights"].keys()
        assert all(torch.equal(value, again["weights"][name]) for name, value in whole["weights"].items())


CONFIG = """
model:
  class_path: hybridgen.models.LanguageModel
  init_args: {stack: {cell: gru, hidden_size: 6, num_layers: 1}, embedding_size: 6, schedule: constant}
data:
  class_path: hybridgen.data.TextData
  init_args: {train: text.txt, valid: text.txt, codec: bytes, batch_size: 2, bptt: 6, cache_dir: cache}
trainer: {max_steps: 40, accelerator: gpu, devices: 2, strategy: fsdp, gradient_clip_val: null, log_every_n_steps: 1,
  enable_progress_bar: false, limit_val_batches: 2, enable_model_summary: false}
"""


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_fit_and_resume_on_two_gpus(tmp_path):
    (tmp_path / "small.yaml").write_text(CONFIG)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 60)

    def fit(*options):
        command = [sys.executable, "-m", "hybridgen", "fit", "--config", "small.yaml", "--wandb", "off", *options]
        finished = subprocess.run(command, cwd=tmp_path, env=os.environ.copy(), capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr[-4000:]

    def losses(name):
        with (tmp_path / "runs" / name / "0" / "metrics.csv").open() as file:
            return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]

    fit("--name", "whole")
    fit("--name", "halved", "--trainer.max_steps", "25")
    fit("--name", "halved", "--resume", "auto")
    assert losses("halved") == pytest.approx(losses("whole"), rel=1e-4)
    last = tmp_path / "runs" / "halved" / "0" / "checkpoints" / "last.ckpt"
    assert last.with_name("last.ckpt.sha256").is_file()
