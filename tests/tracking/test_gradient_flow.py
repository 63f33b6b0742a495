"""How gradients flow: against what theory says of a plain recurrent net, and in the training of every kind of model."""

import csv
import json
import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.testing import assert_close

from hybridgen import cells
from hybridgen.codecs import PianoRollCodec
from hybridgen.data import ElementSequences, TextData
from hybridgen.models import LanguageModel, VariationalRNN
from hybridgen.tracking import GradientFlow
from hybridgen.tracking.gradient_lags import factor_per_step, lag_figure, lag_norms


def small_rnn(radius, hidden=16):
    """A tanh net near the origin, where it is linear, whose recurrent weights are a rotation times ``radius``."""
    cell = cells.make("rnn", 3, hidden)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        weight = getattr(cell, cell.recurrent_weights[0])
        weight.copy_(radius * torch.linalg.qr(torch.randn(hidden, hidden))[0])
    return cell


@pytest.mark.parametrize("radius", [0.5, 0.9, 1.1])
def test_a_plain_net_vanishes_at_the_rate_of_its_spectral_radius(radius):
    inputs, gradient = 1e-6 * torch.randn(4, 21, 3), torch.randn(4, 16)
    norms = lag_norms(small_rnn(radius), inputs, gradient, max_lag=20)
    expected = gradient.norm(dim=1).mean() * radius ** torch.arange(21)
    assert_close(norms, expected, rtol=1e-4, atol=0)
    assert factor_per_step(norms) == pytest.approx(radius, rel=1e-4)


@pytest.mark.parametrize("name", cells.names())
def test_norms_are_those_of_autograd(name):
    """Against one backward pass through the whole sequence, begun at the state of each lag."""
    cell = cells.make(name, 3, 4).double()
    inputs, gradient = torch.randn(2, 6, 3, dtype=torch.float64), torch.randn(2, cell.output_size, dtype=torch.float64)
    norms = lag_norms(cell, inputs, gradient)
    for lag in (1, 3, 5):
        _, state = cell(inputs[:, : 6 - lag])
        state = type(state)(*(part.detach().requires_grad_() for part in state))
        outputs, _ = cell(inputs[:, 6 - lag :], state, way="loop")
        found = torch.autograd.grad(outputs[:, -1], list(state), gradient, allow_unused=True)
        squares = sum(g.square().sum(1) for g in found if g is not None)
        assert_close(norms[lag].double(), squares.sqrt().mean(), rtol=1e-5, atol=1e-12)


def test_a_forget_bias_keeps_gradients_of_an_lstm_alive():
    inputs, gradient = torch.randn(8, 31, 3), torch.randn(8, 16)
    factors = {}
    for name, options in (("rnn", {}), ("lstm", {"forget_bias": 0.0}), ("lstm", {"forget_bias": 1.0})):
        torch.manual_seed(0)
        cell = cells.make(name, 3, 16, **options)
        if name == "rnn":
            cell = small_rnn(0.5)
        factors[name, options.get("forget_bias")] = factor_per_step(lag_norms(cell, inputs, gradient))
    assert factors["rnn", None] < factors["lstm", 0.0] < factors["lstm", 1.0]


def test_weights_gradients_and_random_numbers_are_left_alone():
    stack = cells.Stack("lstm", 3, 4, num_layers=2, dropout=0.5, zoneout=0.5)
    stack.train()
    before = torch.get_rng_state()
    lag_norms(stack, torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)), torch.ones(2, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert stack.training
    assert all(p.grad is None for p in stack.parameters())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="T at least 2"):
        lag_norms(cells.make("gru", 3, 4), torch.randn(2, 1, 3), torch.randn(2, 4))
    with pytest.raises(ValueError, match="every of GradientFlow is 0"):
        GradientFlow(every=0)
    assert math.isnan(factor_per_step(torch.zeros(9)))


def test_the_figure_has_a_line_for_each_cell():
    axes = lag_figure({"a": torch.tensor([1.0, 0.5, 0.25]), "b": torch.ones(3)}, title="t").axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["a (× 0.5 a step)", "b (× 1 a step)"]
    assert axes.get_yscale() == "log"


# In training ------------------------------------------------------------------------------------------------------


def fit(model, data, folder, flow, **options):
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=CSVLogger(folder, name="", version="run"),
        callbacks=[flow],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        **options,
    )
    trainer.fit(model, datamodule=data)
    return [json.loads(line) for line in (folder / "run" / "gradient_flow" / "flow.jsonl").read_text().splitlines()]


def text_parts(folder, **options):
    (folder / "train.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    data = TextData(train=str(folder / "train.txt"), cache_dir=str(folder), batch_size=4, bptt=12)
    pl.seed_everything(0)
    stack = {"cell": "gru", "hidden_size": 8, "num_layers": 2} | options
    return LanguageModel(stack=stack, embedding_size=8, warmup_steps=0, learning_rate=1e-2), data


def test_a_language_model_is_measured_every_so_many_steps(tmp_path):
    model, data = text_parts(tmp_path)
    lines = fit(model, data, tmp_path, GradientFlow(every=4), max_steps=9, gradient_clip_val=1e-3)
    assert [line["step"] for line in lines] == [0, 4, 8]
    first = lines[0]
    assert set(first["lags"]) == {"stack.layers.0.0", "stack.layers.1.0"}
    assert all(len(curve) == 12 and curve[0] > curve[-1] > 0 for curve in first["lags"].values())
    assert {"embedding", "stack.layers.0.0"} <= set(first["norm"])
    assert sum(value**2 for value in first["norm"].values()) ** 0.5 > 1e-2  # before clipping
    assert all(0 < first["update_ratio"][name] < 1 for name in ("embedding", "stack.layers.1.0"))
    assert {p.name for p in (tmp_path / "run" / "gradient_flow").glob("*.png")} == {
        f"step-{step:08d}.png" for step in (0, 4, 8)
    }
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    measured = [
        float(row["gradient_flow/per_step/stack.layers.0.0"]) for row in rows if row["gradient_flow/norm/embedding"]
    ]
    assert len(measured) == 3
    assert all(0 < value < 1 for value in measured)


def test_gradients_are_those_that_the_step_was_taken_by(tmp_path):
    """With plain gradient descent the update is the learning rate times the gradient, accumulated ones too."""
    model, data = text_parts(tmp_path, weight_drop=0.2)
    model.hparams.optimizer, model.hparams.weight_decay, model.hparams.schedule = "sgd", 0.0, "constant"
    (line,) = fit(model, data, tmp_path, GradientFlow(), max_steps=3, accumulate_grad_batches=2)
    size = float(model.embedding.weight.detach().norm())
    assert line["update_ratio"]["embedding"] * size == pytest.approx(1e-2 * line["norm"]["embedding"], rel=0.05)
    assert set(line["lags"]) == {"stack.layers.0.0", "stack.layers.1.0"}


def test_measuring_changes_nothing(tmp_path):
    trained = []
    for number, every in enumerate((1, 1000)):
        folder = tmp_path / str(number)
        folder.mkdir()
        model, data = text_parts(folder, dropout=0.2)
        fit(model, data, folder, GradientFlow(every=every), max_steps=4)
        trained.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*trained)


class Rolls(pl.LightningDataModule):
    def __init__(self):
        super().__init__()
        self.codec = PianoRollCodec(lowest_key=60, num_keys=8)
        draws = np.random.default_rng(0)
        self.rolls = [(draws.random((10, 8)) < 0.2).astype(np.float32) for _ in range(4)]

    def train_dataloader(self):
        return ElementSequences(self.rolls, batch_size=4)


@pytest.mark.parametrize(
    ("dynamics", "cell"), [("vrnn", "dynamics.stack.layers.0.0"), ("srnn", "dynamics.backward_stack.layers.0.0")]
)
def test_cells_that_are_stepped_are_measured_too(dynamics, cell, tmp_path):
    pl.seed_everything(0)
    model = VariationalRNN(dynamics=dynamics, latent_size=3, stack={"hidden_size": 6}, warmup_steps=0)
    (line,) = fit(model, Rolls(), tmp_path, GradientFlow(), max_steps=2)
    curve = line["lags"][cell]
    assert len(curve) >= 9
    assert all(value > 0 for value in curve)
    assert all("step" not in vars(module) for module in model.modules())  # nothing is left in their place
