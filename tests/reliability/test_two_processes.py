"""Two processes go on as exactly as one: each with its own lanes, carried state, random draws and gradients.

Every model is killed by ``kill -9`` in the middle of an epoch, after a few batches more than were saved.
"""

import os
import signal
import warnings
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from harness import Diary, KeepAll, bits, some_of
from pytorch_lightning.strategies import DDPStrategy
from test_exact_resume import (
    images,
    language_model,
    latent_gan,
    rolls,
    sequence_gan,
    sequence_vaegan,
    text_vae,
)
from torch.multiprocessing.spawn import ProcessExitedException

from hybridgen.models import SequenceModel, VariationalRNN
from hybridgen.reliability.checkpoint_io import SafeCheckpointIO
from hybridgen.reliability.resume import ExactResume
from hybridgen.reliability.saving import KeepLast
from hybridgen.reliability.verify import newest_valid
from hybridgen.tracking.processes import NoiseByRank

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="forks, which CUDA does not allow"),
]


class Write(pl.Callback):
    """Every process writes down what it has seen: it is gone when training ends."""

    def __init__(self, folder, diary, keep):
        self.folder, self.diary, self.keep = folder, diary, keep

    def on_train_end(self, trainer, pl_module):
        kept = [(str(path), place, written) for path, place, written in self.keep.kept]
        seen = {"entries": self.diary.entries, "kept": kept, "weights": bits(dict(pl_module.state_dict()))}
        seen |= {"optimisers": bits([o.state_dict() for o in trainer.optimizers]), "draws": bits(torch.rand(4))}
        torch.save(seen, self.folder / f"rank-{trainer.global_rank}.pt")


class Kill(pl.Callback):
    """``kill -9`` of the second process before a batch of the second epoch; the first is left waiting for it."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_rank == 1 and (trainer.current_epoch, batch_idx) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder, make, resume_from=None, devices=2, killed=False, **options):
    """What each of two processes has seen; or, of those that are killed, the checkpoint that they leave."""
    folder.mkdir()
    pl.seed_everything(0, verbose=False)
    model, data = make()
    diary = Diary()
    keep = KeepAll(folder, diary, active=resume_from is None)
    callbacks = [diary, Write(folder, diary, keep), keep]
    if killed:
        callbacks = [Kill(), KeepLast(folder, batches=2, epochs=False)]
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=DDPStrategy(start_method="fork", process_group_backend="gloo") if devices > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[NoiseByRank(), *callbacks, ExactResume()],
        plugins=[SafeCheckpointIO()],
        **{"max_epochs": 2} | options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if killed:
            with pytest.raises(ProcessExitedException) as death:
                trainer.fit(model, datamodule=data)
            assert death.value.signal_name == "SIGKILL"
            saved, damaged = newest_valid(folder)
            assert not damaged
            return saved
        trainer.fit(model, datamodule=data, ckpt_path=resume_from)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(devices)]


KL = {"kl": {"schedule": {"kind": "cyclical", "steps": 12}}, "aggressive": {"window": 2}, "word_dropout": 0.3}
FEW = {"limit_train_batches": 4, "limit_val_batches": 1}
MODELS = {
    "language model": (lambda folder: language_model(folder, data={"batch_size": 2}), {"accumulate_grad_batches": 3}),
    "text VAE": (lambda folder: text_vae(folder, **KL), {}),
    "variational RNN": (
        lambda folder: rolls(VariationalRNN, latent_size=2, dropout=0.1, evaluation_particles=1),
        FEW,
    ),
    "sequence model": (lambda folder: rolls(SequenceModel), FEW),
    "sequence GAN, direct": (lambda folder: sequence_gan("direct", batch_size=3), {}),
    "sequence GAN, latent": (lambda folder: sequence_gan("latent", batch_size=3), {}),
    "sequence GAN, timegan": (lambda folder: sequence_gan("timegan", batch_size=3), {}),
    "latent GAN": (latent_gan, FEW),
    "sequence VAEGAN": (lambda folder: sequence_vaegan(batch_size=3), {}),
    "DRAW": (lambda folder: images(), FEW),
}


def assert_goes_on(folder, make, path, whole, **options):
    """From a checkpoint, all that two processes see is the end of what those saw that nothing stopped."""
    again = train(folder, make, path, **options)
    for one, other in zip(again, whole, strict=True):
        first = [entry[:4] for entry in other["entries"]].index(one["entries"][0][:4])
        expected = other["entries"][first:]
        assert [entry[:4] for entry in one["entries"]] == [entry[:4] for entry in expected]
        for mine, theirs in zip(one["entries"], expected, strict=True):
            assert bits(mine) == bits(theirs), (mine[:3], mine[-2:], theirs[-2:])
        for part in ("weights", "optimisers", "draws"):
            assert one[part] == other[part], part
    return again


#: Those that another model goes the same way with.
LATER = ("sequence model",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LATER else ()) for n in MODELS])
def test_two_processes_that_were_killed_go_on_exactly(name, tmp_path):
    build, options = MODELS[name]
    make = partial(build, tmp_path)
    whole = train(tmp_path / "whole", make, **options)
    assert whole[0]["draws"] != whole[1]["draws"]
    saved = train(tmp_path / "killed", make, killed=True, **options)
    again = assert_goes_on(tmp_path / "again", make, str(saved), whole, **options)
    kind, epoch, batch = again[0]["entries"][0][:3]
    assert kind == "batch"
    assert (epoch, batch) in {(1, 1), (1, 2)}  # in the middle of the epoch


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_two_processes_go_on_from_moments_of_all_kinds(name, tmp_path):
    build, options = MODELS[name]
    make = partial(build, tmp_path)
    whole = train(tmp_path / "whole", make, **options)
    kept = whole[0]["kept"]
    moments = some_of(kept)
    assert len(moments) >= 2
    for moment in moments:
        path, place, written = kept[moment]
        if all(entry[0] == "epoch end" for entry in whole[0]["entries"][written:]):
            continue  # there is nothing to go on with
        again = assert_goes_on(tmp_path / f"from-{moment}", make, path, whole, **options)
        assert len(again[0]["entries"]) == len(whole[0]["entries"]) - written, place


def test_another_number_of_processes(tmp_path):
    make = partial(language_model, tmp_path)
    whole = train(tmp_path / "whole", make, devices=1)
    moments = {place: path for path, place, _ in reversed(whole[0]["kept"])}
    half = partial(language_model, tmp_path, data={"batch_size": 2, "random_bptt": True})
    with pytest.raises(Exception, match="was written by 1 processes in the middle of an epoch, but there are 2 now"):
        train(tmp_path / "within", half, moments["batch"])
    train(tmp_path / "between", half, moments["epoch ending"])
