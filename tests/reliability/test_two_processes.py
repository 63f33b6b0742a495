"""Two processes go on as exactly as one: each with its own lanes, carried state, random draws and gradients."""

import warnings
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from harness import Diary, KeepAll, bits, some_of
from pytorch_lightning.strategies import DDPStrategy
from test_exact_resume import language_model, sequence_gan

from hybridgen.reliability.checkpoint_io import SafeCheckpointIO
from hybridgen.reliability.resume import ExactResume
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


def train(folder, make, resume_from=None, devices=2, **options):
    """What each of two processes has seen."""
    folder.mkdir()
    pl.seed_everything(0, verbose=False)
    model, data = make()
    diary = Diary()
    keep = KeepAll(folder, diary, active=resume_from is None)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=DDPStrategy(start_method="fork", process_group_backend="gloo") if devices > 1 else "auto",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[NoiseByRank(), diary, Write(folder, diary, keep), keep, ExactResume()],
        plugins=[SafeCheckpointIO()],
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, datamodule=data, ckpt_path=resume_from)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(devices)]


MODELS = {
    "language model": (lambda folder: language_model(folder, data={"batch_size": 2}), {"accumulate_grad_batches": 2}),
    "sequence GAN": (lambda folder: sequence_gan("direct"), {}),
}


@pytest.mark.parametrize("name", [pytest.param("language model"), pytest.param("sequence GAN", marks=pytest.mark.slow)])
def test_two_processes_go_on_exactly(name, tmp_path):
    build, options = MODELS[name]
    make = partial(build, tmp_path)
    whole = train(tmp_path / "whole", make, **options)
    assert whole[0]["draws"] != whole[1]["draws"]
    kept = whole[0]["kept"]
    for moment in some_of(kept)[:2]:
        path, place, written = kept[moment]
        again = train(tmp_path / f"from-{moment}", make, path, **options)
        for one, other in zip(again, whole, strict=True):
            expected = other["entries"][written:]
            assert [entry[:4] for entry in one["entries"]] == [entry[:4] for entry in expected], place
            for mine, theirs in zip(one["entries"], expected, strict=True):
                assert bits(mine) == bits(theirs), (place, mine[:4], mine[-2:], theirs[-2:])
            for part in ("weights", "optimisers", "draws"):
                assert one[part] == other[part], (place, part)


def test_another_number_of_processes(tmp_path):
    make = partial(language_model, tmp_path)
    whole = train(tmp_path / "whole", make, devices=1)
    moments = {place: path for path, place, _ in reversed(whole[0]["kept"])}
    half = partial(language_model, tmp_path, data={"batch_size": 2, "random_bptt": True})
    with pytest.raises(Exception, match="was written by 1 processes in the middle of an epoch, but there are 2 now"):
        train(tmp_path / "within", half, moments["batch"])
    train(tmp_path / "between", half, moments["epoch ending"])
