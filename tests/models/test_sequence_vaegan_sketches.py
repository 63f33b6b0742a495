"""The VAE of sketches: its terms, where its samples end, and that it learns."""

import pytest
import pytorch_lightning as pl
import torch

from hybridgen.commands.sequence_files import write_things
from hybridgen.data import ImageRowsData, SeriesData, SketchData
from hybridgen.models import SequenceModel, SequenceVAEGAN, VariationalRNN
from hybridgen.models.sequence_vaegan_network import Rows

VAE = {"reconstruction": "likelihood", "adversarial": False, "autoregressive": True, "latent_size": 4}


def fit(model, data, steps):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_steps=steps, accelerator="cpu", enable_model_summary=False, limit_val_batches=0, **quiet)
    trainer.fit(model, datamodule=data)
    return trainer


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    data = SketchData(labels=True, num_sketches=60, batch_size=20)
    model = SequenceVAEGAN(**VAE, stack={"hidden_size": 24}, learning_rate=8e-3, warmup_steps=5)
    return model, data, fit(model, data, 40)


def test_terms_are_sums_over_points_and_add_up(trained):
    model, data, trainer = trained
    (found,) = trainer.test(model, datamodule=data, verbose=False)
    parts = found["test/moves_per_sequence"] + found["test/pen_per_sequence"]
    assert found["test/reconstruction_per_sequence"] == pytest.approx(parts, rel=1e-5)
    lengths = sum(len(element) for element in data.parts["test"].elements) / len(data.parts["test"].elements)
    assert found["test/elbo_per_sequence"] == pytest.approx(lengths * found["test/elbo_per_frame"], rel=1e-5)
    # Untrained, a move costs log(2 pi) + 1 nats and a state log 3.
    assert found["test/reconstruction_per_frame"] < 3.5


def test_the_likelihood_of_a_row_is_that_of_its_steps(trained):
    model, data, _ = trained
    element = torch.from_numpy(data.parts["train"].elements[0])[None]
    rows = Rows(element, None, torch.tensor([data.parts["train"].labels[0]]))
    network, z = model.average.module, torch.zeros(1, 4)
    hidden = network.decoder(z, element.shape[1], rows)[0]
    expected = network.head.nll(hidden, element[0]).sum()
    torch.testing.assert_close(network.nll(rows, z)[0], expected)


def test_samples_end_where_the_pen_says(trained):
    model, _, _ = trained
    for sample in model.generate(6, labels="square", seed=1):
        assert bool((sample[:, 2:].sum(1) == 1).all())  # every element has a state of the pen
        assert not bool((sample[:-1, 4] > 0.5).any())
        assert len(sample) == model.max_length or bool(sample[-1, 4] > 0.5)


@pytest.mark.parametrize("make", [VariationalRNN, SequenceModel])
def test_other_models_take_sketches_and_images_too(make):
    own = {"latent_size": 3} if make is VariationalRNN else {}
    sketches = make(head="bivariate_mixture", head_options={"num_components": 2}, stack={"hidden_size": 6}, **own)
    fit(sketches, SketchData(num_sketches=20, batch_size=10), 1)
    assert sketches.generate(1)[0].shape[1] == 5
    levels = {"num_components": 2, "num_levels": 17, "low": 0.0, "high": 1.0}
    images = make(head="mixture_of_logistics", head_options=levels, stack={"hidden_size": 6}, **own)
    fit(images, ImageRowsData(), 1)
    (image,) = images.generate(1, labels=["3"])
    assert image.shape == (8, 8)
    assert bool(((image * 16 - (image * 16).round()).abs() < 1e-4).all())


@pytest.mark.parametrize("make", [VariationalRNN, SequenceModel])
def test_other_models_take_series_too(make, tmp_path):
    own = {"latent_size": 3} if make is VariationalRNN else {}
    series = {"source": "sines", "num_series": 40, "length": 5, "num_features": 2, "batch_size": 8}
    model = make(head="gaussian", stack={"hidden_size": 6}, **own)
    trainer = fit(model, SeriesData(**series), 1)
    (found,) = trainer.test(model, datamodule=SeriesData(**series), verbose=False)
    assert all(value == value for value in found.values())
    (written,) = write_things(tmp_path / "a.csv", model.generate(2, length=7), model.codec)
    assert len(written.read_text().splitlines()) == 1 + 2 * 7
    path = tmp_path / "table.csv"
    path.write_text("a,b\n" + "".join(f"{n},{'xy'[n % 2]}\n" for n in range(60)))
    mixed = SeriesData(source=str(path), window=4, categorical_columns=["b"], batch_size=4)
    with pytest.raises(ValueError, match="use a SequenceVAEGAN"):
        fit(make(head="gaussian", stack={"hidden_size": 6}, **own), mixed, 1)


def test_the_hybrid_takes_images_too():
    torch.manual_seed(0)
    model = SequenceVAEGAN(stack={"hidden_size": 6}, latent_size=3)
    fit(model, ImageRowsData(), 1)
    between = model.interpolate(torch.rand(8, 8), torch.rand(8, 8), 3, labels="4")
    assert between.values.shape == (3, 8, 8)
