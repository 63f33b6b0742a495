"""Recurrent nets with latents at every step, and the recurrent baseline on the same data."""

import itertools
import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import hybridgen
from hybridgen.codecs import PianoRollCodec
from hybridgen.data import ElementBatch, PianoRollData
from hybridgen.evaluation import particles
from hybridgen.models import SequenceModel, VariationalRNN
from hybridgen.models.variational_rnn_bounds import filter_particles, walk

CODEC = PianoRollCodec(num_keys=7, labels=["a", "b"]).to_config()
PLAIN = PianoRollCodec(num_keys=7).to_config()
SMALL = {"latent_size": 4, "stack": {"hidden_size": 8}}
KINDS = {
    "vrnn": {"dynamics": "vrnn"},
    "vrnn-smoothing-gru": {"dynamics": "vrnn", "posterior": "smoothing", "stack": {"cell": "gru", "hidden_size": 8}},
    "vrnn-two-layers": {"stack": {"cell": "mingru", "hidden_size": 8, "num_layers": 2, "layer_norm": True}},
    "srnn": {"dynamics": "srnn"},
    "srnn-filtering": {"dynamics": "srnn", "posterior": "filtering", "residual_posterior": False},
    "dmm": {"dynamics": "dmm", "num_layers": 2},
}
everywhere = pytest.mark.parametrize("kind", KINDS)


def build(kind="vrnn", **options):
    model = VariationalRNN(**(SMALL | KINDS[kind] | {"codec": CODEC} | options)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def batch(lengths=(9, 4, 1), width=7, pad=0, value=0.0):
    generator = torch.Generator().manual_seed(3)
    elements = torch.full((len(lengths), max(lengths) + pad, width), value, dtype=torch.float64)
    for row, length in enumerate(lengths):
        elements[row, :length] = (torch.rand(length, width, generator=generator) < 0.3).double()
    labels = torch.arange(len(lengths)) % 2
    lengths = torch.tensor(lengths)
    return ElementBatch(elements, lengths, labels, torch.arange(len(lengths)), int(lengths.sum()))


def trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(accelerator="cpu", enable_model_summary=False, gradient_clip_val=1.0, **(quiet | options))


@everywhere
def test_padding_never_changes_a_bound(kind):
    model = build(kind).train()  # in training, too: there is no dropout
    results = []
    for pad, value in ((0, 0.0), (5, 0.0), (5, math.nan)):
        b = batch(pad=pad, value=value)
        noise = torch.randn(14, 12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        arguments = (model.dynamics, model.head, b.elements, b.lengths, b.labels)
        given = {"num_particles": 4, "noise": noise[: 9 + pad]}
        drawn = walk(*arguments, **given)
        seen = filter_particles(*arguments, **given, generator=torch.Generator().manual_seed(2))
        control = model.kl_control(drawn.kl, step=0, mask=drawn.valid.t().repeat(4, 1))
        bounds = [particles.elbo(drawn.log_weights), particles.iwae(drawn.log_weights), seen.total, seen.first]
        loss = control.loss + sum(bound.sum() for bound in bounds)
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        results.append([*bounds, control.loss, *(g for g in gradients if g is not None)])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


@everywhere
def test_a_row_is_the_same_alone(kind):
    model = build(kind).eval()
    b = batch()
    noise = torch.randn(9, 3, 4, dtype=torch.float64)
    whole = walk(model.dynamics, model.head, b.elements, b.lengths, b.labels, noise=noise).log_weights
    for row, length in enumerate((9, 4, 1)):
        rows = slice(row, row + 1)
        one = walk(
            model.dynamics,
            model.head,
            b.elements[rows, :length],
            b.lengths[rows],
            b.labels[rows],
            noise=noise[:length, rows],
        ).log_weights
        torch.testing.assert_close(one[:, 0, 0], whole[:length, 0, row])
        assert not whole[length:, 0, row].any()


def test_the_closed_kl_is_the_mean_of_what_is_drawn():
    model = build().eval()
    b = batch(lengths=(1,))
    drawn = model.paths(b.elements, b.lengths, b.labels, num_particles=40_000)
    closed = drawn.kl.detach().sum(-1).mean()
    sampled = -drawn.log_ratio[0, :, 0].detach()
    assert abs(float(sampled.mean() - closed)) < 5 * float(sampled.std()) / 200


def test_one_step_against_the_exact_likelihood():
    """p(x) of one frame, by a fine sum over a one-dimensional latent: all bounds are below it and reach it."""
    model = build(latent_size=1).eval()
    b = batch(lengths=(1,))
    carry = model.dynamics.start(1, 1)
    (context,) = zip(*(c.unbind(1) for c in model.dynamics.contexts(b.elements, b.lengths, b.labels)), strict=True)
    step, _ = model.dynamics.step(carry, context, torch.zeros(1, 1).double(), 0)
    # Noise that makes the posterior's draw any z of a grid.
    scale = (0.5 * step.posterior_log_variance).exp()
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    noise = ((grid - step.posterior_mean[0]) / scale[0]).view(1, -1, 1)
    drawn = walk(model.dynamics, model.head, b.elements, b.lengths, b.labels, num_particles=len(grid), noise=noise)
    prior = torch.distributions.Normal(step.prior_mean[0], (0.5 * step.prior_log_variance[0]).exp())
    exact = torch.trapezoid((prior.log_prob(grid) - drawn.nll[0, :, 0]).exp(), grid).log()
    many = model.paths(b.elements, b.lengths, b.labels, num_particles=50_000).log_weights
    assert float(particles.elbo(many)) < float(exact)
    assert float(particles.iwae(many)) == pytest.approx(float(exact), abs=0.02)


def test_bounds_are_ordered_for_a_model_too():
    model = build().eval()
    b = batch(lengths=(40,) * 30)
    found = model.bounds(b, torch.Generator().manual_seed(0))
    assert list(found) == ["elbo", "iwae", "fivo5"]
    elbo, iwae, fivo = (float(nats.mean()) for nats, _ in found.values())
    assert fivo < iwae < elbo
    again = model.bounds(b, torch.Generator().manual_seed(0))
    assert torch.equal(again["fivo5"][0], found["fivo5"][0])
    for nats, first in found.values():
        assert bool((first < nats).all())


def test_the_sequence_model_is_exact():
    """The probabilities of all sequences of two frames of two keys sum to one."""
    model = SequenceModel(stack={"hidden_size": 5}, codec=PianoRollCodec(num_keys=2).to_config()).double().eval()
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64).view(16, 2, 2)
    nats = model(every).sum(1)
    assert float((-nats).exp().sum()) == pytest.approx(1.0, abs=1e-10)


def test_the_sequence_model_ignores_padding_and_the_future():
    model = SequenceModel(stack={"hidden_size": 5}, codec=CODEC).double().eval()
    whole, padded = batch(), batch(pad=4, value=math.nan)
    nats = model(whole.elements, whole.lengths, whole.labels)
    torch.testing.assert_close(model(padded.elements, padded.lengths, padded.labels)[:, :9], nats)
    changed = whole.elements.clone()
    changed[:, 5:] = 1 - changed[:, 5:]
    torch.testing.assert_close(model(changed, whole.lengths, whole.labels)[:, :5], nats[:, :5])
    assert not torch.allclose(model(whole.elements, whole.lengths, 1 - whole.labels), nats)


MODELS = {
    "sequence": (SequenceModel, {"stack": {"hidden_size": 24, "weight_drop": 0.1}}),
    "temporal": (SequenceModel, {"stack": {"cell": "gru", "hidden_size": 24}, "temporal_regularisation": 1.0}),
    "elbo": (
        VariationalRNN,
        {"kl_control": {"free_bits": {"nats": 0.01}, "schedule": {"kind": "linear", "epochs": 1}}},
    ),
    "iwae": (VariationalRNN, {"objective": "iwae", "num_particles": 3, "dynamics": "srnn"}),
    "fivo": (VariationalRNN, {"objective": "fivo", "num_particles": 3, "stack": {"hidden_size": 16, "zoneout": 0.1}}),
    "dmm": (VariationalRNN, {"dynamics": "dmm", "dropout": 0.1, "evaluation_particles": 2}),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_trains_saves_loads_and_generates(name, tmp_path):
    cls, options = MODELS[name]
    pl.seed_everything(0)
    if cls is VariationalRNN:
        options = {"latent_size": 8, "stack": {"hidden_size": 16}} | options
    model = cls(learning_rate=1e-2, warmup_steps=2, **options)
    data = PianoRollData(labels=True, batch_size=32, max_length=12, seed=1)
    fit = trainer(max_steps=12, limit_val_batches=1, num_sanity_val_steps=0)
    fit.fit(model, datamodule=data)
    found = {k: v for k, v in fit.test(model, datamodule=data, verbose=False)[0].items()}
    for estimator in ("nats",) if cls is SequenceModel else ("elbo", "iwae", model.judged_by):
        if estimator == model.judged_by:
            assert float(fit.callback_metrics[f"test/{estimator}_per_frame"]) < 50  # 88 coins give 61
        for convention in ("per_frame", "per_frame_skip_first", "per_sequence", "per_frame_mean_of_sequences"):
            assert found[f"test/{estimator}_{convention}"] > 0
            assert found[f"test/{estimator}_{convention}_standard_error"] > 0
    path = tmp_path / "model.ckpt"
    fit.save_checkpoint(path)
    loaded = hybridgen.load(path)
    samples = model.generate(3, length=6, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(loaded.generate(3, length=6, seed=4), samples, strict=True))
    (alone,) = loaded.generate(1, length=6, seed=4, sample_numbers=[2])
    assert torch.equal(alone, samples[2])
    (longer,) = loaded.generate(1, length=9, seed=4)
    assert torch.equal(longer[:6], samples[0])
    assert set(torch.cat(samples).unique().tolist()) <= {0.0, 1.0}
    assert loaded.codec.decode(samples[0]).length > 0
    table = loaded.label_embedding if cls is SequenceModel else loaded.dynamics.labels
    assert bool(
        model.state_dict()[next(n for n, p in loaded.named_parameters() if p is table.weight)].any()
    )  # it learns
    torch.nn.init.normal_(table.weight, std=3.0)
    assert not torch.equal(loaded.generate(1, length=20, labels=["minor"])[0], loaded.generate(1, length=20)[0])


def test_resuming_in_mid_epoch_gives_the_same_weights(tmp_path):
    def start():
        pl.seed_everything(0)
        return VariationalRNN(latent_size=4, stack={"hidden_size": 8}), PianoRollData(batch_size=16, max_length=6)

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_index):
            if trainer.global_step == 4:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")
                trainer.should_stop = True

    def seeds(step):
        class Seed(pl.Callback):  # the noise of a batch belongs to its number, here
            def on_train_batch_start(self, trainer, pl_module, batch, batch_index):
                torch.manual_seed(trainer.global_step)

        return Seed()

    model, data = start()
    trainer(max_steps=8, limit_val_batches=0, callbacks=[seeds(0)]).fit(model, datamodule=data)
    stopped, data = start()
    trainer(max_steps=8, limit_val_batches=0, callbacks=[seeds(0), Stop()]).fit(stopped, datamodule=data)
    resumed, data = start()
    again = trainer(max_steps=8, limit_val_batches=0, callbacks=[seeds(0)])
    again.fit(resumed, datamodule=data, ckpt_path=tmp_path / "middle.ckpt")
    for name, parameter in resumed.named_parameters():
        assert torch.equal(parameter, dict(model.named_parameters())[name]), name


def test_reconstructions_have_the_lengths_of_what_was_given():
    model = build().float().eval()
    rolls = [torch.ones(5, 7), torch.zeros(2, 7)]
    found = model.reconstruct(rolls, labels=[0, 1])
    assert [tuple(r.shape) for r in found] == [(5, 7), (2, 7)]
    torch.testing.assert_close(model.reconstruct(rolls[1:], labels=[1])[0], found[1])
    with pytest.raises(ValueError, match="give the label"):
        model.reconstruct(rolls)
    with pytest.raises(ValueError, match="must have the shape"):
        model.reconstruct([torch.ones(5, 6)], labels=[0])


@pytest.mark.parametrize("head", ["gaussian", "mixture_of_logistics"])
def test_real_elements(head):
    model = VariationalRNN(**SMALL, head=head, codec=PLAIN)
    elements = torch.randn(3, 6, 7)
    found = model.bounds(ElementBatch(elements, torch.tensor([6, 4, 2]), None, None, 12), torch.Generator())
    assert all(bool(nats.isfinite().all()) for nats, _ in found.values())
    assert model.generate(2, length=3)[0].shape == (3, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dynamics": "vrn"}, "dynamics is 'vrn': did you mean 'vrnn'"),
        ({"objective": "evo"}, "objective is 'evo'"),
        ({"objective": "fivo"}, "with num_particles 1 is the ELBO"),
        ({"objective": "iwae", "num_particles": 2, "kl_control": {"free_bits": {"nats": 1}}}, "kl_control's free_bits"),
        ({"head": "bernouli"}, "did you mean 'bernoulli'"),
        ({"head": "bivariate_mixture", "codec": PLAIN}, "a stroke is"),
        ({"resampling": "never"}, "resampling is 'never'"),
        ({"latent_size": 0}, "latent_size is 0"),
        ({"stack": {"bidirectional": True}, "codec": PLAIN}, "posterior: smoothing"),
        ({"stack": {"hiden_size": 3}, "codec": PLAIN}, "did you mean 'hidden_size'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        VariationalRNN(**options)


def test_generation_that_does_not_fit():
    model = build().float()
    for options, message in (
        ({"labels": ["c"]}, "label 'c' is unknown: choose one of a, b"),
        ({"labels": [0, 1, 0]}, "3 labels for 2 samples"),
        ({"length": 0}, "length is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"sample_numbers": [1]}, "sample_numbers are"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(2, **options)
    assert model.training
    with pytest.raises(ValueError, match="has no classes"):
        VariationalRNN(**SMALL, codec=PLAIN).generate(1, labels=[0])
    with pytest.raises(ValueError, match="has not been trained"):
        VariationalRNN(**SMALL).generate(1)
    unlabelled = batch()._replace(labels=None)
    with pytest.raises(ValueError, match="data has no labels"):
        build().bounds(unlabelled, torch.Generator())
    by_name, by_number = (model.generate(2, length=5, labels=labels) for labels in (["b"], [1, 1]))
    assert all(np.array_equal(a, b) for a, b in zip(by_name, by_number, strict=True))


@pytest.mark.parametrize("dynamics", ["vrnn", "srnn", "dmm"])
def test_dropout_is_one_mask_of_what_the_head_reads(dynamics):
    model = build(dynamics, dropout=0.5, num_layers=1).train()
    elements, lengths = torch.ones(6, 5, 7, dtype=torch.float64), torch.full((6,), 5)
    labels = torch.zeros(6, dtype=torch.int64)
    features = model.paths(elements, lengths, labels).features  # (T, B, H)
    kept = model.dynamics._kept
    assert 0 < int((kept == 0).sum()) < kept.numel()
    assert bool((features[:, kept == 0] == 0).all())
    model.eval().paths(elements, lengths, labels)
    assert model.dynamics._kept is None
