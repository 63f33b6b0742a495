"""Every model goes on from any moment of its training as if it had never stopped: batches, losses, weights, bit by bit.

The checkpoints are those that a process killed at that moment would have left on the disk.
"""

import pytest
import pytorch_lightning as pl
from harness import LINES, TEXT, assert_exact

from hybridgen.data import PianoRollData, SeriesData, TextData
from hybridgen.models import LanguageModel, LatentGAN, SequenceGAN, TextVAE, VariationalRNN
from hybridgen.tracking.averaging import ExponentialAveraging, TriggeredAveraging

STACK = {"cell": "gru", "hidden_size": 6, "num_layers": 1}


@pytest.fixture
def text(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text(TEXT if part == "train" else TEXT[:90])
    return {"source": str(tmp_path), "cache_dir": str(tmp_path / "cache")}


@pytest.fixture
def lines(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text("\n".join(LINES * (3 if part == "train" else 1)) + "\n")
    return {"source": str(tmp_path), "cache_dir": str(tmp_path / "cache"), "layout": "lines", "codec": "words"}


def language_model(text, *, data=None, **options):
    def make():
        pl.seed_everything(0, verbose=False)
        stack = STACK | {"output_dropout": 0.2, "weight_drop": 0.1, "cell": "lstm"}
        model = LanguageModel(stack=stack, embedding_size=4, embedding_dropout=0.1, warmup_steps=3, **options)
        return model, TextData(**text, **({"batch_size": 4, "bptt": 8, "random_bptt": True} | (data or {})))

    return make


def test_language_model(text, tmp_path):
    make = language_model(text, activation_regularisation=2.0, temporal_regularisation=1.0)
    assert_exact(tmp_path, make, callbacks=lambda: [ExponentialAveraging(0.9)], moments=(4, 7, 8, 9))


def test_language_model_by_triggered_averaging(text, tmp_path):
    make = language_model(text, optimizer="sgd", learning_rate=5.0, schedule="constant")
    callbacks = lambda: [TriggeredAveraging(patience=1)]  # noqa: E731
    assert_exact(tmp_path, make, callbacks=callbacks, val_check_interval=3, moments=(1, 2, 3, 9, 14, -2))


def test_a_schedule_that_waits_for_validations(text, tmp_path):
    options = {"patience": 0, "threshold": 0.9}
    make = language_model(text, schedule="plateau", schedule_options=options, learning_rate=0.1)
    assert_exact(tmp_path, make, max_epochs=4, moments=(3, 7, 8, 15, 16))


def test_accumulated_gradients(text, tmp_path):
    make = language_model(text)
    assert_exact(tmp_path, make, accumulate_grad_batches=3, max_epochs=2, moments=(0, 1, 2, 6, 7, 8))


def test_counting_steps_instead_of_epochs(text, tmp_path):
    make = language_model(text, schedule="constant")
    assert_exact(tmp_path, make, max_steps=19, max_epochs=-1, moments=(2, 7, 8, 9, 16))


@pytest.mark.parametrize(
    "options",
    [
        {"kl": {"schedule": {"kind": "cyclical", "steps": 12}}, "aggressive": True, "word_dropout": 0.3},
        {"kl": {"target_rate": 2.0}, "pretrain_epochs": 1, "batch_norm_gamma": 0.6},
    ],
    ids=["aggressive", "pretrained"],
)
def test_text_vae(lines, tmp_path, options):
    def make():
        pl.seed_everything(0, verbose=False)
        sizes = {"encoder": STACK, "decoder": STACK, "embedding_size": 4, "latent_size": 2}
        model = TextVAE(**sizes, warmup_steps=3, monitor_sentences=4, iwae_samples=None, **options)
        return model, TextData(**lines, batch_size=4, valid_batch_size=4)

    assert_exact(tmp_path, make, moments=(1, 3, 4, 5, 7, -2))


def test_variational_rnn(tmp_path):
    def make():
        pl.seed_everything(0, verbose=False)
        model = VariationalRNN(
            latent_size=2,
            stack=STACK,
            dropout=0.1,
            warmup_steps=2,
            evaluation_particles=2,
            objective="fivo",
            num_particles=2,
        )
        return model, PianoRollData(source="embedded", batch_size=4)

    assert_exact(tmp_path, make, limit_train_batches=5, limit_val_batches=1, moments=(1, 4, 5, 7, -1))


@pytest.mark.parametrize("mode", ["direct", "latent"])
def test_sequence_gan(tmp_path, mode):
    def make():
        pl.seed_everything(0, verbose=False)
        small = {"sequence_noise": 2, "step_noise": 2, "code_size": 3, "hidden_size": 6, "num_layers": 2}
        model = SequenceGAN(
            mode=mode, stack=STACK, autoencoder_steps=6, latent_updates=2, warmup_steps=2, accumulate_batches=2, **small
        )
        model.alarm.patience = 3
        return model, SeriesData(source="sines", num_series=32, length=5, num_features=2, batch_size=8)

    assert_exact(tmp_path, make, max_epochs=4, moments=(0, 3, 4, 6, 7, 8, -1))


def test_latent_gan(lines, tmp_path):
    vae = TextVAE(encoder=STACK, decoder=STACK, embedding_size=4, latent_size=2)

    def make():
        pl.seed_everything(0, verbose=False)
        data = TextData(**lines, batch_size=4, valid_batch_size=4)
        data.prepare_data()
        data.setup("fit")
        model = LatentGAN(
            vae={**vae.options}, codec=data.codec.to_config(), hidden_size=6, num_layers=1, noise_size=3, critic_steps=2
        )
        return model, data

    assert_exact(tmp_path, make, moments=(1, 4, 5, -1))
