"""Every model goes on from any moment of its training as if it had never stopped: batches, losses, weights, bit by bit.

The checkpoints are those that a process killed at that moment would have left on the disk.
"""

import os

import pytest
import pytorch_lightning as pl
import torch
from harness import LINES, TEXT, assert_exact, bits, some_of, train

from hybridgen.data import ImageRowsData, PianoRollData, SeriesData, TextData
from hybridgen.models import (
    DRAW,
    LanguageModel,
    LatentGAN,
    SequenceGAN,
    SequenceModel,
    SequenceVAEGAN,
    TextVAE,
    VariationalRNN,
)
from hybridgen.tracking.averaging import ExponentialAveraging, TriggeredAveraging

# On a GPU not even a matrix product is the same twice without it; read when the first is taken.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

STACK = {"cell": "gru", "hidden_size": 6, "num_layers": 1}


def language_model(folder, *, data=None, **options):
    for part in ("train", "valid", "test"):
        (folder / f"{part}.txt").write_text(TEXT if part == "train" else TEXT[:90])
    stack = STACK | {"output_dropout": 0.2, "weight_drop": 0.1, "cell": "lstm"}
    model = LanguageModel(stack=stack, embedding_size=4, embedding_dropout=0.1, warmup_steps=3, **options)
    text = {"source": str(folder), "cache_dir": str(folder / "cache"), "batch_size": 4, "bptt": 9}
    return model, TextData(**(text | (data or {"random_bptt": True})))


def lines(folder):
    for part in ("train", "valid", "test"):
        (folder / f"{part}.txt").write_text("\n".join(LINES * (3 if part == "train" else 1)) + "\n")
    text = {"source": str(folder), "cache_dir": str(folder / "cache"), "layout": "lines", "codec": "words"}
    return TextData(**text, batch_size=4, valid_batch_size=4)


def text_vae(folder, **options):
    sizes = {"encoder": STACK, "decoder": STACK, "embedding_size": 4, "latent_size": 2}
    return TextVAE(**sizes, warmup_steps=3, monitor_sentences=4, iwae_samples=None, **options), lines(folder)


def rolls(cls, **options):
    return cls(stack=STACK, warmup_steps=2, **options), PianoRollData(source="embedded", batch_size=2, max_length=6)


def images():
    model = DRAW(glimpses=2, latent_size=2, stack=STACK, read_size=2, write_size=2, warmup_steps=2)
    return model, ImageRowsData(levels=2, batch_size=4, evaluation_batch_size=16)


def series(batch_size=8):
    return SeriesData(source="sines", num_series=32, length=5, num_features=2, batch_size=batch_size)


def sequence_gan(mode, batch_size=8, **options):
    small = {"sequence_noise": 2, "step_noise": 2, "code_size": 3, "hidden_size": 6, "num_layers": 2} | options
    steps = {"autoencoder_steps": 3, "supervisor_steps": 2, "latent_updates": 2, "warmup_steps": 2}
    model = SequenceGAN(mode=mode, stack=STACK, accumulate_batches=2, **steps, **small)
    model.alarm.patience = 3
    return model, series(batch_size)


def latent_gan(folder):
    data = lines(folder)
    data.prepare_data()
    data.setup("fit")
    vae = {"encoder": STACK, "decoder": STACK, "embedding_size": 4, "latent_size": 2}
    small = {"hidden_size": 6, "num_layers": 1, "noise_size": 3, "critic_steps": 2}
    return LatentGAN(vae=vae, codec=data.codec.to_config(), **small), data


def sequence_vaegan(batch_size=8):
    model = SequenceVAEGAN(
        stack=STACK, latent_size=2, warmup_steps=2, accumulate_batches=2, autoregressive=True, history_dropout=0.2
    )
    return model, series(batch_size)


PLATEAU = {"schedule": "plateau", "schedule_options": {"patience": 0, "threshold": 0.9}, "learning_rate": 0.1}
#: Name: what makes model and data in a folder, and how they are trained.
CASES = {
    "language model, averaged": (
        lambda d: language_model(d, activation_regularisation=2.0, temporal_regularisation=1.0),
        {"callbacks": lambda: [ExponentialAveraging(0.9)]},
    ),
    "language model, average triggered": (
        lambda d: language_model(d, optimizer="sgd", learning_rate=5.0, schedule="constant"),
        {"callbacks": lambda: [TriggeredAveraging(patience=1)], "val_check_interval": 2},
    ),
    "language model, plateau": (lambda d: language_model(d, **PLATEAU), {"max_epochs": 3}),
    "language model, accumulating": (
        lambda d: language_model(d, data={"reset_documents": False}),
        {"accumulate_grad_batches": 3, "val_check_interval": 5},
    ),
    "language model, by steps": (
        lambda d: language_model(d, schedule="constant"),
        {"max_steps": 11, "max_epochs": -1},
    ),
    "text VAE, aggressive": (
        lambda d: text_vae(
            d, kl={"schedule": {"kind": "cyclical", "steps": 12}}, aggressive={"window": 2}, word_dropout=0.3
        ),
        {},
    ),
    "text VAE, pretrained": (
        lambda d: text_vae(d, kl={"target_rate": 2.0}, pretrain_epochs=1, batch_norm_gamma=0.6),
        {"callbacks": lambda: [ExponentialAveraging(0.9)]},
    ),
    "variational RNN": (
        lambda d: rolls(VariationalRNN, latent_size=2, dropout=0.1, evaluation_particles=1),
        {"limit_train_batches": 3, "limit_val_batches": 1},
    ),
    "sequence model": (lambda d: rolls(SequenceModel), {"limit_train_batches": 3, "limit_val_batches": 1}),
    "sequence GAN, direct": (lambda d: sequence_gan("direct"), {}),
    "sequence GAN, latent": (lambda d: sequence_gan("latent"), {}),
    # More numbers in a code than in a sequence of 5 steps of 2.
    "sequence GAN, wide codes": (lambda d: sequence_gan("latent", code_size=16), {}),
    "sequence GAN, timegan": (lambda d: sequence_gan("timegan"), {}),
    "sequence GAN, feedback": (lambda d: sequence_gan("direct", feedback=True, warm_start_steps=5), {}),
    "latent GAN": (latent_gan, {"limit_train_batches": 3}),
    "sequence VAEGAN": (lambda d: sequence_vaegan(), {"limit_train_batches": 3}),
    "DRAW": (lambda d: images(), {"limit_train_batches": 3, "limit_val_batches": 1}),
}


def maker(case, folder):
    def make():
        pl.seed_everything(0, verbose=False)
        torch.manual_seed(0)
        return CASES[case][0](folder)

    return make


def two_of(case):
    """A moment within an epoch, and one of a kind that goes round with the cases: they are slow together."""

    def choose(kept):
        first, *others = some_of(kept)
        return [first, others[[*CASES].index(case) % len(others)]]

    return choose


@pytest.mark.parametrize("case", CASES)
def test_training_goes_on_exactly(case, tmp_path):
    assert_exact(tmp_path, maker(case, tmp_path), choose=two_of(case), **CASES[case][1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_training_goes_on_exactly_on_a_gpu(case, tmp_path):
    there = {"accelerator": "gpu", "deterministic": "warn"}
    assert_exact(tmp_path, maker(case, tmp_path), choose=two_of(case), **there, **CASES[case][1])


def test_a_training_that_ended_within_an_epoch_is_given_more_steps(tmp_path):
    make = maker("language model, by steps", tmp_path)
    whole, weights, states, _ = train(tmp_path / "whole", make, max_steps=13, max_epochs=-1)
    *_, kept = train(tmp_path / "part", make, max_steps=10, max_epochs=-1)
    path, place, _ = kept[-1]
    assert place == "stopped"
    again, other, ends, _ = train(tmp_path / "rest", make, resume_from=str(path), max_steps=13, max_epochs=-1)
    assert [entry[3] for entry in again.entries if entry[0] == "batch"] == [11, 12, 13]
    assert bits(again.entries) == bits(whole.entries[-len(again.entries) :])
    assert bits(weights) == bits(other)
    assert bits(states) == bits(ends)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_training_goes_on_exactly_from_every_moment(case, tmp_path):
    everywhere = lambda kept: range(len(kept) - 1)  # noqa: E731
    assert_exact(tmp_path, maker(case, tmp_path), choose=everywhere, **CASES[case][1])
