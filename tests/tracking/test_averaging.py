"""Averages of the weights under a real trainer."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

import hybridgen
from hybridgen.data import TextData
from hybridgen.models import LanguageModel
from hybridgen.tracking.averaging import ExponentialAveraging, TriggeredAveraging

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 60


@pytest.fixture
def parts(tmp_path):
    for part in ("train", "valid"):
        (tmp_path / f"{part}.txt").write_text(TEXT if part == "train" else TEXT[:900])

    def make():
        pl.seed_everything(0)
        data = TextData(source=str(tmp_path), cache_dir=str(tmp_path / "cache"), batch_size=4, bptt=16)
        # The adaptive head has a buffer of whole numbers, which must not be averaged.
        head = {"head": "adaptive", "head_options": {"cutoffs": [8, 16]}}
        model = LanguageModel(stack={"hidden_size": 16, "num_layers": 1}, embedding_size=16, warmup_steps=2, **head)
        return model, data

    return make


class Watch(pl.Callback):
    """Keeps the weights after every step and at the end of every validation."""

    def __init__(self):
        self.after_step, self.in_validation = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.after_step.append(flat(pl_module))

    def on_validation_end(self, trainer, pl_module):
        self.in_validation.append(flat(pl_module))


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def fit(parts, *callbacks, ckpt_path=None, **options):
    model, data = parts()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"accelerator": "cpu", "max_steps": 12, "num_sanity_val_steps": 0} | quiet | options
    options.setdefault("enable_checkpointing", any(isinstance(c, ModelCheckpoint) for c in callbacks))
    trainer = pl.Trainer(callbacks=list(callbacks), **options)
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return trainer, model


def test_the_exponential_average_is_what_its_equation_says(parts):
    watch = Watch()
    fit(parts, watch, ExponentialAveraging(decay=0.5), val_check_interval=6)
    average = watch.after_step[0]
    for n, weights in enumerate(watch.after_step[1:], start=1):
        d = min(0.5, (1 + n) / (10 + n))
        average = d * average + (1 - d) * weights
    torch.testing.assert_close(watch.in_validation[-1], average, rtol=1e-5, atol=1e-6)


def test_validation_sees_the_average_and_training_goes_on_with_the_weights(parts):
    alone, averaged = Watch(), Watch()
    fit(parts, alone, val_check_interval=4)
    fit(parts, averaged, ExponentialAveraging(decay=0.9), val_check_interval=4)
    for ours, theirs in zip(averaged.after_step, alone.after_step, strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(averaged.in_validation[1], alone.in_validation[1])


def test_a_checkpoint_holds_the_average_and_training_resumes_from_the_weights(parts, tmp_path):
    whole = Watch()
    fit(parts, whole, ExponentialAveraging(decay=0.9), limit_val_batches=0)
    saver = ModelCheckpoint(dirpath=tmp_path / "saved", filename="{step}", save_top_k=-1, every_n_train_steps=6)
    fit(parts, ExponentialAveraging(decay=0.9), saver, limit_val_batches=0)
    path = tmp_path / "saved" / "step=6.ckpt"
    assert not torch.equal(flat(hybridgen.load(path)), whole.after_step[5])  # the average
    rest = Watch()
    _, resumed = fit(parts, rest, ExponentialAveraging(decay=0.9), limit_val_batches=0, ckpt_path=path)
    for ours, theirs in zip(rest.after_step, whole.after_step[6:], strict=True):
        assert torch.equal(ours, theirs)
    _, uninterrupted = fit(parts, ExponentialAveraging(decay=0.9), limit_val_batches=0)
    torch.testing.assert_close(flat(resumed), flat(uninterrupted))


def test_triggered_averaging_begins_when_validation_stops_improving(parts):
    watch, averaging = Watch(), TriggeredAveraging(patience=1)
    # A learning rate that breaks the model: validation gets worse at once.
    model, data = parts()
    model.hparams.learning_rate = 3.0
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=24,
        num_sanity_val_steps=0,
        val_check_interval=3,
        enable_checkpointing=False,
        callbacks=[watch, averaging],
        **quiet,
    )
    trainer.fit(model, datamodule=data)
    assert averaging.triggered
    begun = next(
        i for i in range(2, len(averaging.history)) if averaging.history[i] > min(averaging.history[: i - 1])
    )  # the validation that started it
    for k in range(begun + 1):
        assert torch.equal(watch.in_validation[k], watch.after_step[3 * k + 2])
    since = torch.stack(watch.after_step[3 * begun + 3 :])
    torch.testing.assert_close(watch.in_validation[-1], since.mean(0), rtol=1e-4, atol=1e-4)


def test_triggered_averaging_names_what_is_logged(parts):
    with pytest.raises(ValueError, match=r"val/nothing.*val/loss"):
        fit(parts, TriggeredAveraging(monitor="val/nothing"), val_check_interval=4)


@pytest.mark.parametrize(
    ("make", "name"), [(lambda: ExponentialAveraging(decay=1.0), "decay"), (lambda: TriggeredAveraging(0), "patience")]
)
def test_options_that_do_not_fit_are_named(make, name):
    with pytest.raises(ValueError, match=name):
        make()
