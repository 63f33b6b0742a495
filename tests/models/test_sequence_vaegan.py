"""The hybrid of recurrent VAE and GAN: its parts, padding, who learns from what, resuming, sampling, learning."""

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

import hybridgen
from hybridgen.data import AudioData, PianoRollData, SeriesData
from hybridgen.models import SequenceVAEGAN
from hybridgen.models.sequence_vaegan_network import Rows

SMALL = {"stack": {"cell": "gru", "hidden_size": 6}, "latent_size": 4}
#: The ablation: what is left when parts are left out.
PARTS = {
    "full": {},
    "autoregressive": {"autoregressive": True, "history_dropout": 0.2},
    "features": {"reconstruction": "features", "steps_per_call": 2},
    "without features": {"reconstruction": "likelihood"},
    "vae": {"reconstruction": "likelihood", "adversarial": False, "stack": {"cell": "lstm", "hidden_size": 6}},
    "autoencoder": {"reconstruction": "likelihood", "adversarial": False, "variational": False},
    "not variational": {"variational": False},
    "gan": {"reconstruction": "none", "variational": False, "loss": "hinge", "penalty": "none"},
}
every_part = pytest.mark.parametrize("parts", PARTS)


def sines(**options):
    return SeriesData(
        **{"source": "sines", "num_series": 40, "length": 6, "num_features": 2, "batch_size": 8} | options
    )


def rolls(**options):
    return PianoRollData(**{"labels": True, "batch_size": 16, "max_length": 8} | options)


def sounds():
    return AudioData(source="notes", num_notes=24, note_seconds=0.1, batch_size=6, codec_options={"num_mels": 12})


def model_of(parts="full", **options):
    torch.manual_seed(0)
    return SequenceVAEGAN(**{**SMALL, **PARTS[parts], **options})


def train(model, data, steps, *, callbacks=(), ckpt_path=None, **options):
    trainer = pl.Trainer(
        **{
            "max_steps": steps,
            "accelerator": "cpu",
            "logger": False,
            "callbacks": list(callbacks),
            "enable_checkpointing": bool(callbacks),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
        }
        | options
    )
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return trainer


def built(parts="full", data=None, **options):
    """A model that knows its data, not yet trained."""
    data = sines() if data is None else data
    model = model_of(parts, **options)
    trained = train(model, data, 1, limit_val_batches=0).lightning_module
    return trained, data


@every_part
@pytest.mark.parametrize("data", [sines, rolls, sounds], ids=["series", "rolls", "sounds"])
def test_every_part_trains_and_samples_on_every_kind_of_data(parts, data, tmp_path):
    if data is sounds and parts not in ("full", "vae", "gan"):
        pytest.skip("as for series")
    model = model_of(parts)
    trainer = train(model, data(), 2)
    assert trainer.global_step == 2  # each batch once, whatever the number of optimisers
    (found,) = trainer.validate(model, datamodule=data(), verbose=False)
    assert model.monitor in found
    samples = model.generate(3, seed=1)
    assert len(samples) == 3
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    loaded = hybridgen.load(path)
    again, other = model.generate_features(3, seed=1), loaded.generate_features(3, seed=1)
    torch.testing.assert_close(again.values, other.values)
    (found,) = trainer.test(model, datamodule=data(), verbose=False)
    has_bound = parts in ("full", "autoregressive", "without features", "vae")
    assert ("test/elbo_per_frame" in found) == has_bound
    if has_bound:
        total = found["test/reconstruction_per_sequence"] + found["test/kl_per_sequence"]
        assert found["test/elbo_per_sequence"] == pytest.approx(total, rel=1e-5)
        assert {"test/iwae10_per_sequence", "test/elbo_per_frame_standard_error"} <= set(found)


@pytest.mark.parametrize("parts", ["full", "autoregressive", "features"])
def test_padding_changes_nothing(parts):
    model, _ = built(parts, rolls())
    model = model.double().eval()
    values = (torch.rand(3, 8, 88, dtype=torch.float64) < 0.1).double()
    lengths, labels = torch.tensor([8, 5, 1]), torch.tensor([0, 1, 0])
    for row, length in enumerate(lengths.tolist()):
        values[row, length:] = 0
    noise = torch.randn(3, 4, dtype=torch.float64)
    results = []
    for pad in (0, 4):
        padded = torch.nn.functional.pad(values, (0, 0, 0, pad))
        padded[:, 8:] = math.nan if pad else 0.0
        for row, length in enumerate(lengths.tolist()):
            padded[row, length:] = 0.0
        rows = Rows(padded, lengths, labels)
        posterior = model.generator.encoder(rows)
        nll = model.generator.nll(rows, noise)
        scores = model.critic(rows.sample(padded))
        results.append([*posterior, nll, scores.sequence, scores.features])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_a_teacher_forced_likelihood_is_that_of_stepping():
    model, _ = built("autoregressive", rolls())
    network = model.generator.double().eval()
    values = (torch.rand(2, 5, 88, dtype=torch.float64) < 0.1).double()
    rows, z = Rows(values, None, torch.tensor([0, 1])), torch.randn(2, 4, dtype=torch.float64)
    hidden = network.decoder(z, 5, rows)
    context, state = network.decoder._context(z, 5, rows), None
    before = network.decoder.start.expand(2, -1)
    for step in range(5):
        output, state = network.decoder.stack.step(torch.cat([before, context[:, step]], -1), state)
        torch.testing.assert_close(network.decoder._spread(output, z), hidden[:, step])
        before = values[:, step]


def gradients(loss, module):
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, retain_graph=True)
    return sum(float(g.abs().sum()) for g in found if g is not None)


def test_the_encoder_does_not_learn_to_please_the_critic():
    model, data = built()
    model.train()
    rows = Rows.of(next(iter(data.train_dataloader())))
    model._random = torch.Generator().manual_seed(0)
    posterior = model.generator.encoder(rows)
    z, values, frames = model._code(posterior), {}, rows.frames.float().mean()
    model.hparams.feature_weight = 0.0
    verdict = model._judged(rows, z, len(z) // 2, frames, values)
    assert gradients(verdict, model.generator.encoder) == 0
    assert gradients(verdict, model.generator.decoder) > 0
    model.hparams.feature_weight = 1.0
    assert gradients(model._judged(rows, z, len(z) // 2, frames, values), model.generator.encoder) > 0


def test_half_of_what_the_critic_sees_are_reconstructions():
    model, data = built()
    rows = Rows.of(next(iter(data.train_dataloader())))
    seen = []
    model._random = torch.Generator().manual_seed(0)
    model._draws = lambda codes, rows, relaxed: seen.append(codes) or rows.values
    model._update_critic = lambda *a: {}
    model._criticise(rows, 0)
    posterior = model.generator.encoder(rows)
    size = len(rows.values)
    assert seen[0].shape == (size, 4)
    noise = torch.randn(size, 4, generator=torch.Generator().manual_seed(0))
    first = posterior.mean + noise * (0.5 * posterior.log_variance).exp()
    torch.testing.assert_close(seen[0][: size // 2], first[: size // 2])


def test_the_critic_learns_in_its_own_turn_alone():
    model, data = built()
    model.train()
    rows = Rows.of(next(iter(data.train_dataloader())))
    model._random, updated = torch.Generator().manual_seed(0), []

    def update(which, module, loss, number):
        updated.append((which, gradients(loss, model.critic) if which == 2 else loss.backward()))
        return False

    model.zero_grad(set_to_none=True)
    model._update = update
    model._criticise(rows, 0)
    assert updated[0][0] == 2
    assert updated[0][1] > 0
    model._generate(rows, 0)
    assert all(parameter.grad is None for parameter in model.critic.parameters())
    assert any(parameter.grad is not None for parameter in model.generator.parameters())
    assert all(parameter.requires_grad for parameter in model.critic.parameters())


def test_the_target_of_the_kl_moves_only_in_training():
    model = model_of(kl={"target_rate": 3.0})
    train(model, sines(), 3)
    multiplier = float(model.kl_control.multiplier)
    assert multiplier > 0
    model.trainer.validate(model, datamodule=sines(), verbose=False)
    assert float(model.kl_control.multiplier) == multiplier


@pytest.mark.parametrize("parts", ["full", "gan"])
def test_an_interrupted_training_goes_on_as_it_would_have(parts, tmp_path):
    steady = {"schedule": "constant", "warmup_steps": 0, "limit_val_batches": 0}
    options = {name: steady.pop(name) for name in ("schedule", "warmup_steps")}
    whole, rest = (model_of(parts, **options) for _ in range(2))
    train(whole, sines(), 6, **steady)
    keep = ModelCheckpoint(tmp_path, every_n_train_steps=4, filename="four", save_top_k=-1)
    train(model_of(parts, **options), sines(), 4, callbacks=[keep], **steady)
    train(rest, sines(), 6, ckpt_path=tmp_path / "four.ckpt", **steady)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(rest.state_dict()[name], value, msg=name)


def test_a_sample_is_the_same_alone_and_among_others():
    model, _ = built("autoregressive", rolls())
    many = model.generate_features(5, length=6, seed=3, labels=torch.tensor([0, 1, 1, 0, 1]))
    few = model.generate_features(2, length=6, seed=3, labels=torch.tensor([0, 1]))
    torch.testing.assert_close(few.values, many.values[:2])
    other = model.generate_features(2, length=6, seed=4, labels=torch.tensor([0, 1]))
    assert not torch.equal(other.values, few.values)


def test_ends_of_an_interpolation_are_the_reconstructions():
    model, data = built("full", rolls())
    sequences = [
        torch.from_numpy(roll[:length]).float() for roll, length in zip(data.parts["train"].rolls, (8, 5), strict=False)
    ]
    between = model.interpolate(*sequences, 5, labels=["major", "minor"])
    back = model.reconstruct(sequences, labels=["major", "minor"])
    assert between.lengths.tolist() == [8, 7, 6, 6, 5]
    torch.testing.assert_close(between.values[0, :8], back.values[0, :8])
    torch.testing.assert_close(between.values[-1, :5], back.values[1, :5])


def test_it_learns_to_reconstruct():
    table = sines(num_series=100, length=8, batch_size=16)
    model = model_of("vae", stack={"hidden_size": 16}, latent_size=8, learning_rate=6e-3, warmup_steps=5)
    before = train(model, table, 1, limit_val_batches=0)
    (first,) = before.test(model, datamodule=table, verbose=False)
    after = train(model, table, 150, limit_val_batches=0)
    (last,) = after.test(model, datamodule=table, verbose=False)
    assert last["test/elbo_per_frame"] < first["test/elbo_per_frame"] - 0.5
    assert last["test/mean_discrepancy"] < first["test/mean_discrepancy"]


def test_series_with_categories_missing_cells_classes_and_conditions(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "table.csv"
    lines = ["who,kind,given,level,colour"]
    for who in range(12):
        for _ in range(3 + who % 3):
            level = "" if random.random() < 0.2 else f"{random.random():.3f}"
            lines.append(f"{who},{'ab'[who % 2]},{random.random():.3f},{level},{random.choice(['red', 'blue'])}")
    path.write_text("\n".join(lines) + "\n")
    data = SeriesData(
        source=str(path), id_column="who", label_column="kind", condition_columns=["given"],
        categorical_columns=["colour"], split="series", batch_size=4,
    )  # fmt: skip
    model = model_of()
    train(model, data, 2)
    made = model.generate(4, labels="b", conditions={"given": np.linspace(0, 1, 5)})
    assert [len(series) for series in made] == [5] * 4
    assert {series.label for series in made} == {"b"}
    assert set(np.concatenate([series.columns["colour"] for series in made])) <= {"red", "blue"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reconstruction": "feature"}, "did you mean 'features'"),
        ({"adversarial": False}, "set adversarial to true"),
        ({"adversarial": False, "reconstruction": "none", "variational": False}, "nothing is left"),
        ({"reconstruction": "none"}, "set variational to false"),
        ({"variational": False, "kl": {"weight": 0.5}}, "kl is of a variational model"),
        ({"autoregressive": True, "steps_per_call": 2}, "set steps_per_call to 1"),
        ({"autoregressive": True, "critic_sees": "means"}, "critic_sees"),
        ({"history_dropout": 0.5}, "history_dropout is of an autoregressive"),
        ({"latent_size": 0}, "latent_size is 0"),
        ({"head": "softmax"}, "head is 'softmax'"),
        ({"loss": "hing"}, "hinge"),
        ({"kl": {"free_bit": 1}}, "free_bit"),
    ],
)
def test_options_that_do_not_fit_are_named(options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        SequenceVAEGAN(**options)


def test_a_head_for_numbers_is_refused_for_categories(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n" + "".join(f"{n},{'xy'[n % 2]}\n" for n in range(60)))
    data = SeriesData(source=str(path), window=4, categorical_columns=["b"], batch_size=4)
    with pytest.raises(ValueError, match="leave head out"):
        train(model_of(head="gaussian"), data, 1)


def test_missing_cells_are_refused_where_the_head_cannot_leave_them_out(tmp_path):
    # Missing in the last part alone, so that the training data has no column that says where.
    rows = [f"{i % 7},{'' if i > 190 else i % 3}" for i in range(200)]
    path = tmp_path / "series.csv"
    path.write_text("\n".join(["a,b", *rows]) + "\n")
    data = SeriesData(source=str(path), window=4, batch_size=8)
    trainer = train(model_of(head="gaussian"), data, 1)
    with pytest.raises(ValueError, match="'gaussian' would take for observed ones: leave head out"):
        trainer.test(trainer.lightning_module, datamodule=data)
    whole = train(model_of(), data, 1)
    assert math.isfinite(whole.test(whole.lightning_module, datamodule=data)[0]["test/elbo_per_frame"])


def test_a_schedule_with_an_end_needs_one():
    with pytest.raises(ValueError, match="'cosine' needs an end"):
        train(model_of(), sines(), -1, max_time="00:00:00:05")


def test_a_model_without_encoder_knows_no_latents():
    model, _ = built("gan")
    with pytest.raises(ValueError, match="no encoder"):
        model.reconstruct([torch.rand(6, 2)])
