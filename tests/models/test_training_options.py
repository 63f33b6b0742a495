"""Mixed precision, accumulated gradients, clipping, compiled cells: each model with each, or a reason why not."""

import pytest
import pytorch_lightning as pl
import torch

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
from hybridgen.tracking import CompileCells, SkipNonFinite

PROSE = "".join(
    f"the {a} cat sat on the {b} mat\n" for a in ("big", "red", "old") for b in ("wet", "new", "far", "soft")
)
STACK = {"cell": "lstm", "hidden_size": 6}


def text(folder, layout):
    (folder / "text.txt").write_text(PROSE * 2)
    given = {"train": str(folder / "text.txt"), "test": str(folder / "text.txt")}
    given |= {"cache_dir": str(folder), "layout": layout}
    return TextData(**given, codec="bytes", batch_size=4, bptt=10)


def series():
    return SeriesData(source="sines", num_series=30, length=6, num_features=2, batch_size=6)


def latent_gan(folder):
    data = text(folder, "lines")
    vae = TextVAE(encoder=STACK, decoder=STACK, embedding_size=6, latent_size=3, codec=data.codec.to_config())
    return LatentGAN(vae=vae.options, codec=data.codec.to_config(), hidden_size=8, noise_size=3, critic_steps=1), data


VAE = {"encoder": STACK, "decoder": STACK, "embedding_size": 6, "latent_size": 3, "warmup_steps": 0}
GAN = {"stack": {"cell": "gru", "hidden_size": 6}, "warmup_steps": 0}
LATENT = {"mode": "latent", "hidden_size": 8, "autoencoder_steps": 3, "latent_updates": 1, "code_size": 4}
FEEDBACK = {"mode": "direct", "feedback": True, "warm_start_steps": 1}
TIMEGAN = {"mode": "timegan", "autoencoder_steps": 2, "supervisor_steps": 1, "code_size": 4}
MODELS = {
    "language_model": lambda folder: (
        LanguageModel(stack=STACK, embedding_size=6, warmup_steps=0),
        text(folder, "lanes"),
    ),
    "text_vae": lambda folder: (TextVAE(**VAE), text(folder, "lines")),
    "text_vae_aggressive": lambda folder: (TextVAE(**VAE, aggressive={"window": 2}), text(folder, "lines")),
    "variational_rnn": lambda folder: (VariationalRNN(latent_size=3, stack=STACK, warmup_steps=0), rolls()),
    "fivo": lambda folder: (VariationalRNN(latent_size=3, stack=STACK, objective="fivo", num_particles=3), rolls()),
    "sequence_model": lambda folder: (SequenceModel(stack=STACK, warmup_steps=0), rolls()),
    "sequence_gan_direct": lambda folder: (SequenceGAN(mode="direct", **GAN), series()),
    "sequence_gan_latent": lambda folder: (SequenceGAN(**LATENT, **GAN), series()),
    "sequence_gan_feedback": lambda folder: (SequenceGAN(**FEEDBACK, **GAN), series()),
    "sequence_gan_timegan": lambda folder: (SequenceGAN(**TIMEGAN, **GAN), series()),
    "sequence_vaegan": lambda folder: (SequenceVAEGAN(latent_size=3, **GAN), series()),
    "latent_gan": latent_gan,
    "draw": lambda folder: (
        DRAW(glimpses=2, latent_size=3, stack=STACK, read_size=2, write_size=2, warmup_steps=0),
        ImageRowsData(levels=2, batch_size=8),
    ),
}


def weight_drop(folder):
    return LanguageModel(stack=STACK | {"weight_drop": 0.3}, embedding_size=6, warmup_steps=0), text(folder, "lanes")


def rolls():
    return PianoRollData(batch_size=16, max_length=6)


def train(name, folder, *, updates=6, callbacks=(), **options):
    """Train a few batches; the trainer, the model and its weights before."""
    pl.seed_everything(0, verbose=False)
    model, data = (MODELS | {"weight_drop": weight_drop})[name](folder)
    guard, before = SkipNonFinite(), {}

    class Before(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            before.update({n: p.detach().clone() for n, p in pl_module.named_parameters() if p.requires_grad})

    given = {"accelerator": "cpu", "max_epochs": 1, "limit_train_batches": updates, "limit_val_batches": 0} | options
    trainer = pl.Trainer(
        **given, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, callbacks=[guard, Before(), *callbacks],
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    assert guard.skipped.total == getattr(model, "skipped_updates", 0) == 0
    return trainer, model, before


def moved(model, before):
    """Parts of the model whose weights are others now; all of them must be finite."""
    now = dict(model.named_parameters())
    assert all(bool(now[name].isfinite().all()) for name in before)
    return {name.split(".")[0] for name, old in before.items() if not torch.equal(old, now[name])}


def losses(trainer):
    return {name: float(value) for name, value in trainer.callback_metrics.items() if "loss" in name}


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_trains(name, tmp_path):
    trainer, model, before = train(name, tmp_path, precision="bf16-mixed")
    assert moved(model, before) == {n.split(".")[0] for n in before if not n.startswith("average")}
    assert {p.dtype for p in model.parameters()} == {torch.float32}  # what is mixed is the arithmetic
    assert losses(trainer)
    assert all(torch.tensor(value).isfinite() for value in losses(trainer).values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize(
    "options", [{}, {"precision": "bf16-mixed"}, {"compiled": True}], ids=["float32", "bf16", "compiled"]
)
@pytest.mark.parametrize("name", [*MODELS, "weight_drop"])
def test_on_a_gpu(name, options, tmp_path):
    options = dict(options)
    if compiled := options.pop("compiled", False):
        if name not in ("language_model", "text_vae", "variational_rnn"):
            pytest.skip("compiling takes minutes: three models stand for all")
        options["callbacks"] = [CompileCells()]
    trainer, model, before = train(
        name, tmp_path, accelerator="gpu", limit_val_batches=1, limit_test_batches=1, **options
    )
    assert {p.device.type for p in before.values()} == {"cuda"}
    assert moved(model.cuda(), before)
    assert all(torch.tensor(value).isfinite() for value in losses(trainer).values())
    if not compiled:
        (metrics,) = trainer.test(model, datamodule=trainer.datamodule, verbose=False) or [{}]
        assert not metrics or any(value == value for value in metrics.values())


AUTOMATIC = [n for n in MODELS if "gan" not in n]


@pytest.mark.parametrize("name", AUTOMATIC)
def test_gradients_are_accumulated_and_clipped(name, tmp_path):
    clipped = {"accumulate_grad_batches": 2, "gradient_clip_val": 1e-4, "gradient_clip_algorithm": "norm"}
    trainer, model, before = train(name, tmp_path, **clipped)
    assert trainer.global_step == 3
    assert moved(model, before)
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert 0 < norm <= 1.001e-4
    train(name, tmp_path, gradient_clip_val=1e-3, gradient_clip_algorithm="value", precision="bf16-mixed", updates=2)


@pytest.mark.parametrize("name", [n for n in MODELS if "gan" in n])
def test_a_gan_clips_and_accumulates_by_its_own_options(name, tmp_path):
    from types import SimpleNamespace

    from hybridgen.commands.trainer_fit import check_trainer

    model, data = MODELS[name](tmp_path)
    chosen = {"accelerator": "cpu", "devices": "auto", "strategy": "auto", "gradient_clip_algorithm": None}
    for option, value in (("accumulate_grad_batches", 2), ("gradient_clip_val", 0.5)):
        plain = {"accumulate_grad_batches": 1, "gradient_clip_val": 1.0}
        trainer = SimpleNamespace(**chosen, **plain | {option: value})
        with pytest.raises(ValueError, match=f"trainer.{option} is not for {type(model).__name__}, .*: (use|leave)"):
            check_trainer(trainer, model, data, default_clip=1.0, training=True)
    check_trainer(SimpleNamespace(**chosen, **plain), model, data, default_clip=1.0, training=True)


#: Models that compile in seconds; the others go the same way, in the slow tests.
SOON = ("draw", "sequence_gan_direct")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in SOON else pytest.mark.slow) for n in MODELS if n != "latent_gan"]
)
def test_compiled_cells_train_alike(name, tmp_path, caplog):
    counters = torch._dynamo.utils.counters["stats"]
    before = counters["unique_graphs"]
    plain, _, _ = train(name, tmp_path, updates=2)
    assert counters["unique_graphs"] == before
    compiled, model, weights = train(name, tmp_path, updates=2, callbacks=[CompileCells("aot_eager")])
    assert counters["unique_graphs"] > before
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4, abs=1e-5)
    assert moved(model, weights)
    critic = name in ("sequence_gan_direct", "sequence_gan_feedback", "sequence_gan_timegan", "sequence_vaegan")
    assert ("cells of the critic are not compiled" in caplog.text) == critic
    assert not any("step" in vars(module) for module in model.modules())


def test_compiling_is_refused_where_there_is_nothing_to_compile(tmp_path):
    with pytest.raises(ValueError, match="LatentGAN trains no cells: leave it out"):
        train("latent_gan", tmp_path, updates=1, callbacks=[CompileCells("aot_eager")])
    with pytest.raises(ValueError, match="cells of stack, which has weight_drop: set it to 0"):
        train("weight_drop", tmp_path, updates=1, callbacks=[CompileCells("aot_eager")])
    with pytest.raises(ValueError, match="backend of CompileCells is 'inducter': choose one of "):
        CompileCells("inducter")
