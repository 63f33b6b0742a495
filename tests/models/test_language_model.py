"""The language model under a real trainer."""

import math

import pytest
import pytorch_lightning as pl
import torch

import hybridgen
from hybridgen.data import TextData
from hybridgen.generation import DecodingOptions
from hybridgen.models import LanguageModel

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 60


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text(TEXT if part == "train" else TEXT[:900])
    return tmp_path


def make(folder, *, data=None, **options):
    options = {"stack": {"cell": "gru", "hidden_size": 32, "num_layers": 1}, "embedding_size": 16} | options
    options = {"learning_rate": 2e-2, "warmup_steps": 5} | options
    pl.seed_everything(0)
    settings = {"batch_size": 4, "bptt": 16, "cold_windows": [8]} | (data or {})
    text = TextData(source=str(folder), cache_dir=str(folder / "cache"), **settings)
    return LanguageModel(**options), text


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(**({"accelerator": "cpu", "gradient_clip_val": 1.0} | quiet | options))


def scores_of(fit, model, text):
    return {name: value for part in fit.test(model, datamodule=text, verbose=False) for name, value in part.items()}


def test_it_learns_a_text_by_heart(folder):
    model, text = make(folder)
    fit = trainer(max_epochs=12)
    fit.fit(model, datamodule=text)
    assert float(fit.callback_metrics["val/loss"]) < 0.25  # nats per character; knowing only frequencies gives 3
    sample = model.generate(["the quick brown "], DecodingOptions(max_new_tokens=20, do_sample=False)).texts[0]
    assert sample.startswith("fox jumps over the")
    metrics = scores_of(fit, model, text)
    assert metrics["test/perplexity"] == pytest.approx(math.exp(metrics["test/nats_carried"]), rel=1e-4)
    assert metrics["test/nats_cold8"] > metrics["test/nats_carried"]


def test_evaluation_equals_the_score_of_the_whole_text(folder):
    model, text = make(folder, data={"valid_batch_size": 1, "evaluation_bptt": 50})
    fit = trainer(max_steps=3)
    fit.fit(model, datamodule=text)
    metrics = scores_of(fit, model, text)
    ids, nats = model.surprisal((folder / "test.txt").read_text(), chunk=37)
    assert len(nats) == len(ids) - 1
    assert metrics["test/nats_carried"] == pytest.approx(float(nats.mean()), abs=1e-5)
    assert metrics["test/bits_per_byte"] == pytest.approx(float(nats.mean()) / math.log(2), abs=1e-5)  # ASCII


def test_the_state_is_carried_from_chunk_to_chunk_and_dropped_at_an_epoch(folder):
    model, text = make(folder)
    seen = []
    original = model.hidden

    def watch(inputs, state=None, **options):
        if model.training:
            seen.append(state is not None and bool(state[0].any()) and not state[0].requires_grad)
        return original(inputs, state, **options)

    model.hidden = watch
    fit = trainer(max_epochs=2, limit_val_batches=0)
    fit.fit(model, datamodule=text)
    batches = len(seen) // 2
    assert seen == ([False] + [True] * (batches - 1)) * 2


def test_resuming_in_mid_epoch_gives_the_same_weights(folder):
    model, text = make(folder)
    whole = trainer(max_steps=20, limit_val_batches=0)
    whole.fit(model, datamodule=text)
    expected = {name: p.clone() for name, p in model.named_parameters()}

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_index):
            if trainer.global_step == 11:
                trainer.save_checkpoint(folder / "middle.ckpt")
                trainer.should_stop = True

    # Stopped, not shortened: the schedule is that of the whole training.
    model, text = make(folder)
    trainer(max_steps=20, limit_val_batches=0, callbacks=[Stop()]).fit(model, datamodule=text)
    resumed, text = make(folder)
    again = trainer(max_steps=20, limit_val_batches=0)
    again.fit(resumed, datamodule=text, ckpt_path=folder / "middle.ckpt")
    assert again.global_step == 20
    assert resumed.tokens_seen == model.tokens_seen + 9 * 4 * 16
    for name, parameter in resumed.named_parameters():
        assert torch.equal(parameter, expected[name]), name


def test_a_checkpoint_is_all_that_generation_needs(folder):
    model, text = make(folder, tie_weights=False)
    fit = trainer(max_steps=5)
    fit.fit(model, datamodule=text)
    path = folder / "model.ckpt"
    fit.save_checkpoint(path)
    loaded = hybridgen.load(path)
    options = DecodingOptions(max_new_tokens=30, seed=3)
    several = loaded.generate(["the ", "", "dog"], options)
    assert several.texts == model.generate(["the ", "", "dog"], options).texts
    alone = loaded.generate(["dog"], options, sample_numbers=[2])
    assert alone.texts[0] == several.texts[2]
    streamed = "".join(event.texts[0] for event in loaded.generate_stream(["the "], options))
    assert streamed == several.texts[0]
    beams = loaded.search("the ", DecodingOptions(num_beams=3, do_sample=False, max_new_tokens=5))
    assert len(beams) == 3
    assert beams[0]["score"] >= beams[1]["score"]


@pytest.mark.parametrize(
    "options",
    [
        {"head": "adaptive", "head_options": {"cutoffs": [4, 12]}},
        {"head": "mixture", "head_options": {"num_experts": 2}},
        {"embedding_dropout": 0.2, "activation_regularisation": 2.0, "temporal_regularisation": 1.0},
        {"stack": {"cell": "mingru", "hidden_size": [24, 32], "dropout": 0.2, "layer_norm": True}},
        {"stack": {"cell": "lstm", "hidden_size": 32, "weight_drop": 0.3, "zoneout": 0.1}, "schedule": "constant"},
        {"head_options": {"label_smoothing": 0.1}},
    ],
)
def test_options_train(folder, options):
    model, text = make(folder, **options)
    fit = trainer(max_steps=30)
    (before,) = fit.validate(model, datamodule=text, verbose=False)
    fit.fit(model, datamodule=text)
    (after,) = fit.validate(model, datamodule=text, verbose=False)
    assert after["val/loss"] < before["val/loss"] - 0.3


@pytest.mark.parametrize("loss_per", ["token", "line"])
def test_lines_with_words(folder, loss_per):
    (folder / "train.txt").write_text("a b c d\n\nb c d\nc d a b c d\n" * 20)
    (folder / "valid.txt").write_text("a b c d\nc d a b c d\n")
    (folder / "test.txt").write_text("b c d\na b c d\nd d\nc d a b c d\n")
    data = {"codec": "words", "layout": "lines", "cold_windows": None, "test_batch_size": 3}  # of unequal lengths
    model, text = make(folder, data=data, loss_per=loss_per)
    fit = trainer(max_epochs=15)
    fit.fit(model, datamodule=text)
    assert float(fit.callback_metrics["val/loss"]) < 1.0
    metrics = scores_of(fit, model, text)
    rows = [row for batch in fit.predict(model, datamodule=text) for row in batch]
    nats = torch.tensor([row["nats"] for row in rows], dtype=torch.float64)
    assert [row["tokens"] for row in rows] == [3, 4, 5, 7]  # the shortest first, <eos> counted
    assert metrics["test/nats_per_sentence"] == pytest.approx(float(nats.mean()), rel=1e-5)
    assert metrics["test/nats_per_sentence_standard_error"] == pytest.approx(float(nats.std()) / 2, rel=1e-4)
    assert metrics["test/nats_lines"] == pytest.approx(float(nats.sum()) / 19, rel=1e-5)
    assert metrics["test/perplexity"] == pytest.approx(math.exp(float(nats.sum()) / 19), rel=1e-5)


def test_a_loss_per_line_adds_up_what_a_line_has(folder):
    (folder / "train.txt").write_text("the quick\nthe quick brown fox\n")
    (folder / "valid.txt").write_text("the\n")
    losses, steps = {}, {}
    for loss_per in ("token", "line"):
        data = {"codec": "bytes", "layout": "lines", "cold_windows": None, "batch_size": 2}
        regularised = {"activation_regularisation": 2.0, "temporal_regularisation": 1.0}
        model, text = make(folder, data=data, loss_per=loss_per, optimizer="sgd", weight_decay=0.0, **regularised)
        torch.manual_seed(0)
        before = torch.cat([p.detach().flatten() for p in model.stack.parameters()])
        fit = trainer(max_steps=1, log_every_n_steps=1, gradient_clip_val=None)
        fit.fit(model, datamodule=text)
        losses[loss_per] = float(fit.callback_metrics["train/loss"])
        steps[loss_per] = torch.cat([p.detach().flatten() for p in model.stack.parameters()]) - before
    assert losses["line"] == pytest.approx(losses["token"] * (10 + 20) / 2, rel=1e-5)
    torch.testing.assert_close(steps["line"], steps["token"] * 15, rtol=1e-3, atol=1e-6)  # what regularises, too
    with pytest.raises(ValueError, match="loss_per is 'row'"):
        LanguageModel(loss_per="row")
    model, text = make(folder, data={"codec": "bytes"}, loss_per="line")
    with pytest.raises(ValueError, match="set the data's layout to 'lines'"):
        trainer(max_steps=1).fit(model, datamodule=text)
    assert math.isfinite(scores_of(trainer(), model, text)["test/nats_carried"])  # only training minds


def test_mistakes_are_told(folder, tmp_path):
    with pytest.raises(ValueError, match="head is 'softmax'"):
        LanguageModel(head="softmax")
    with pytest.raises(ValueError, match=r"embedding_dropout is 1\.5"):
        LanguageModel(embedding_dropout=1.5)
    with pytest.raises(ValueError, match="did you mean 'lstm'"):
        LanguageModel(stack={"cell": "lstmm"})
    with pytest.raises(ValueError, match="reads what it is to predict"):
        LanguageModel(stack={"bidirectional": True})
    with pytest.raises(ValueError, match="did you mean 'hidden_size'"):
        LanguageModel(stack={"hiden_size": 3})
    model, text = make(folder)
    trainer(max_steps=1).fit(model, datamodule=text)
    with pytest.raises(ValueError, match="é"):
        model.generate(["é"])
    with pytest.raises(ValueError, match="nothing to predict"):
        model.surprisal("t")
    _, elsewhere = make(folder, data={"codec": "bytes"})
    with pytest.raises(ValueError, match="codec is not the one"):
        trainer(max_steps=1).fit(model, datamodule=elsewhere)


class TestCheckpointFiles:
    def write(self, path, content):
        path.write_bytes(content)
        return path

    def test_missing_foreign_and_damaged(self, folder, tmp_path):
        with pytest.raises(ValueError, match="there is no checkpoint at"):
            hybridgen.load(tmp_path / "nothing.ckpt")
        for content in (b"", b"<html>not found</html>", b"\x80\x04K\x01."):
            with pytest.raises(ValueError, match="is no checkpoint"):
                hybridgen.load(self.write(tmp_path / "x.ckpt", content))
        torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
        with pytest.raises(ValueError, match="no checkpoint of a hybridgen model"):
            hybridgen.load(tmp_path / "foreign.ckpt")
        model, text = make(folder)
        fit = trainer(max_steps=1)
        fit.fit(model, datamodule=text)
        fit.save_checkpoint(tmp_path / "good.ckpt")
        good = (tmp_path / "good.ckpt").read_bytes()
        with pytest.raises(ValueError, match="cut short"):
            hybridgen.load(self.write(tmp_path / "short.ckpt", good[: len(good) // 2]))
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 1
        with pytest.raises(ValueError, match="is damaged"):
            hybridgen.load(self.write(tmp_path / "flipped.ckpt", bytes(flipped)))

    def test_a_hostile_file_runs_nothing(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (open, (str(tmp_path / "owned"), "w"))

        torch.save({"hybridgen_model": "LanguageModel", "options": Evil()}, tmp_path / "evil.ckpt")
        with pytest.raises(ValueError, match="holds something"):
            hybridgen.load(tmp_path / "evil.ckpt")
        assert not (tmp_path / "owned").exists()


def test_zarembas_recipe_can_be_configured(folder):
    lstm = {"cell": "lstm", "hidden_size": 16, "num_layers": 2, "cell_options": {"forget_bias": 0.0}}
    options = {"optimizer": "sgd", "learning_rate": 1.0, "schedule": "step", "schedule_options": {"after": 2}}
    model, text = make(folder, stack=lstm, tie_weights=False, initialisation_range=0.1, warmup_steps=0, **options)
    fit = trainer(max_epochs=4, limit_val_batches=0, limit_train_batches=3)
    ranges, rates = [], []

    class Watch(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            ranges.extend(float(p.detach().abs().max()) for p in pl_module.parameters() if p.numel() > 100)

        def on_train_batch_start(self, trainer, pl_module, batch, batch_index):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    fit.callbacks.append(Watch())
    fit.fit(model, datamodule=text)
    assert all(0.09 < largest <= 0.1 for largest in ranges)
    assert len(ranges) >= 6
    assert rates == [1.0] * 6 + [0.5] * 3 + [0.25] * 3
    with pytest.raises(ValueError, match="initialisation_range is 0"):
        LanguageModel(initialisation_range=0)
