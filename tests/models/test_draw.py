"""DRAW: its attention against the paper's formulae, its bound, its samples, any cell, and that it learns."""

import math

import pytest
import pytorch_lightning as pl
import torch

import hybridgen
from hybridgen.codecs import ImageRowsCodec
from hybridgen.data import ImageRowsData
from hybridgen.models import DRAW
from hybridgen.models.draw_attention import Attention

CODEC = ImageRowsCodec(height=5, width=4, levels=2, labels=["a", "b"]).to_config()
SMALL = {"glimpses": 3, "latent_size": 2, "stack": {"hidden_size": 8}}


def test_filters_are_those_of_the_paper():
    torch.manual_seed(0)
    attention = Attention(3, height=7, width=9, size=4).double()
    hidden = torch.randn(2, 3, dtype=torch.float64)
    rows, columns, intensity = attention.filters(hidden)
    for row in range(2):
        gx, gy, log_variance, log_stride, log_intensity = attention.place(hidden)[row].tolist()
        stride = (9 - 1) / (4 - 1) * math.exp(log_stride)
        for filters, extent, a in ((columns, 9, gx), (rows, 7, gy)):
            for i in range(1, 5):
                centre = (extent + 1) / 2 * (a + 1) + (i - 4 / 2 - 0.5) * stride
                raw = [math.exp(-((p - centre) ** 2) / (2 * math.exp(log_variance))) for p in range(1, extent + 1)]
                expected = torch.tensor(raw, dtype=torch.float64) / sum(raw)
                torch.testing.assert_close(filters[row, i - 1], expected)
        assert float(intensity[row]) == pytest.approx(math.exp(log_intensity))


def test_a_filter_far_outside_is_still_finite():
    attention = Attention(1, height=4, width=4, size=2)
    with torch.no_grad():
        attention.place.bias.fill_(50.0)
        attention.place.bias[2] = -20.0
    for filters in attention.filters(torch.zeros(1, 1))[:2]:
        assert bool(filters.isfinite().all())
        torch.testing.assert_close(filters.sum(-1), torch.ones(1, 2))


def test_what_is_written_sharply_is_read_again():
    attention = Attention(1, height=6, width=6, size=6).double()
    with torch.no_grad():
        attention.place.weight.zero_()
        attention.place.bias.zero_()
        attention.place.bias[2] = -12.0  # narrow filters, one on each pixel
    hidden, patch = torch.zeros(1, 1, dtype=torch.float64), torch.rand(1, 36, dtype=torch.float64)
    painted = attention.write(patch, hidden)
    torch.testing.assert_close(painted.flatten(1), patch)
    torch.testing.assert_close(attention.read([painted], hidden), patch)


@pytest.mark.parametrize(
    "options", [{}, {"read_size": 2, "write_size": 3}, {"stack": {"cell": "gru", "hidden_size": 6}}]
)
def test_the_likelihood_and_the_kl_are_those_of_the_steps(options):
    torch.manual_seed(0)
    model = DRAW(**(SMALL | options), codec=CODEC).double().eval()
    images = (torch.rand(3, 5, 4, dtype=torch.float64) < 0.5).double()
    labels, noise = torch.tensor([0, 1, 1]), torch.randn(3, 3, 2, dtype=torch.float64)
    canvas, kl = model(images, labels, noise)
    assert canvas.shape == (3, 5, 4)
    assert kl.shape == (3, 3, 2)
    assert bool((kl >= 0).all())
    alone, kl_alone = model(images[1:2], labels[1:2], noise[1:2])
    torch.testing.assert_close(alone[0], canvas[1])
    torch.testing.assert_close(kl_alone[0], kl[1])
    canvas.sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if not name.endswith("bias"))


def fit(model, steps, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_steps=steps, accelerator="cpu", enable_model_summary=False, limit_val_batches=0, **quiet)
    data = ImageRowsData(levels=2, **options)
    trainer.fit(model, datamodule=data)
    return trainer, data


def test_it_learns_digits_and_comes_back_from_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    model = DRAW(glimpses=4, latent_size=6, stack={"hidden_size": 48}, learning_rate=5e-3, warmup_steps=5)
    trainer, data = fit(model, 60)
    (found,) = trainer.test(model, datamodule=data, verbose=False)
    assert found["test/elbo_per_sequence"] < 0.75 * 64 * math.log(2)
    assert found["test/elbo_per_frame"] == pytest.approx(found["test/elbo_per_sequence"] / 8, rel=1e-6)
    assert not any("skip_first" in name for name in found)
    trainer.save_checkpoint(tmp_path / "draw.ckpt")
    loaded = hybridgen.load(tmp_path / "draw.ckpt")
    one, other = model.generate(3, labels="5", seed=2), loaded.generate(3, labels="5", seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(loaded.generate(1, labels="5", seed=2)[0], one[0])
    assert set(torch.stack(one).unique().tolist()) <= {0.0, 1.0}
    (back,) = loaded.reconstruct([torch.from_numpy(data.parts["test"].elements[0])], labels=[3])
    assert back.shape == (8, 8)
    assert bool(((back >= 0) & (back <= 1)).all())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="levels set to 2"):
        DRAW(**SMALL, codec=ImageRowsCodec(height=2, width=2, levels=17).to_config())
    with pytest.raises(ValueError, match="glimpses is 0"):
        DRAW(glimpses=0)
    model = DRAW(**SMALL, codec=CODEC)
    with pytest.raises(ValueError, match="paints all 5 rows"):
        model.generate(1, length=3)
    with pytest.raises(ValueError, match="shape"):
        model.reconstruct([torch.zeros(4, 4)], labels=[0])
