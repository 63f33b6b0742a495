"""The autoencoder of the sequence GAN: codes, its linear path, and that padding has no influence."""

import math

import pytest
import torch

from hybridgen.codecs import FeatureGroup
from hybridgen.models.sequence_autoencoder import SequenceAutoencoder
from hybridgen.models.sequence_gan_parts import Layout, Sample

GROUPS = (
    FeatureGroup("a", "unit", 0, 1),
    FeatureGroup("b", "unit", 1, 2),
    FeatureGroup("c", "real", 2, 3),
    FeatureGroup("c", "observed", 3, 4),
    FeatureGroup("d", "categorical", 4, 7),
    FeatureGroup("e", "symmetric", 7, 8),
)
LAYOUT = Layout(GROUPS, torch.zeros(8), 0, 1, ())
NUMBERS = Layout((FeatureGroup("a", "unit", 0, 1), FeatureGroup("b", "real", 1, 2)), torch.zeros(2), 0, 0, ())
STACK = {"cell": "gru", "hidden_size": 8}
LENGTHS = torch.tensor([5, 3, 1, 4])
MASK = torch.arange(5) < LENGTHS[:, None]


def autoencoder_of(layout=LAYOUT, *, linear_steps=0, seed=0, **options):
    torch.manual_seed(seed)
    options = {"code_size": 3, "code_noise": 0.1, "steps_per_call": 2} | options
    return SequenceAutoencoder(layout, STACK, linear_steps=linear_steps, **options)


@pytest.mark.parametrize("linear_steps", [0, 5])
@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_padding_has_no_influence(steps_per_call, linear_steps):
    autoencoder = autoencoder_of(linear_steps=linear_steps, steps_per_call=steps_per_call).eval()
    torch.manual_seed(3)
    values, conditions = torch.rand(4, 5, 8), torch.rand(4, 5, 1)
    losses = []
    for junk in (0.0, math.nan):
        seen = values.masked_fill(~MASK.unsqueeze(-1), junk)
        autoencoder.start(seen, LENGTHS)
        losses.append(autoencoder.loss(seen, None, LENGTHS, conditions, None))
    assert losses[0].isfinite()
    torch.testing.assert_close(losses[1], losses[0])


def test_codes_have_mean_0_and_variance_1():
    code = autoencoder_of(steps_per_call=1).encode(torch.rand(64, 5, 8), None, torch.rand(64, 5, 1))
    torch.testing.assert_close(code.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(code.var(0, correction=0), torch.ones(3), atol=0.2, rtol=0)


@pytest.mark.parametrize("linear_steps", [0, 5])
def test_codes_of_all_sequences_are_white_and_turn_back(linear_steps):
    autoencoder = autoencoder_of(linear_steps=linear_steps, code_floor=1e-6)
    batches = [Sample(torch.rand(100, 5, 8), None, None, None, torch.rand(100, 5, 1)) for _ in range(3)]
    autoencoder.start(torch.cat([b.values for b in batches]), None)
    white = autoencoder.encode_all(batches)
    torch.testing.assert_close(white.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(3), atol=0.01, rtol=0)
    codes = torch.cat([autoencoder.encode(b.values, None, b.conditions) for b in batches])
    torch.testing.assert_close(autoencoder.from_white(white), codes, atol=1e-4, rtol=1e-4)


def of_low_rank(number=200, rank=3, steps=6):
    """Sequences that so many numbers say everything about; the second feature varies 50 times less."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.randn(rank, steps * 2, generator=generator)
    values = (torch.randn(number, rank, generator=generator) @ basis).reshape(number, steps, 2)
    return 0.5 + values * torch.tensor([0.05, 0.001])


def test_the_linear_path_alone_gives_back_sequences_of_few_components():
    values = of_low_rank()
    autoencoder = autoencoder_of(NUMBERS, linear_steps=6).eval()
    assert autoencoder.loss(values, None, None, None, None) > 0.5
    autoencoder.start(values, None)
    autoencoder.encode_all([Sample(values, None, None, None, None)])
    code = autoencoder.encode(values, None, None)
    torch.testing.assert_close(autoencoder.decode(code, 6, None, None), values, atol=1e-4, rtol=0)
    # More components than there are: what is left over says nothing.
    wide = autoencoder_of(NUMBERS, linear_steps=6, code_size=9).eval()
    wide.start(values, None)
    wide.encode_all([Sample(values, None, None, None, None)])
    assert wide.loss(values, None, None, None, None) < 1e-3


def test_codes_are_found_again_in_the_basis_that_was_saved():
    values = of_low_rank()
    first = autoencoder_of(NUMBERS, linear_steps=6, code_size=16)  # more than 12 numbers say: axes of nothing
    first.start(values, None)
    batches = [Sample(part, None, None, None, None) for part in values.split(90)]
    assert not first.has_basis
    codes = first.encode_all(batches)
    assert all(torch.equal(first.encode_all(batches), codes) for _ in range(5))
    again = autoencoder_of(NUMBERS, linear_steps=6, code_size=16, seed=1)
    again.load_state_dict(first.state_dict())
    assert again.has_basis
    assert torch.equal(again.encode_again(batches), codes)
    torch.testing.assert_close(again.decode(again.from_white(codes), 6, None, None), values, atol=1e-3, rtol=0)


def test_axes_for_the_gan_are_those_of_what_codes_decode_to():
    values = of_low_rank()
    scales = []
    for floor in (0.5, 1e-6):
        autoencoder = autoencoder_of(NUMBERS, linear_steps=6, code_floor=floor)
        autoencoder.start(values, None)
        codes = autoencoder.encode_all([Sample(values, None, None, None, None)])
        scales.append(codes.std(0))
    plain = torch.linalg.svdvals((values - values.mean(0)).flatten(1)).flip(0)[-3:]
    expected = plain / (plain.square() + 0.25 * plain.max() ** 2).sqrt()
    torch.testing.assert_close(scales[0], expected, atol=0.01, rtol=0)
    torch.testing.assert_close(scales[1], torch.ones(3), atol=0.01, rtol=0)


@pytest.mark.parametrize("steps", [1, 6, 11])
def test_any_number_of_steps_is_decoded(steps):
    values = of_low_rank()
    autoencoder = autoencoder_of(NUMBERS, linear_steps=6).eval()
    autoencoder.start(values, None)
    code = autoencoder.encode(values, None, None)
    made, whole = autoencoder.decode(code, steps, None, None), autoencoder.decode(code, 6, None, None)
    assert made.shape == (200, steps, 2)
    both = min(steps, 6)
    torch.testing.assert_close(made[:, :both], whole[:, :both])
    # The cells say nothing yet, so what comes after the longest sequence stays as at its end.
    torch.testing.assert_close(made[:, 6:], whole[:, -1:].expand(-1, max(0, steps - 6), -1))


def test_training_mends_what_the_components_leave():
    values = of_low_rank(rank=5)
    autoencoder = autoencoder_of(NUMBERS, linear_steps=6, code_size=4, code_noise=0.0)
    autoencoder.start(values.square(), None)
    before = autoencoder.loss(values.square(), None, None, None, None)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = autoencoder.loss(values.square(), None, None, None, None)
        loss.backward()
        optimizer.step()
    assert loss < 0.7 * before
