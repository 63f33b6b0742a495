"""Optimisers and schedules by name."""

import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from hybridgen.models.optimisation import make_optimizer, make_schedule

MODEL = nn.Linear(3, 2)
#: Ten epochs of five batches.
TRAINER = SimpleNamespace(estimated_stepping_batches=50, num_training_batches=5, accumulate_grad_batches=1)


def rates(name, steps=50, *, warmup_steps=0, trainer=TRAINER, **options):
    optimizer = make_optimizer([MODEL], "sgd", learning_rate=1.0)
    (config,) = make_schedule(optimizer, name, trainer, warmup_steps=warmup_steps, options=options)
    assert config["interval"] == "step"
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        config["scheduler"].step()
    return seen


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop", "adagrad"])
def test_every_optimizer_decays_matrices_alone_and_lowers_a_loss(name):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = make_optimizer([model, model], name, learning_rate=0.05, weight_decay=0.01)
    assert [(len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups] == [(1, 0.01), (1, 0.0)]
    x, y = torch.randn(50, 3), torch.randn(50, 2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]


def test_the_step_schedule_is_zarembas():
    per_epoch = rates("step")[::5]
    assert per_epoch == [1.0] * 4 + [0.5**k for k in range(1, 7)]
    assert rates("step", after=6, factor=0.8)[30] == pytest.approx(0.8)
    assert rates("step", after=2, every=3)[::5] == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125]
    accumulated = SimpleNamespace(**vars(TRAINER) | {"accumulate_grad_batches": 2})  # 3 steps an epoch
    assert rates("step", 15, trainer=accumulated)[11:14] == [1.0, 0.5, 0.5]


def test_cosine_and_constant_after_a_warm_up():
    assert rates("constant", 5, warmup_steps=3) == [0.25, 0.5, 0.75, 1.0, 1.0]
    cosine = rates("cosine", 51, warmup_steps=10)
    assert cosine[10] == 1.0
    assert cosine[30] == pytest.approx(0.05 + 0.95 / 2)
    assert cosine[50] == pytest.approx(0.05)


def test_plateau_lowers_what_the_warm_up_reached():
    optimizer = make_optimizer([MODEL], "sgd", learning_rate=1.0)
    rise, plateau = make_schedule(optimizer, "plateau", TRAINER, warmup_steps=3, options={"patience": 0})
    assert (plateau["interval"], plateau["monitor"]) == ("epoch", "val/loss")
    seen = []
    for loss in [3.0, 2.0, 2.0, 2.0, 1.0]:
        for _ in range(2):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            rise["scheduler"].step()
        plateau["scheduler"].step(loss)
    assert seen == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25])


def test_plateau_under_a_trainer():
    class Flat(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def training_step(self, batch, index):
            return self.layer(batch).square().mean()

        def validation_step(self, batch, index):
            self.log("val/loss", 1.0)

        def configure_optimizers(self):
            optimizer = make_optimizer([self], "sgd", learning_rate=1.0)
            schedule = make_schedule(optimizer, "plateau", self.trainer, warmup_steps=2, options={"patience": 0})
            return [optimizer], schedule

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=3, accelerator="cpu", enable_model_summary=False, **quiet)
    data = torch.utils.data.DataLoader(torch.ones(4, 3))
    trainer.fit(Flat(), data, data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.25)  # the first validation sets the mark


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_optimizer([MODEL], "adamww", learning_rate=1), "did you mean 'adamw'"),
        (lambda: make_optimizer([MODEL], "sgd", learning_rate=1, options={"momentun": 1}), "did you mean 'momentum'"),
        (lambda: make_optimizer([MODEL], "sgd", learning_rate=-1), "learning rate"),
        (lambda: make_optimizer([MODEL], "sgd", learning_rate=1, options={"momentum": "much"}), "wrong type"),
        (lambda: rates("cosin"), "did you mean 'cosine'"),
        (lambda: rates("step", afer=3), "did you mean 'after'"),
        (lambda: rates("step", factor=2), "factor"),
        (lambda: rates("step", every=0), "every=0"),
        (lambda: rates("constant", after=3), "it has none"),
        (lambda: rates("cosine", trainer=SimpleNamespace(estimated_stepping_batches=math.inf)), "needs an end"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()
