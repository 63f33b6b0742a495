"""The GAN in a latent space: it learns the aggregate posterior, and its checkpoint stands alone."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import hybridgen
from hybridgen.cli import main
from hybridgen.data import TextData
from hybridgen.evaluation.latent_distance import energy_distance
from hybridgen.generation import DecodingOptions
from hybridgen.models import LatentGAN, TextVAE
from hybridgen.objectives.variational import DiagonalGaussian

CONFIG = Path(__file__).parents[2] / "experiments" / "text_vae" / "latent_gan.yaml"
SMALL = {
    "encoder": {"hidden_size": 8},
    "decoder": {"hidden_size": 8},
    "embedding_size": 8,
    "latent_size": 2,
    "iwae_samples": None,
}


def save(model, path):
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    words = ["the", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "and"]
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 300), ("valid", 60), ("test", 60)):
        lengths = torch.randint(1, 9, (count,), generator=generator).tolist()
        rows = [[words[i] for i in torch.randint(len(words), (n,), generator=generator).tolist()] for n in lengths]
        (folder / part).write_text("\n".join(" ".join(row) for row in rows) + "\n")
    return {part: str(folder / part) for part in ("train", "valid", "test")}


@pytest.fixture(scope="module")
def vae(lines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    data = TextData(**lines, codec="words", layout="lines", cache_dir=str(folder / "cache"))
    return save(TextVAE(**SMALL, codec=data.codec.to_config()), folder / "vae.ckpt")


@pytest.fixture(scope="module")
def trained(vae, lines, tmp_path_factory):
    """A checkpoint that the experiment's own configuration trained for an epoch on a small text."""
    folder = tmp_path_factory.mktemp("gan")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        changes = {
            "model.vae_checkpoint": vae, "model.hidden_size": 16, "model.critic_steps": 2, "data.source": "null",
            "data.batch_size": 32, "data.cache_dir": folder / "cache", "trainer.max_epochs": 2, "wandb": "off",
            "trainer.enable_progress_bar": "false", "trainer.log_every_n_steps": 1,
            **{f"data.{part}": path for part, path in lines.items()},
        }  # fmt: skip
        options = [text for name, value in changes.items() for text in (f"--{name}", str(value))]
        assert main(["fit", "--config", str(CONFIG), *options]) == 0
    return folder / "runs" / "latent_gan" / "0"


def test_a_run_logs_its_terms_and_shows_what_it_writes(trained):
    header = (trained / "metrics.csv").read_text().splitlines()[0].split(",")
    expected = {"critic_loss", "generator_loss", "penalty", "critic_accuracy"}
    assert {f"train/{name}" for name in expected} <= set(header)
    assert {"val/energy_distance", "val/energy_distance_prior"} <= set(header)
    assert list((trained / "samples").glob("step-*.txt"))
    assert {path.name for path in (trained / "checkpoints").glob("*.ckpt")} >= {"best.ckpt", "last.ckpt"}


def test_the_checkpoint_stands_alone(trained, vae, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gone = Path(vae).rename(tmp_path / "away.ckpt")
    try:
        out = tmp_path / "out.jsonl"
        checkpoint = str(trained / "checkpoints" / "last.ckpt")
        common = ["--ckpt", checkpoint, "--max_new_tokens", "9", "--out", str(out)]
        assert main(["sample", "--num_samples", "3", "--seed", "4", *common]) == 0
        texts = [json.loads(line)["text"] for line in out.read_text().splitlines()]
        assert len(texts) == 3
        model = hybridgen.load(checkpoint)
        options = DecodingOptions(max_new_tokens=9, seed=4)
        assert model.generate(1, options, sample_numbers=[2]).texts == texts[2:]
        # The commands of a text VAE take it too.
        assert main(["interpolate", "the cat", "a dog ran", "--steps", "3", *common]) == 0
        assert len(out.read_text().splitlines()) == 3
    finally:
        gone.rename(vae)


def test_the_vae_does_not_change(trained, vae):
    before = hybridgen.load(vae).state_dict()
    after = hybridgen.load(trained / "checkpoints" / "last.ckpt").vae.state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0)


class Longer(TextVAE):
    """One of a user's own, with an option more."""

    def __init__(self, *, extra: int = 1, **options) -> None:
        super().__init__(**options)
        self.options["extra"] = extra


def test_a_vae_of_ones_own_is_one_in_the_checkpoint_too(vae, tmp_path):
    own = Longer(**SMALL, extra=3, codec=hybridgen.load(vae).codec.to_config())
    gan = LatentGAN(vae_checkpoint=save(own, tmp_path / "own.ckpt"))
    path = save(gan, tmp_path / "gan.ckpt")
    again = hybridgen.load(path).vae
    assert type(again) is Longer
    assert again.options["extra"] == 3
    contents = torch.load(path, weights_only=True)
    contents["options"]["vae"]["class_name"] = "Unknown"  # one whose module is not loaded
    torch.save(contents, path)
    with pytest.raises(ValueError, match=r"holds a Unknown: .*HYBRIDGEN_PLUGINS"):
        hybridgen.load(path)


@pytest.mark.parametrize(
    ("loss", "penalty", "weight"), [("wasserstein", "gradient_penalty", 1.0), ("relativistic", "r1_r2", 0.2)]
)
def test_it_learns_an_aggregate_posterior_that_is_not_the_prior(vae, loss, penalty, weight):
    torch.manual_seed(0)
    model = LatentGAN(
        vae_checkpoint=vae, hidden_size=48, noise_size=4, loss=loss, penalty=penalty, penalty_weight=weight,
        critic_steps=1 if loss == "relativistic" else 3, learning_rate=2e-3, average_decay=0.98,
    )  # fmt: skip
    # Two clusters on one side of the prior.
    side = torch.randint(2, (2000, 1)).float() * 2 - 1
    mean = torch.cat([side, torch.full_like(side, 2.0)], 1)
    model.cache = DiagonalGaussian(mean, torch.full_like(mean, 2 * math.log(0.2)))
    model.standardise(model.cache)
    optimizers = model.configure_optimizers()
    model.optimizers = lambda: optimizers
    model.manual_backward = lambda value: value.backward()
    model.log_dict = lambda *_, **__: None
    model.trainer = SimpleNamespace(num_training_batches=16, current_epoch=0, global_rank=0, strategy=None)
    model.on_train_epoch_start()
    batch = SimpleNamespace(inputs=torch.zeros(128, 1))
    real = model.cache.sample()
    before = model.distances(real)
    model.train()
    for step in range(300):
        model.training_step(batch, step)
    after = model.distances(real)
    assert after["energy_distance_prior"] == pytest.approx(before["energy_distance_prior"])
    assert after["energy_distance"] < 0.1 * min(before["energy_distance"], after["energy_distance_prior"])
    made = model.sample_prior(1000)
    assert 0.25 < float((made[:, 0] > 0).float().mean()) < 0.75  # both clusters are there
    assert energy_distance(made, real[:1000]) < 0.1


def test_latents_of_an_epoch_are_each_seen_once_in_an_order_of_its_own(vae):
    model = LatentGAN(vae_checkpoint=vae)
    model.cache = DiagonalGaussian(torch.zeros(50, 2), torch.zeros(50, 2))
    model.on_train_epoch_start()
    first = model._order
    model.on_train_epoch_start()
    assert torch.equal(first, model._order)  # by seed and epoch alone, as a resumed run needs it
    assert sorted(first.tolist()) == list(range(50))
    model.hparams.seed = 1
    model.on_train_epoch_start()
    assert not torch.equal(first, model._order)


def test_only_critic_and_generator_learn(vae):
    model = LatentGAN(vae_checkpoint=vae).train()
    learned = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learned == {"critic", "generator"}
    assert not model.vae.training
    assert model.generator.training


def test_what_does_not_fit(vae, lines, tmp_path):
    codec = hybridgen.load(vae).codec.to_config()
    sphere = save(TextVAE(**SMALL, posterior="vmf", codec=codec), tmp_path / "vmf.ckpt")
    other = save(LatentGAN(vae_checkpoint=vae), tmp_path / "gan.ckpt")
    cases = [
        ({}, "needs a trained text VAE: set vae_checkpoint"),
        ({"vae_checkpoint": "none.ckpt"}, "there is no checkpoint at none.ckpt"),
        ({"vae_checkpoint": sphere}, "lie on a sphere"),
        ({"vae_checkpoint": other}, "holds a LatentGAN: give a checkpoint of a TextVAE"),
        ({"vae_checkpoint": vae, "loss": "wassertein"}, "wasserstein"),
        ({"vae_checkpoint": vae, "penalty": "r1"}, "penalty is 'r1': choose one of"),
        ({"vae_checkpoint": vae, "penalty_weight": -1.0}, "penalty_weight is -1.0"),
        ({"vae_checkpoint": vae, "critic_steps": 0}, "critic_steps is 0"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            LatentGAN(**options)
    model = LatentGAN(vae_checkpoint=vae)
    for change, message in (({"layout": "lanes"}, "set the data's layout to 'lines'"), ({"codec": "bytes"}, "codec")):
        data = TextData(**{**lines, "codec": "words", "layout": "lines", "cache_dir": str(tmp_path), **change})
        model.trainer = SimpleNamespace(datamodule=data, strategy=None, precision="32-true")
        with pytest.raises(ValueError, match=message):
            model.setup("fit")


def test_the_generator_learns_where_an_epoch_is_shorter_than_its_turn(vae):
    model = LatentGAN(vae_checkpoint=vae, critic_steps=5)
    model.cache = DiagonalGaussian(torch.randn(50, 2), torch.zeros(50, 2))
    model.standardise(model.cache)
    optimizers = model.configure_optimizers()
    model.optimizers = lambda: optimizers
    model.manual_backward = lambda value: value.backward()
    learned = []
    model.log_dict = lambda values, **_: learned.append("train/generator_loss" in values)
    for epoch in range(4):
        model.trainer = SimpleNamespace(num_training_batches=3, current_epoch=epoch, global_rank=0, strategy=None)
        model.on_train_epoch_start()
        for number in range(3):
            model.training_step(SimpleNamespace(inputs=torch.zeros(8, 1)), number)
    assert [number for number, was in enumerate(learned) if was] == [4, 9]


def test_precision_16_is_refused(vae):
    model = LatentGAN(vae_checkpoint=vae)
    model.trainer = SimpleNamespace(precision="16-mixed", datamodule=None)
    with pytest.raises(ValueError, match="precision 16"):
        model.setup("fit")
