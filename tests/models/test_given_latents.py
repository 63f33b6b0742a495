"""Latents that a person chooses, in place of those that a model draws."""

import pytest
import pytorch_lightning as pl
import torch

from hybridgen.data import SeriesData
from hybridgen.models import SequenceGAN, SequenceVAEGAN

STACK = {"cell": "gru", "hidden_size": 6}
MODELS = {
    "latent": lambda: SequenceGAN(
        mode="latent", stack=STACK, sequence_noise=4, code_size=4, hidden_size=8, autoencoder_steps=2
    ),
    "direct": lambda: SequenceGAN(mode="direct", stack=STACK, sequence_noise=4, step_noise=2),
    "timegan": lambda: SequenceGAN(
        mode="timegan",
        stack=STACK,
        sequence_noise=4,
        step_noise=2,
        code_size=4,
        autoencoder_steps=2,
        supervisor_steps=1,
    ),
    "hybrid": lambda: SequenceVAEGAN(stack=STACK, latent_size=4),
}


@pytest.fixture(params=MODELS)
def model(request):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_steps=4, accelerator="cpu", limit_val_batches=0, enable_model_summary=False, **quiet)
    made = MODELS[request.param]()
    trainer.fit(made, datamodule=SeriesData(source="sines", num_series=40, length=6, batch_size=8))
    return made


def test_a_sample_follows_its_latent_alone(model):
    assert model.latent_size == 4
    latents = torch.randn(3, 4)
    made = model.generate_features(3, latents=latents, seed=1).values
    assert torch.equal(made, model.generate_features(3, latents=latents, seed=1).values)
    assert not torch.equal(made, model.generate_features(3, seed=1).values)
    moved = latents.clone()
    moved[1] += 2.0
    again = model.generate_features(3, latents=moved, seed=1).values
    torch.testing.assert_close(again[[0, 2]], made[[0, 2]])
    assert (again[1] - made[1]).abs().max() > 1e-4
    series = model.generate(3, latents=latents, seed=1)
    assert [len(each) for each in series] == [6, 6, 6]


@pytest.mark.parametrize("latents", [torch.zeros(2, 4), torch.zeros(3, 5), torch.zeros(3, 4, dtype=torch.long)])
def test_latents_of_another_shape_are_refused(model, latents):
    with pytest.raises(ValueError, match=r"latents must be floating point of shape \(3, 4\)"):
        model.generate_features(3, latents=latents)
