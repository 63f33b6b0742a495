"""Schedules of the KL in epochs know how long one is, in every model that has such."""

import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl

from hybridgen.data import ImageRowsData, PianoRollData, SeriesData, TextData
from hybridgen.models import DRAW, SequenceVAEGAN, TextVAE, VariationalRNN
from hybridgen.models.optimisation import steps_per_epoch

BATCHES = 5
KL = {"schedule": {"kind": "linear", "start": 0.25, "epochs": 2}}
STACK = {"hidden_size": 4}


def text_vae():
    sizes = {"encoder": STACK, "decoder": STACK, "embedding_size": 4, "latent_size": 2, "monitor_sentences": 0}
    return TextVAE(**sizes, kl=KL), TextData(layout="lines", codec="words", batch_size=8, max_length=8)


def variational_rnn():
    return VariationalRNN(latent_size=2, stack=STACK, kl_control=KL), PianoRollData(batch_size=2, max_length=8)


def draw():
    model = DRAW(glimpses=2, latent_size=2, stack=STACK, kl=KL)
    return model, ImageRowsData(batch_size=4, levels=2)


def sequence_vaegan():
    model = SequenceVAEGAN(stack=STACK, latent_size=2, kl=KL)
    return model, SeriesData(source="sines", num_series=60, length=6, num_features=2, batch_size=4)


@pytest.mark.parametrize(("make", "accumulate"), [(text_vae, 2), (variational_rnn, 2), (draw, 2), (sequence_vaegan, 1)])
@pytest.mark.parametrize("length", [{"max_epochs": 1}, {"max_steps": 3}])
def test_an_epoch_is_as_long_as_it_is(make, accumulate, length):
    model, data = make()
    trainer = pl.Trainer(
        **length,
        limit_train_batches=BATCHES,
        limit_val_batches=0,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    steps = math.ceil(BATCHES / accumulate)
    schedule = model.kl_control.schedule
    assert schedule.steps_per_epoch == steps
    assert schedule(steps) == pytest.approx(0.25 + 0.75 / 2)


def test_data_without_an_end_has_no_epochs():
    trainer = SimpleNamespace(num_training_batches=math.inf, accumulate_grad_batches=1)
    with pytest.raises(ValueError, match="give schedules in steps"):
        steps_per_epoch(trainer)
