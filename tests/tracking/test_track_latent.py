"""What is written down about a latent space after a validation."""

from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.loggers import WandbLogger

from hybridgen.data import TextData
from hybridgen.evaluation.latent import kl_per_dimension
from hybridgen.generation import Samples
from hybridgen.objectives.variational import DiagonalGaussian, VonMisesFisher, gaussian_kl
from hybridgen.tracking.latent import TrackLatent, kl_figure, validation_sentences

SIZE = 3


class Model:
    """Latents are lengths of words; what it decodes to tells the latent."""

    training = True
    latent_size = SIZE

    def __init__(self, sphere=False):
        self.sphere = sphere
        kl = torch.rand(9, 1 if sphere else SIZE)
        self.collapse = SimpleNamespace(kl=kl_per_dimension(kl))
        self.modes = []

    def train(self, mode=True):
        self.training = mode

    def eval(self):
        self.train(False)

    def encode(self, texts):
        self.modes.append(self.training)
        mean = torch.tensor([[float(len(word)) for word in (text.split() * SIZE)[:SIZE]] for text in texts])
        return VonMisesFisher.from_direction(mean, 10) if self.sphere else DiagonalGaussian(mean, mean * 0)

    def decode(self, z, options=None, *, sample_numbers=None):
        assert not options.do_sample
        texts = [" ".join(f"{v:.1f}" for v in row) for row in z.tolist()]
        return Samples(z, z, z, z, ["eos"] * len(z), texts)

    def generate(self, num_samples, options=None, *, sample_numbers=None):
        assert options.do_sample
        return Samples(*[None] * 5, [f"sample {i} of seed {options.seed}" for i in range(num_samples)])


class FakeWandb(WandbLogger):
    def __init__(self):
        self.texts, self.logged = {}, {}

    def log_text(self, key, columns=None, data=None, **_):
        assert all(len(row) == len(columns) for row in data)
        self.texts[key] = list(data)

    @property
    def experiment(self):
        return SimpleNamespace(log=self.logged.update)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    lines = [f"{'a' * (i % 7 + 1)} bb {'c ' * (i % 5)}d" for i in range(40)]
    for part in ("train", "valid"):
        (folder / part).write_text("\n".join([*lines, "", "x " * 50]) + "\n")
    files = {part: str(folder / part) for part in ("train", "valid")}
    return TextData(**files, codec="words", layout="lines", cache_dir=str(folder / "cache"))


def trainer(data, step=7, **changes):
    options = {"sanity_checking": False, "global_rank": 0, "global_step": step, "datamodule": data, "loggers": []}
    return SimpleNamespace(**(options | changes))


def test_validation_sentences_are_lines_of_the_text(data):
    found = validation_sentences(data, 8)
    assert len(found) == 8
    assert found[0] == "a bb d"
    assert all("x" not in sentence and sentence.strip() == sentence for sentence in found)
    lengths = [len(sentence.split()) for sentence in validation_sentences(data, 1000)]
    assert 20 <= len(lengths) < 41
    assert max(lengths) == 5  # the median
    assert validation_sentences(data, 1) == ["a bb d"]


def test_tables_and_picture_after_every_validation(data, tmp_path):
    logger, model = FakeWandb(), Model()
    callback = TrackLatent(tmp_path, num_samples=3, steps=4, seed=5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for step in (7, 14):
        callback.on_validation_end(trainer(data, step, loggers=[logger]), model)
    assert torch.equal(torch.get_rng_state(), before)  # training goes on as if nothing had happened
    assert model.training
    assert not any(model.modes)
    names = {path.name for path in (tmp_path / "samples").iterdir()}
    assert names == {
        f"{kind}step-000000{n}{end}" for n in ("07", "14") for kind, end in (("", ".txt"), ("kl-", ".png"))
    }
    text = (tmp_path / "samples" / "step-00000007.txt").read_text().splitlines()
    assert text[:4] == ["# samples from the prior", *(f"sample {i} of seed 5" for i in range(3))]
    assert text[text.index("# reconstructions") + 1 :][:2] == ["< a bb d", "> 1.0 2.0 1.0"]
    assert sum(line.startswith("> ") for line in text) == 8
    paths = [line.split("  ") for line in text[text.index("# interpolations: path, fraction, sentence") + 1 :]]
    assert len(paths) == 4 * 4
    assert [row[1] for row in paths[:4]] == ["0.00", "0.33", "0.67", "1.00"]
    # A path begins and ends at the reconstructions of its two sentences.
    reconstructed = [line[2:] for line in text if line.startswith("> ")]
    assert [paths[0][2], paths[3][2]] == reconstructed[:2]
    assert {name: len(rows) for name, rows in logger.texts.items()} == {
        "latent/samples": 6, "latent/reconstructions": 16, "latent/interpolations": 32,
    }  # fmt: skip
    assert list(logger.logged) == ["latent/kl_per_dimension"]


def test_a_latent_on_a_sphere_stays_there_and_has_no_kl_per_dimension(data, tmp_path):
    callback = TrackLatent(tmp_path, steps=3)
    model = Model(sphere=True)
    decoded = []
    decode = model.decode
    model.decode = lambda z, options: (decoded.append(z), decode(z, options))[1]
    callback.on_validation_end(trainer(data), model)
    torch.testing.assert_close(decoded[0].norm(dim=1), torch.ones(len(decoded[0])))
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["step-00000007.txt"]


def test_nothing_is_written_before_training_or_by_other_processes(data, tmp_path):
    for changes in ({"sanity_checking": True}, {"global_rank": 1}):
        TrackLatent(tmp_path).on_validation_end(trainer(data, **changes), Model())
    assert not list(tmp_path.iterdir())


def test_the_picture_shows_every_dimension_largest_first():
    kl = kl_per_dimension(gaussian_kl(DiagonalGaussian(torch.tensor([[0.0, 2.0, 1.0]] * 4), torch.zeros(4, 3))))
    (axes,) = kl_figure(kl, title="step 3").axes
    assert [bar.get_height() for bar in axes.patches] == [2.0, 0.5, 0.0]
    assert axes.get_title() == "step 3: KL 2.50 nats, 2 of 3 at 0.01 or more"
