"""The text VAE under a real trainer."""

import copy
import math

import pytest
import pytorch_lightning as pl
import torch

import hybridgen
from hybridgen.data import TextBatch, TextData
from hybridgen.models import TextVAE

LINES = [
    "the cat sat on the mat",
    "a dog",
    "the quick brown fox jumps over the lazy dog",
    "stop",
    "the dog sat on a cat",
    "a fox jumps over the mat",
    "the lazy cat sat",
    "one quick dog jumps",
]


@pytest.fixture
def folder(tmp_path):
    for part, times in (("train", 8), ("valid", 2), ("test", 2)):
        (tmp_path / f"{part}.txt").write_text("\n".join(LINES * times) + "\n")
    return tmp_path


def make(folder, *, data=None, **options):
    small = {"cell": "lstm", "hidden_size": 24}
    options = {"encoder": small, "decoder": small, "embedding_size": 16, "latent_size": 4} | options
    options = {"learning_rate": 2e-2, "warmup_steps": 5, "iwae_samples": 8} | options
    pl.seed_everything(0)
    settings = {"codec": "words", "layout": "lines", "batch_size": 5, "valid_batch_size": 4, "test_batch_size": 3}
    text = TextData(source=str(folder), cache_dir=str(folder / "cache"), **(settings | (data or {})))
    return TextVAE(**options), text


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(**({"accelerator": "cpu", "gradient_clip_val": 10.0} | quiet | options))


def test_it_learns_sentences_by_heart_and_uses_its_latent(folder):
    model, text = make(folder, kl={"weight": 0.2, "schedule": {"kind": "linear", "epochs": 5}})
    fit = trainer(max_epochs=20, check_val_every_n_epoch=20)
    fit.fit(model, datamodule=text)
    found = {name: float(value) for name, value in fit.callback_metrics.items()}
    # Eight sentences, all equally likely: no model has a lower loss than ln 8.
    assert math.log(8) < found["val/loss"] < 6.0
    assert found["val/loss"] == pytest.approx(-found["val/elbo"])
    assert found["val/loss"] == pytest.approx(found["val/reconstruction"] + found["val/kl"], rel=1e-5)
    tokens = text.counts["valid"].targets / len(LINES * 2)
    assert found["val/perplexity_elbo"] == pytest.approx(math.exp(found["val/loss"] / tokens), rel=1e-4)
    assert found["train/kl_weight"] == pytest.approx(0.2)
    assert found["val/mutual_information"] > 1.0
    assert found["val/mutual_information_ceiling"] == pytest.approx(math.log(16), rel=1e-5)
    assert found["val/shuffle_change"] > 1.0
    assert not model.collapse.verdict.ignored
    assert sum(a == b for a, b in zip(model.reconstruct(LINES).texts, LINES, strict=True)) >= 6
    (scores,) = fit.test(model, datamodule=text, verbose=False)
    assert scores["test/elbo_nats"] == pytest.approx(
        scores["test/reconstruction_nats"] + scores["test/kl_nats"], rel=1e-5
    )
    assert scores["test/elbo_nats_per_token"] == pytest.approx(scores["test/elbo_nats"] / tokens, rel=1e-5)
    assert scores["test/perplexity_elbo"] == pytest.approx(math.exp(scores["test/elbo_nats_per_token"]), rel=1e-4)
    assert math.log(8) - 0.3 < scores["test/iwae8_nats"] < scores["test/elbo_nats"]
    assert scores["test/iwae8_nats_standard_error"] > 0
    assert scores["test/active_units"] >= 1


def test_evaluation_depends_on_the_weights_alone_and_not_on_chunks(folder, monkeypatch):
    model, text = make(folder)
    fit = trainer(max_steps=3, limit_val_batches=0)
    fit.fit(model, datamodule=text)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    (first,) = fit.test(model, datamodule=text, verbose=False)
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.setattr("hybridgen.models.text_vae_evaluation.TOKENS_AT_A_TIME", 1)
    (second,) = fit.test(model, datamodule=text, verbose=False)
    for name, value in first.items():
        # In other pieces, the samples of the bound are others too.
        tolerance = 0.2 if "iwae" in name else 1e-4
        assert second[name] == pytest.approx(value, rel=tolerance, abs=1e-4), name


def test_iwae_is_the_log_mean_of_the_weights(folder):
    from hybridgen.models.text_vae_evaluation import SentenceEvaluation

    model, text = make(folder)
    fit = trainer(max_steps=20, limit_val_batches=0)
    fit.fit(model, datamodule=text)
    model.eval()
    batch = next(iter(text.test_dataloader()[0]))
    posterior = model.posterior(batch.targets, batch.lengths)
    evaluation = SentenceEvaluation(model, num_batches=1, decoded=0, k=50)
    bound = evaluation._importance_bound(batch, posterior)
    with torch.no_grad():
        weights = []
        for z in posterior.sample(50, generator=torch.Generator().manual_seed(1)):
            log_p = model.prior.log_prob(z) - model.reconstruction_nats(batch, z)
            weights.append(log_p - posterior.log_prob(z))
    by_hand = torch.stack(weights).logsumexp(0) - math.log(50)
    torch.testing.assert_close(bound.float(), by_hand.float(), atol=1e-4, rtol=1e-4)


def padded(batch, *, more=3):
    """The same sentences with longer rows, whose padding holds other tokens."""
    inputs, targets = (torch.cat([part, part.new_full((len(part), more), 1)], 1) for part in batch[:2])
    lengths = torch.full((len(inputs),), batch.inputs.shape[1]) if batch.lengths is None else batch.lengths
    beyond = torch.arange(inputs.shape[1]) >= lengths.unsqueeze(1)
    return batch._replace(inputs=inputs.masked_fill(beyond, 2), targets=targets.masked_fill(beyond, 1), lengths=lengths)


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "last"},
        {"pooling": "mean", "latent_to": "input"},
        {"pooling": "max", "latent_to": "state", "head": "adaptive", "head_options": {"cutoffs": [4, 9]}},
        {"encoder": {"cell": "gru", "hidden_size": 12, "bidirectional": True, "num_layers": 2}},
        {
            "encoder": {"cell": "lstm", "hidden_size": 12, "bidirectional": True, "layer_norm": True},
            "pooling": "max",
            "decoder": {"cell": "mingru", "hidden_size": 16, "num_layers": 2, "residual": True},
        },
        {"posterior": "vmf", "kappa": 20.0, "encoder": {"cell": "slstm", "hidden_size": 12}},
        {"prior": "vamp", "prior_options": {"num_components": 3, "length": 4}},
        {
            "prior": "mixture",
            "prior_options": {"num_components": 3},
            "kl": {"free_bits": {"nats": 2.0, "kind": "total"}},
        },
        {"batch_norm_gamma": 0.5, "kl": {"free_bits": {"nats": 0.2}}},
        {"delta": 0.1, "kl": {"target_rate": 4.0}},
    ],
)
def test_padding_can_never_change_a_loss(folder, options, monkeypatch):
    model, text = make(folder, **options)
    model._build(text.codec)
    model.double()
    batches = [batch for batch in text.train_dataloader() if batch.lengths is not None]
    assert batches
    batch = batches[0]
    monkeypatch.setattr(TextVAE, "log", lambda *a, **k: None)
    monkeypatch.setattr(TextVAE, "log_dict", lambda *a, **k: None)
    for other in (padded(batch), padded(batch, more=9)):
        results = []
        for each in (batch, other):
            again = copy.deepcopy(model).train()  # a step moves running statistics and multipliers
            torch.manual_seed(3)
            loss = again.training_step(each, 0)
            loss.backward()
            gradients = {name: p.grad.clone() for name, p in again.named_parameters() if p.grad is not None}
            again.eval()
            with torch.no_grad():
                posterior = again.posterior(each.targets, each.lengths)
                nats = again.reconstruction_nats(each, posterior.mean)
            results.append((loss.detach(), posterior.mean, nats, gradients))
        for a, b in zip(results[0][:3], results[1][:3], strict=True):
            torch.testing.assert_close(a, b)
        assert results[0][3].keys() == results[1][3].keys()
        for name, gradient in results[0][3].items():
            torch.testing.assert_close(gradient, results[1][3][name], msg=name)


def test_a_sentence_scores_the_same_alone_and_in_a_batch(folder):
    model, text = make(folder)
    model._build(text.codec)
    model.eval()
    batch = next(b for b in text.train_dataloader() if b.lengths is not None)
    z = torch.randn(len(batch.inputs), 4)
    with torch.no_grad():
        together = model.reconstruction_nats(batch, z)
        for row, length in enumerate(batch.lengths.tolist()):
            alone = batch._replace(
                inputs=batch.inputs[row : row + 1, :length], targets=batch.targets[row : row + 1, :length], lengths=None
            )
            torch.testing.assert_close(model.reconstruction_nats(alone, z[row : row + 1]), together[row : row + 1])
            nll = -model(alone.inputs, alone.targets)[0].gather(-1, alone.targets.unsqueeze(-1)).sum()
            assert nll > 0


def test_the_training_loss_is_reconstruction_plus_kl(folder):
    model, text = make(folder)
    model._build(text.codec)
    model.log = model.log_dict = lambda *a, **k: None
    batch = next(iter(text.train_dataloader()))
    torch.manual_seed(5)
    loss = model.training_step(batch, 0)
    with torch.no_grad():
        torch.manual_seed(5)
        posterior = model.posterior(batch.targets, batch.lengths)
        z = posterior.sample()
        by_hand = (model.reconstruction_nats(batch, z) + model.kl(posterior, z).sum(1)).mean()
    torch.testing.assert_close(loss.detach(), by_hand)


def test_word_dropout_hides_words_but_not_the_beginning(folder):
    for data in ({}, {"codec": "characters"}):
        model, text = make(folder, word_dropout=0.6, data=data)
        model._build(text.codec)
        assert (model.hidden_word is None) == (text.codec.unk_id is not None)
        batch = next(iter(text.train_dataloader()))
        to_decode, to_encode = model._embed(batch.inputs, batch.targets)
        plain = model.embedding(batch.inputs)
        same = (to_decode == plain).all(-1)
        assert bool(same[:, 0].all())
        valid = torch.ones_like(same) if batch.lengths is None else torch.arange(same.shape[1]) < batch.lengths[:, None]
        assert 0.1 < float(same[:, 1:][valid[:, 1:]].float().mean()) < 0.7
        torch.testing.assert_close(to_encode, model.embedding(batch.targets.clamp(min=0)))
        model.eval()
        torch.testing.assert_close(model._embed(batch.inputs, batch.targets)[0], plain)


@pytest.mark.parametrize(
    "options",
    [
        {"kl": {"target_rate": {"nats": 3.0, "rate": 0.01}}, "aggressive": {"window": 2, "longest": 4, "patience": 9}},
        {"pretrain_epochs": 1, "kl": {"schedule": {"kind": "linear", "steps": 10}}},
        {"batch_norm_gamma": 0.6, "embedding_dropout": 0.2, "word_dropout": 0.2, "tie_embeddings": False},
    ],
)
def test_resuming_in_mid_epoch_gives_the_same_weights(folder, options):
    decoder = {"cell": "lstm", "hidden_size": 24, "output_dropout": 0.3}
    model, text = make(folder, decoder=decoder, **options)
    whole = trainer(max_steps=26)
    whole.fit(model, datamodule=text)
    expected = {name: value.clone() for name, value in model.state_dict().items()}

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_index):
            if trainer.global_step == 15:
                self.random = torch.get_rng_state()
                trainer.save_checkpoint(folder / "middle.ckpt")
                trainer.should_stop = True

    class GoOn(pl.Callback):
        def __init__(self, random):
            self.random = random

        def on_train_batch_start(self, trainer, pl_module, batch, batch_index):
            if trainer.global_step == 15:
                torch.set_rng_state(self.random)

    stop = Stop()
    model, text = make(folder, decoder=decoder, **options)
    trainer(max_steps=26, callbacks=[stop]).fit(model, datamodule=text)
    resumed, text = make(folder, decoder=decoder, **options)
    again = trainer(max_steps=26, callbacks=[GoOn(stop.random)])
    again.fit(resumed, datamodule=text, ckpt_path=folder / "middle.ckpt")
    assert again.global_step == 26
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_pretraining_ends_with_a_new_decoder_and_the_old_encoder(folder):
    model, text = make(folder, pretrain_epochs=1)
    seen = {}

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 0:
                seen["weight"] = float(trainer.callback_metrics["train/kl_weight"])
                seen["state"] = {name: value.clone() for name, value in pl_module.state_dict().items()}

        def on_train_batch_start(self, trainer, pl_module, batch, batch_index):
            if trainer.current_epoch == 1 and "after" not in seen:
                seen["after"] = {name: value.clone() for name, value in pl_module.state_dict().items()}
                seen["remembers"] = {id(p) for p in trainer.optimizers[0].state}

    fit = trainer(max_epochs=2, limit_val_batches=0, callbacks=[Watch()])
    fit.fit(model, datamodule=text)
    assert seen["weight"] == 0.0
    assert float(fit.callback_metrics["train/kl_weight"]) == 1.0
    for name, value in seen["after"].items():
        kept = torch.equal(value, seen["state"][name])
        assert kept == (not name.startswith(("decoder", "head.projection", "head.bias"))), name
    assert not seen["remembers"] & {id(p) for p in model.decoder.parameters()}
    assert seen["remembers"] >= {id(p) for p in model.encoder.parameters()}


def test_aggressive_training_updates_one_part_at_a_time(folder):
    model, text = make(folder, aggressive={"window": 2, "longest": 3, "patience": 1})
    moved = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_index):
            self.before = [[p.clone() for p in m.parameters()] for m in (pl_module.encoder, pl_module.decoder)]

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_index):
            after = [list(m.parameters()) for m in (pl_module.encoder, pl_module.decoder)]
            pairs = zip(self.before, after, strict=True)
            moved.append(tuple(any(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in pairs))

    fit = trainer(max_steps=14, limit_val_batches=0, callbacks=[Watch()])
    fit.fit(model, datamodule=text)
    assert set(moved) == {(True, False), (False, True)}
    assert moved.count((False, True)) >= 3
    model.aggressive.active = False
    moved.clear()
    trainer(max_steps=2, limit_val_batches=0, callbacks=[Watch()]).fit(model, datamodule=text)
    assert set(moved) == {(True, True)}


@pytest.mark.parametrize(
    "options",
    [{"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "schedule": "step"}, {"schedule": "plateau"}],
)
def test_other_optimisers_and_schedules_train(folder, options):
    model, text = make(folder, **options)
    fit = trainer(max_epochs=2)
    (before,) = fit.validate(model, datamodule=text, verbose=False)
    fit.fit(model, datamodule=text)
    assert float(fit.callback_metrics["val/loss"]) < before["val/loss"]


def test_mixed_precision_keeps_the_latent_exact(folder):
    model, text = make(folder, kl={"schedule": {"kind": "linear", "epochs": 1}})
    fit = trainer(max_epochs=2, precision="bf16-mixed")
    (before,) = fit.validate(model, datamodule=text, verbose=False)  # also: a schedule in epochs needs no training here
    fit.fit(model, datamodule=text)
    assert float(fit.callback_metrics["val/loss"]) < before["val/loss"]
    with torch.autocast("cpu", torch.bfloat16):
        posterior = model.posterior(next(iter(text.train_dataloader())).targets)
    assert posterior.mean.dtype is posterior.log_variance.dtype is torch.float32


def test_a_latent_that_is_ignored_is_told_once(folder, caplog):
    model, text = make(folder, kl={"weight": 50.0})
    trainer(max_epochs=3).fit(model, datamodule=text)
    assert model.collapse.verdict.ignored
    told = [record.getMessage() for record in caplog.records if "the latent is ignored" in record.getMessage()]
    assert len(told) == 1
    assert "raise the KL weight from 0" in told[0]


def test_the_latent_of_one_sentence_has_no_report(folder):
    (folder / "valid.txt").write_text("a dog\n")
    model, text = make(folder)
    fit = trainer(max_steps=2, val_check_interval=1)
    fit.fit(model, datamodule=text)
    assert model.collapse is None
    assert "val/loss" in fit.callback_metrics


def test_empty_and_unknown_lines_are_sentences(folder):
    (folder / "train.txt").write_text("\n".join([*LINES, "", "stop", ""] * 6) + "\n")
    (folder / "valid.txt").write_text("\nzebra quagga\nstop\n")
    model, text = make(folder)
    fit = trainer(max_epochs=2)
    fit.fit(model, datamodule=text)
    assert math.isfinite(float(fit.callback_metrics["val/loss"]))
    assert model.encode(["", "zebra"]).mean.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "first"}, "pooling is 'first'"),
        ({"latent_to": "output"}, "latent_to is 'output'"),
        ({"posterior": "normal"}, "posterior is 'normal'"),
        ({"prior": "flow"}, "prior is 'flow'"),
        ({"head": "softmax"}, "head is 'softmax'"),
        ({"word_dropout": 1.0}, "word_dropout is 1"),
        ({"latent_size": 0}, "latent_size is 0"),
        ({"iwae_samples": 0}, "needs at least 1 sample"),
        ({"posterior": "vmf", "prior": "vamp"}, "has the uniform prior on the sphere"),
        ({"posterior": "vmf", "kl": {"free_bits": {"nats": 1}}}, "use kind 'total'"),
        ({"prior": "mixture", "delta": 0.1}, "delta is made for a Gaussian"),
        ({"batch_norm_gamma": 0.5, "delta": 0.1}, "give one of them"),
        ({"kl": {"weigth": 1}}, "did you mean 'weight'"),
        ({"kl": {"schedule": {"kind": "cyclic", "steps": 4}}}, "kind is 'cyclic'"),
        ({"aggressive": {"windw": 3}}, "did you mean 'window'"),
        ({"decoder": {"bidirectional": True}}, "decoder cannot be bidirectional"),
        ({"decoder": {"cell": "mlstm"}}, "use latent_to 'input'"),
        ({"encoder": {"hiden_size": 3}}, "did you mean 'hidden_size'"),
    ],
)
def test_mistakes_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        TextVAE(**options)


def test_data_must_be_lines_of_the_same_codec(folder):
    model, text = make(folder, data={"layout": "lanes", "codec": "characters"})
    with pytest.raises(ValueError, match="layout to 'lines'"):
        trainer(max_steps=1).fit(model, datamodule=text)
    model, text = make(folder)
    trainer(max_steps=1, limit_val_batches=0).fit(model, datamodule=text)
    _, elsewhere = make(folder, data={"codec": "bytes"})
    with pytest.raises(ValueError, match="codec is not the one"):
        trainer(max_steps=1).fit(model, datamodule=elsewhere)


def test_the_checkpoint_is_complete(folder):
    for options in ({"prior": "vamp", "prior_options": {"num_components": 3, "length": 4}}, {"tie_weights": False}):
        model, text = make(folder, **options)
        fit = trainer(max_steps=6, limit_val_batches=0)
        fit.fit(model, datamodule=text)
        fit.save_checkpoint(folder / "model.ckpt")
        loaded = hybridgen.load(folder / "model.ckpt")
        assert loaded.generate(3).texts == model.generate(3).texts
        for name, value in loaded.state_dict().items():
            assert torch.equal(value, model.state_dict()[name]), name


def test_batches_are_what_the_model_expects(folder):
    """Targets end in <eos>; the encoder reads them, the decoder the same shifted behind <eos>."""
    _, text = make(folder)
    batch: TextBatch = next(iter(text.train_dataloader()))
    eos = text.codec.eos_id
    lengths = batch.lengths if batch.lengths is not None else torch.full((len(batch.inputs),), batch.inputs.shape[1])
    for row, length in enumerate(lengths.tolist()):
        assert batch.inputs[row, 0] == eos
        assert batch.targets[row, length - 1] == eos
        assert torch.equal(batch.inputs[row, 1:length], batch.targets[row, : length - 1])
