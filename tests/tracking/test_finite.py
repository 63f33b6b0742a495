"""Losses and gradients that are not finite never reach the weights, whatever the model and its optimisation."""

import logging
import math

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from hybridgen.data import SeriesData, TextData
from hybridgen.models import LanguageModel, SequenceGAN
from hybridgen.tracking import SkipNonFinite, TrainingDiverged
from hybridgen.tracking.finite import SkippedSteps


class Line(pl.LightningModule):
    """y = w x by gradient descent, with batch statistics; batches named in ``bad`` are broken."""

    def __init__(self, bad=(), how="loss", manual=False, optimizer="adamw"):
        super().__init__()
        self.automatic_optimization = not manual
        self.net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.bad, self.how, self.name = set(bad), how, optimizer
        self.weights = []

    def training_step(self, batch, index):
        self.weights.append(flat(self))
        (inputs,) = batch
        broken = self.trainer.fit_loop.total_batch_idx in self.bad
        if broken and self.how == "input":
            inputs = inputs.clone()
            inputs[0, 0] = math.nan
        loss = (self.net(inputs).squeeze() - inputs.sum(1)).square().mean()
        if broken and self.how == "loss":
            loss = loss + math.inf  # the gradient of which is finite
        if broken and self.how == "gradient":
            loss = loss + _broken_gradient(self.net[0].weight)
        if self.automatic_optimization:
            return loss
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        return None

    def configure_optimizers(self):
        if not self.automatic_optimization:
            return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.net[0], self.net[1:])]
        if self.name == "sgd":
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        return torch.optim.AdamW(self.parameters(), lr=0.1, fused=self.name == "fused")


class _Broken(torch.autograd.Function):
    @staticmethod
    def forward(context, weight):
        return weight.sum() * 0

    @staticmethod
    def backward(context, gradient):
        return torch.full((4, 2), math.inf)


def _broken_gradient(weight):
    return _Broken.apply(weight)


def flat(model):
    return torch.cat([value.detach().flatten().double() for value in model.state_dict().values()])


def train(model, guard, batches=8, *callbacks, **options):
    data = torch.utils.data.TensorDataset(torch.randn(4 * batches, 2))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[guard, *callbacks],
        **options,
    )
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=4))
    return trainer


@pytest.mark.parametrize("how", ["loss", "gradient", "input"])
@pytest.mark.parametrize(
    "options",
    [{"optimizer": "adamw"}, {"optimizer": "fused"}, {"optimizer": "sgd"}, {"manual": True}],
    ids=["adamw", "fused", "sgd", "manual"],
)
def test_a_step_that_is_skipped_changes_nothing(how, options, caplog):
    model, guard = Line({2, 5}, how, **options), SkipNonFinite()
    with caplog.at_level(logging.WARNING, "hybridgen.training"):
        trainer = train(model, guard, gradient_clip_val=None if options.get("manual") else 1.0)
    half = options.get("manual") and how == "gradient"  # the other optimiser's gradient is good
    kept = (lambda state: state[:12]) if half else (lambda state: state)
    for before, after in ((2, 3), (5, 6)):
        changed = kept(model.weights[after]) != kept(model.weights[before])
        # The count of batches that were normalised goes on, the statistics do not.
        assert int(changed.sum()) == (0 if half else 1)
    assert int((model.weights[4] != model.weights[3]).sum()) > 12
    assert flat(model).isfinite().all()
    assert guard.skipped.total == (4 if options.get("manual") and not half else 2)
    assert trainer.callback_metrics["train/skipped_steps"] == guard.skipped.total
    assert len(caplog.records) == guard.skipped.total
    said = {"loss": "the loss is inf", "gradient": "gradient of net.0.weight is not finite", "input": "the loss is nan"}
    assert said[how] in caplog.records[0].getMessage()


def test_too_many_end_the_training_and_the_good_checkpoint_stays(tmp_path):
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}", save_last=True)
    model = Line(range(3, 100))
    with pytest.raises(TrainingDiverged, match=r"4 steps in a row .* last at step 6 .the loss is inf.: lower"):
        train(model, SkipNonFinite(in_a_row=4), 20, saving)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in last.values())


def test_too_many_in_all_end_it_too():
    with pytest.raises(TrainingDiverged, match="3 steps had numbers"):
        train(Line({1, 3, 5, 7}), SkipNonFinite(in_all=3), 10)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """A step can be finite and its result not: the weight overflows."""

    class Overflow(Line):
        def optimizer_step(self, epoch, index, optimizer, closure):
            super().optimizer_step(epoch, index, optimizer, closure)
            if index == 3:
                with torch.no_grad():
                    self.net[2].weight.fill_(math.inf)

    saving = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    with pytest.raises(TrainingDiverged, match=r"weights of net\.2\.weight are not finite"):
        train(Overflow(), SkipNonFinite(), 8, saving)
    assert {p.name for p in tmp_path.iterdir()} == {f"step={step}.ckpt" for step in (1, 2, 3)}


def test_the_count_goes_on_where_training_does(tmp_path):
    train(Line({1, 2}), SkipNonFinite(), 4, ModelCheckpoint(tmp_path, every_n_train_steps=4, filename="it"))
    again = SkipNonFinite()
    again.load_state_dict(torch.load(tmp_path / "it.ckpt", weights_only=True)["callbacks"]["SkipNonFinite"])
    assert again.skipped.total == 2


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_limits_must_be_whole_numbers(value):
    with pytest.raises(ValueError, match="give a whole number of at least 1"):
        SkipNonFinite(in_a_row=value)
    with pytest.raises(ValueError, match="give a whole number of at least 1"):
        SkippedSteps(in_all=value)


# The models -------------------------------------------------------------------------------------------------------


def test_a_language_model_forgets_a_carried_state_that_is_not_finite(tmp_path):
    (tmp_path / "train.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    data = TextData(train=str(tmp_path / "train.txt"), cache_dir=str(tmp_path), batch_size=4, bptt=12)
    model = LanguageModel(stack={"hidden_size": 8, "num_layers": 1}, embedding_size=8, warmup_steps=0)
    seen = []

    class Poison(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 3:
                pl_module.carried = type(pl_module.carried)(*(part * math.nan for part in pl_module.carried))

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append(float(outputs["loss"]))

    guard = SkipNonFinite()
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=8, logger=False, enable_checkpointing=False, callbacks=[guard, Poison()],
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    assert guard.skipped.total == 1
    assert [math.isfinite(loss) for loss in seen] == [True] * 3 + [False] + [True] * 4


@pytest.mark.parametrize("mode", ["direct", "latent", "timegan"])
def test_a_gan_goes_back_by_itself_and_is_counted_once(mode, monkeypatch):
    data = SeriesData(source="sines", num_series=24, length=8, batch_size=8)
    steps = {"autoencoder_steps": 2, "supervisor_steps": 1, "latent_updates": 1}
    model = SequenceGAN(mode=mode, stack={"hidden_size": 4}, hidden_size=8, **steps)
    update = SequenceGAN._update

    def broken(self, which, module, loss, number):
        return update(self, which, module, loss * math.nan if self.global_step == 3 and which == 2 else loss, number)

    monkeypatch.setattr(SequenceGAN, "_update", broken)
    guard = SkipNonFinite()
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=6, logger=False, enable_checkpointing=False, callbacks=[guard],
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    assert trainer.callback_metrics["train/skipped_steps"] == model.skipped_updates == 1
    assert guard.skipped.total == 0
    assert all(p.isfinite().all() for p in model.parameters())
