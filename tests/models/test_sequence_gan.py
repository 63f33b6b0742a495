"""The recurrent GAN: counting, resuming, saving, sampling, what data it takes, and that it learns."""

import csv
import logging
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

import hybridgen
from hybridgen.data import SeriesBatch, SeriesData
from hybridgen.models import SequenceGAN

MODES = ("latent", "direct", "timegan")
SMALL = {
    "stack": {"cell": "gru", "hidden_size": 6},
    "sequence_noise": 4,
    "step_noise": 2,
    "code_size": 4,
    "hidden_size": 8,
    "num_layers": 2,
    "autoencoder_steps": 3,
    "supervisor_steps": 1,
    "latent_updates": 2,
}


def sines(**options):
    return SeriesData(
        **{"source": "sines", "num_series": 40, "length": 6, "num_features": 2, "batch_size": 8} | options
    )


def model_of(mode="latent", **options):
    torch.manual_seed(0)
    return SequenceGAN(**{**SMALL, "mode": mode, **options})


def train(model, data, steps, *, callbacks=(), logger=False, ckpt_path=None, **options):
    trainer = pl.Trainer(
        **{
            "max_steps": steps,
            "accelerator": "cpu",
            "logger": logger,
            "callbacks": list(callbacks),
            "enable_checkpointing": bool(callbacks),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
        }
        | options
    )
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return trainer


@pytest.fixture
def table(tmp_path):
    """Series of different lengths with classes, an attribute, a category, missing cells and a given column."""
    random = np.random.default_rng(0)
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "kind", "size", "hour", "level", "weather"])
        for series in range(40):
            kind = ("up", "down")[series % 2]
            for hour in range(int(random.integers(3, 8))):
                level = (hour if kind == "up" else -hour) + random.normal()
                cell = "" if random.random() < 0.2 else f"{level:.2f}"
                writer.writerow([series, kind, series % 5, hour, cell, random.choice(["sun", "rain", "fog"])])
    return path


def table_data(path, **options):
    return SeriesData(
        **{
            "source": str(path),
            "id_column": "id",
            "label_column": "kind",
            "attribute_columns": ["size"],
            "condition_columns": ["hour"],
            "categorical_columns": ["weather"],
            "batch_size": 8,
            "valid_fraction": 0.2,
        }
        | options
    )


# Counting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_every_batch_counts_once(mode, tmp_path):
    """Two or three optimisers, and still max_steps, checkpoints and the logged axis are in batches."""
    seen = []

    class Count(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            seen.append(trainer.global_step)

    checkpoint = ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=3, save_top_k=-1, filename="{step}")
    logger = CSVLogger(tmp_path, name="log", version="")
    model = model_of(mode, critic_steps=2)
    trainer = train(model, sines(), 7, callbacks=[Count(), checkpoint], logger=logger)
    assert seen == list(range(1, 8))
    assert trainer.global_step == 7
    assert sorted(p.name for p in tmp_path.glob("*.ckpt")) == ["step=3.ckpt", "step=6.ckpt"]
    with (tmp_path / "log" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/learning_rate"]]
    assert [int(row["step"]) for row in rows] == list(range(7))
    counted = [next(iter(o.state_dict()["state"].values()))["step"] for o in trainer.optimizers[1:]]
    # Every second update of the critic; over codes, two updates for each of the four batches after the autoencoder's;
    # of step codes one update of the supervisor, and then one of it with the generator.
    assert [int(n) for n in counted] == {"direct": [3, 7], "latent": [4, 8, 3], "timegan": [2, 3, 4]}[mode]


def test_learning_rates_follow_batches():
    model = model_of("latent", autoencoder_steps=3, schedule="cosine", final_learning_rate=0.0)
    rates = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            rates.append([o.param_groups[0]["lr"] for o in trainer.optimizers])

    train(model, sines(), 5, callbacks=[Look()], enable_checkpointing=False)
    warm = [(n + 1) / 101 for n in (0, 1, 2, 0, 1)]
    np.testing.assert_allclose([r[3] for r in rates[:3]], 3e-3 * np.array(warm[:3]))
    np.testing.assert_allclose([r[1] for r in rates[3:]], 5e-4 * np.array(warm[3:]))


def test_accumulated_gradients_are_those_of_a_larger_batch():
    """Four batches of two, accumulated in pairs: as many updates as two batches."""
    steps = []

    class Count(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            states = [o.state_dict()["state"] for o in trainer.optimizers[1:]]
            steps.append([int(next(iter(s.values()))["step"]) if s else 0 for s in states])

    model = model_of("direct", accumulate_batches=2)
    train(model, sines(), 4, callbacks=[Count()], enable_checkpointing=False)
    assert steps == [[0, 0], [1, 1], [1, 1], [2, 2]]


def test_gradients_are_clipped():
    norms = []
    model = model_of("direct", gradient_clip_val=1e-3)
    original = torch.nn.utils.clip_grad_norm_

    def look(parameters, limit):
        parameters = list(parameters)
        original(parameters, limit)
        norms.append(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm())

        return torch.tensor(1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", look)
        train(model, sines(), 2)
    assert len(norms) == 4
    assert max(norms) <= 1.01e-3


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("mode", MODES)
def test_two_processes_keep_the_same_weights(mode, tmp_path):
    """Each draws its own noise and sees its own rows, and gradients are shared."""
    script = tmp_path / "two.py"
    script.write_text(
        "import sys, torch\n"
        "import torch.distributed as dist\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_sequence_gan import model_of, sines, train\n"
        "if __name__ == '__main__':\n"
        f"    model = model_of({mode!r})\n"
        "    trainer = train(model, sines(), 5, devices=2, strategy='ddp', use_distributed_sampler=False)\n"
        "    mine = torch.cat([p.detach().flatten() for p in model.parameters()])\n"
        "    both = [torch.zeros_like(mine) for _ in range(2)]\n"
        "    dist.all_gather(both, mine)\n"
        "    assert torch.equal(*both) and mine.isfinite().all() and trainer.global_step == 5\n"
        "    print('the same weights', flush=True)\n"
    )
    finished = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.count("the same weights") == 2


# Resuming, saving, sampling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interrupted_at", [2, 5])
def test_a_resumed_run_is_the_uninterrupted_one(mode, interrupted_at, tmp_path):
    whole = model_of(mode)
    # One length of training for both: the cosine looks at its end.
    trainer = train(whole, sines(), 8, callbacks=[ModelCheckpoint(tmp_path, every_n_train_steps=interrupted_at,
                                                                  save_top_k=-1, filename="{step}")])  # fmt: skip
    resumed = model_of(mode)
    torch.manual_seed(123)
    again = train(resumed, sines(), 8, ckpt_path=tmp_path / f"step={interrupted_at}.ckpt")
    assert trainer.global_step == again.global_step == 8
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_is_complete(mode, tmp_path):
    model = model_of(mode)
    trainer = train(model, sines(), 5)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = hybridgen.load(tmp_path / "model.ckpt")
    assert not loaded.training
    made, again = model.generate_features(5, seed=3), loaded.generate_features(5, seed=3)
    assert torch.equal(made.values, again.values)
    assert made.values.shape == (5, 6, 2)
    series = loaded.generate(2, seed=3)
    assert list(series[0].columns) == ["x1", "x2"]
    np.testing.assert_allclose(series[1].columns["x1"], made.values[1, :, 0], atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_a_sample_depends_on_its_seed_and_number_alone(mode):
    model = model_of(mode)
    train(model, sines(), 4)
    few, many = model.generate_features(3, seed=1), model.generate_features(300, seed=1)
    torch.testing.assert_close(many.values[:3], few.values)
    assert not torch.equal(many.values[256:259], few.values)
    assert not torch.equal(model.generate_features(3, seed=2).values, few.values)
    before = torch.get_rng_state()
    model.generate_features(3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mode", MODES)
def test_longer_and_shorter_than_training(mode):
    model = model_of(mode, steps_per_call=4)
    train(model, sines(), 4)
    for length in (1, 5, 13):
        made = model.generate_features(3, length=length)
        assert made.values.shape == (3, length, 2)
        assert made.values.isfinite().all()


# Data -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_everything_a_table_can_hold(mode, table, tmp_path):
    data = table_data(table)
    model = model_of(mode)
    trainer = train(model, data, 6)
    assert math.isfinite(trainer.callback_metrics["val/mean_discrepancy"])
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = hybridgen.load(tmp_path / "model.ckpt")
    hours = {"hour": np.arange(9.0)}
    series = loaded.generate(30, labels="up", conditions=hours, length=9, seed=1)
    assert {s.label for s in series} == {"up"}
    assert all(len(s) == 9 for s in series)
    cells = np.concatenate([s.columns["weather"] for s in series])
    assert set(cells) <= {"sun", "rain", "fog"}
    levels = np.concatenate([s.columns["level"] for s in series])
    assert np.isnan(levels).any()  # missing cells are generated as missing
    assert np.isfinite(levels).any()
    assert all(np.isfinite(s.attributes["size"]) for s in series)
    np.testing.assert_allclose(series[0].conditions["hour"], np.arange(9))
    drawn = loaded.generate(60, conditions=hours, seed=1)
    assert {s.label for s in drawn} == {"up", "down"}


@pytest.mark.parametrize("mode", MODES)
def test_lengths_are_drawn_like_those_of_the_data(mode, table):
    model = model_of(mode)
    data = table_data(table, condition_columns=None, columns=["level"], categorical_columns=None)
    train(model, data, 6)
    made = model.generate_features(100)
    seen = torch.as_tensor(data.sequences("train").lengths)
    assert int(made.lengths.min()) >= 1
    assert int(made.lengths.max()) <= int(seen.max())
    if mode != "latent":
        assert set(made.lengths.tolist()) == set(seen.tolist())
        assert abs(float(made.lengths.float().mean() - seen.float().mean())) < 0.6
    beyond = torch.arange(made.values.shape[1]) >= made.lengths[:, None]
    assert not made.values[beyond].any()


@pytest.mark.parametrize("mode", MODES)
def test_attributes_given_at_sampling_time(mode, table):
    model = model_of(mode)
    train(model, table_data(table), 5)
    given = [{"size": size} for size in (0.0, 4.0)]
    series = model.generate(2, attributes=given, conditions={"hour": np.arange(4.0)}, labels=["up", "down"])
    assert [s.attributes["size"] for s in series] == [0.0, 4.0]
    assert [s.label for s in series] == ["up", "down"]


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "wasserstein", "penalty": "gradient_penalty", "penalty_weight": 10.0},
        {"loss": "hinge", "penalty": "none", "spectral_norm": True, "minibatch": False},
        {"loss": "least_squares", "penalty": "r1", "penalty_every": 2, "feature_matching": 1.0},
        {"loss": "non_saturating", "schedule": "constant", "critic_learning_rate": 1e-3, "gradient_clip_val": None},
    ],
    ids=lambda o: o["loss"],
)
@pytest.mark.parametrize("mode", MODES)
def test_every_objective_trains(mode, options):
    model = model_of(mode, **options)
    before = {n: p.clone() for n, p in [*model.named_parameters()]}
    train(model, sines(), 5, limit_val_batches=0)
    changed = {n.split(".")[0] for n, p in model.named_parameters() if n in before and not torch.equal(p, before[n])}
    assert all(p.isfinite().all() for p in model.parameters())
    assert not changed - {"generator", "critic", "average", "autoencoder", "embedder"}


@pytest.mark.parametrize("scores", ["sequence", "steps", "both"])
def test_scores_augmentation_and_moments_of_the_direct_mode(scores, table):
    options = {"augmentation": {"operations": ["jitter", "time_shift"]}, "moment_weight": 1.0, "penalty": "r1_r2"}
    model = model_of("direct", scores=scores, critic_stack={"bidirectional": False}, **options)
    train(model, table_data(table), 3, limit_val_batches=0)
    assert model.critic.stack.bidirectional is False
    assert (model.critic.of_steps is None) == (scores == "sequence")
    assert all(p.isfinite().all() for p in model.parameters())


# Watching -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"mode": "direct"}, {"mode": "timegan", "autoencoder_steps": 1}], ids=str)
def test_training_goes_back_when_numbers_are_not_finite(options, caplog):
    model = model_of(**options)
    good = {}

    class Poison(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == 2:
                good.update({n: p.clone() for n, p in module.guard._good["critic"].items()})
                with torch.no_grad():
                    next(module.critic.parameters()).fill_(math.nan)

    with caplog.at_level(logging.WARNING, "hybridgen.sequence_gan"):
        train(model, sines(), 3, callbacks=[Poison()], enable_checkpointing=False, limit_val_batches=0)
    assert "going back to the last good weights" in caplog.text
    assert all(p.isfinite().all() for p in model.parameters())
    assert good


def test_training_that_always_diverges_is_given_up():
    model = model_of("direct")

    class Poison(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            module.guard.most = 2
            batch.values.fill_(math.nan)

    with pytest.raises(ValueError, match="training diverged"):
        train(model, sines(), 9, callbacks=[Poison()], enable_checkpointing=False)


def test_collapse_is_told(caplog):
    from hybridgen.models.sequence_gan_watch import CollapseAlarm, collapse_ratios

    real = torch.randn(50, 4, 2)
    same = collapse_ratios(real, torch.randn(60, 4, 2))
    collapsed = collapse_ratios(real, real[:1] + 0.01 * torch.randn(60, 4, 2))
    assert all(0.7 < ratio < 1.4 for ratio in same)
    assert max(collapsed) < 0.05
    alarm = CollapseAlarm(patience=20)
    with caplog.at_level(logging.WARNING, "hybridgen.sequence_gan"):
        assert not alarm.see_ratios(same, 1)
        assert not caplog.text
        assert alarm.see_ratios(collapsed, 7)
        assert "batch 7: the generator is collapsing" in caplog.text
        for _ in range(200):
            alarm.see_accuracy(1.0, 9)
    assert "the critic has been right" in caplog.text


# Learning -------------------------------------------------------------------------------------------------------


def test_latent_mode_learns_sines():
    from hybridgen.evaluation.series import mean_discrepancy

    data = sines(num_series=300, length=12, batch_size=32)
    options = {
        "stack": {"cell": "gru", "hidden_size": 12},
        "autoencoder_steps": 100,
        "autoencoder_learning_rate": 2e-2,
        "hidden_size": 32,
        "learning_rate": 3e-3,
        "latent_updates": 4,
        "average_decay": 0.98,
        "warmup_steps": 5,
    }
    model = model_of("latent", **options)
    trainer = train(model, data, 160, limit_val_batches=0)
    real = data.sequences("train").batch().values
    discrepancy = mean_discrepancy(real, model.generate_features(300).values).squared
    collapsed = mean_discrepancy(real, real.mean((0, 1)).expand_as(real) + 0.01 * torch.randn_like(real)).squared
    assert trainer.callback_metrics["train/reconstruction"] < 0.5
    assert discrepancy < 0.1 * collapsed


@pytest.mark.parametrize(("rows", "size"), [(3000, 1), (2500, 2), (1999, 7), (5, 4)])
def test_what_is_compared_is_spread_over_all_batches(rows, size):
    model = model_of("direct")
    model.trainer = SimpleNamespace(datamodule=SimpleNamespace(sequences=lambda part: range(rows)))
    model.on_validation_epoch_start()
    for part in torch.arange(float(rows)).split(size):
        model.validation_step(SeriesBatch(part.reshape(-1, 1, 1), *[None] * (len(SeriesBatch._fields) - 1)), 0)
    seen = torch.cat([batch.values for batch in model._seen]).flatten()
    assert torch.equal(seen, torch.arange(0.0, rows, math.ceil(rows / 1000)))


def test_a_schedule_with_an_end_needs_one():
    with pytest.raises(ValueError, match="'cosine' needs an end"):
        train(model_of("direct"), sines(), -1, max_time="00:00:00:05")


# Mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "latnt"}, "did you mean 'latent'"),
        ({"loss": "hing"}, "did you mean 'hinge'"),
        ({"penalty": "r3"}, "penalty is 'r3'"),
        ({"critic_steps": 0}, "critic_steps is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"mode": "latent", "augmentation": {}}, "critic of codes"),
        ({"mode": "direct", "augmentation": {"operation": []}}, "augmentation:"),
        ({"mode": "timegan", "augmentation": {}}, "mode 'timegan' has a critic of codes"),
        ({"mode": "timegan", "supervisor_steps": 0}, "supervisor_steps is 0"),
        ({"mode": "timegan", "critic_threshold": -1.0}, "critic_threshold is -1.0"),
        ({"mode": "latent", "feedback": True}, "feedback is of mode 'direct' alone"),
        ({"mode": "direct", "warm_start_steps": 3}, "before feedback is true"),
        ({"mode": "direct", "feedback": True, "warm_start_steps": -1}, "warm_start_steps is -1"),
        ({"mode": "direct", "feedback": True, "stack": {"cell": "gru", "bidirectional": True}}, "the stack is bidir"),
        ({"final_learning_rate": 2}, "final_learning_rate is 2"),
        ({"mode": "latent", "moment_weight": 1.0}, "moment_weight is about a critic of sequences"),
        ({"mode": "latent", "scores": "steps"}, "scores is about a critic of sequences"),
        ({"mode": "latent", "critic_stack": {"hidden_size": 4}}, "critic_stack is about a critic of sequences"),
    ],
)
def test_wrong_options_are_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        SequenceGAN(**options)


def test_wrong_options_of_sampling(table):
    model = model_of("latent")
    train(model, table_data(table), 2, limit_val_batches=0)
    hours = {"hour": np.arange(4.0)}
    for options, sentence in (
        ({"conditions": hours, "labels": "sideways"}, "there is no label 'sideways'"),
        ({"conditions": hours, "labels": ["up"] * 3}, "3 labels for 2 samples"),
        ({"conditions": hours, "length": 0}, "length is 0"),
        ({"conditions": hours, "length": 9}, "conditions have 4 steps"),
        ({}, "trained with conditions"),
    ):
        with pytest.raises(ValueError, match=sentence):
            model.generate(2, **options)
    plain = model_of("direct")
    train(plain, sines(), 1, limit_val_batches=0)
    with pytest.raises(ValueError, match="the data of this model had none"):
        plain.generate(2, attributes={"a": 1})
    with pytest.raises(ValueError, match="num_samples is 0"):
        plain.generate(0)
    with pytest.raises(ValueError, match="trained without conditions"):
        plain.generate_features(2, conditions=torch.zeros(4, 1))


def test_other_data_is_refused():
    model = model_of("direct")
    train(model, sines(), 1, limit_val_batches=0)
    with pytest.raises(ValueError, match="not the one this model was trained with"):
        train(model, sines(num_features=3), 1)
    with pytest.raises(ValueError, match="made for 6"):
        train(model, sines(length=8), 1)
