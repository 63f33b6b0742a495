"""Parts of the sequence GAN: outputs of mixed columns, and that padding has no influence."""

import math

import pytest
import torch

from hybridgen.codecs import FeatureGroup
from hybridgen.models.optimisation import rate_factor
from hybridgen.models.sequence_gan_options import random_of
from hybridgen.models.sequence_gan_output import FeatureOutput, pool
from hybridgen.models.sequence_gan_parts import (
    Layout,
    RecurrentCritic,
    RecurrentGenerator,
    Sample,
)

GROUPS = (
    FeatureGroup("a", "unit", 0, 1),
    FeatureGroup("b", "unit", 1, 2),
    FeatureGroup("c", "real", 2, 3),
    FeatureGroup("c", "observed", 3, 4),
    FeatureGroup("d", "categorical", 4, 7),
    FeatureGroup("d", "observed", 7, 8),
    FeatureGroup("e", "symmetric", 8, 9),
)
NEUTRAL = torch.tensor([0, 0, 0.7, 0, 0, 0, 0, 0, 0])
LAYOUT = Layout(GROUPS, NEUTRAL, 2, 1, (FeatureGroup("s", "unit", 0, 1),))
LENGTHS = torch.tensor([5, 3, 1, 4])
MASK = torch.arange(5) < LENGTHS[:, None]


def a_sample(junk=0.0):
    torch.manual_seed(3)
    values = torch.randn(4, 5, 9).masked_fill(~MASK.unsqueeze(-1), junk)
    conditions = torch.randn(4, 5, 1).masked_fill(~MASK.unsqueeze(-1), junk)
    return Sample(values, LENGTHS, torch.tensor([0, 1, 1, 0]), torch.rand(4, 1), conditions)


def test_outputs_are_in_their_ranges_and_hard():
    output = FeatureOutput(GROUPS, NEUTRAL)
    logits = (3 * torch.randn(2000, 9)).requires_grad_()
    values = output(logits, torch.rand(2000, 9))
    assert ((values[:, :2] > 0) & (values[:, :2] < 1)).all()
    assert values[:, 8].abs().max() <= 1
    there = values[:, 3].detach().round()
    assert set(there.tolist()) == {0, 1}
    torch.testing.assert_close(values[:, 2], torch.where(there > 0, logits[:, 2], 0.7))
    shown = values[:, 7].detach().round()
    torch.testing.assert_close(values[:, 4:7].sum(1), shown)
    assert torch.equal(values[:, 4:7].detach().round(), values[:, 4:7].detach().round().clamp(0, 1))
    gradients = torch.autograd.grad(values.square().sum(), logits)[0]
    assert gradients.isfinite().all()
    assert (gradients.abs().sum(0) > 0).all()


def test_draws_are_as_frequent_as_the_network_says():
    output = FeatureOutput(GROUPS, NEUTRAL)
    logits = torch.zeros(20000, 9)
    logits[:, 4:7] = torch.tensor([0.7, 0.2, 0.1]).log()
    logits[:, 7], logits[:, 3] = 9.0, math.log(0.3 / 0.7)
    values = output(logits, torch.rand(20000, 9))
    torch.testing.assert_close(values[:, 4:7].mean(0), torch.tensor([0.7, 0.2, 0.1]), atol=0.015, rtol=0)
    assert abs(float(values[:, 3].mean()) - 0.3) < 0.015
    likeliest = output(logits[:1])
    torch.testing.assert_close(likeliest[0, 4:8], torch.tensor([1.0, 0, 0, 1]))


def test_reconstruction_loss_is_least_for_the_target_and_ignores_what_is_missing():
    output = FeatureOutput(GROUPS, NEUTRAL)
    target = torch.zeros(2, 4, 9)
    target[..., 4], target[..., 3], target[..., 7], target[..., :2] = 1, 1, 1, 0.5
    perfect = torch.zeros(2, 4, 9)
    perfect[..., 3], perfect[..., 4], perfect[..., 7] = 30, 30, 30
    assert output.loss(perfect, target, None) < 1e-5
    assert output.loss(perfect + torch.randn(2, 4, 9), target, None) > 0.1
    target[..., 0] = torch.rand(2, 4)
    half = torch.logit(target[..., 0].mean() + 0 * target[..., 0])  # the mean explains none of the variance
    flat = perfect.clone()
    flat[..., 0] = half
    perfect[..., 0] = torch.logit(target[..., 0])
    difference = output.loss(flat, target, None) - output.loss(perfect, target, None)
    changes = target[..., 0].diff(dim=1)
    expected = 1 + changes.square().mean() / changes.var(correction=0)
    torch.testing.assert_close(7 * difference, expected, rtol=1e-3, atol=1e-3)  # seven columns
    mask = torch.ones(2, 4, 9, dtype=torch.bool)
    mask[:, 2:] = False
    broken = target.clone()
    broken[:, 2:] = math.nan
    torch.testing.assert_close(output.loss(perfect, broken, mask), output.loss(perfect[:, :2], target[:, :2], None))
    rough = perfect.clone()
    rough[:, ::2, 2] += 0.1
    shifted = perfect.clone()
    shifted[..., 2] += 0.1
    assert output.loss(rough, target, None) > output.loss(shifted, target, None)  # changes count too


def test_padding_has_no_influence_on_the_critic():
    for scores in ("both", "sequence", "steps"):
        torch.manual_seed(0)
        stack = {"cell": "gru", "hidden_size": 5}
        critic = RecurrentCritic(LAYOUT, stack, scores=scores, minibatch=True, spectral_norm=False)
        clean, junk = critic(a_sample()), critic(a_sample(math.nan))
        for one, other in zip(clean, junk, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                one, other = (x.masked_fill(~MASK, 0) if x.shape == MASK.shape else x for x in (one, other))
                torch.testing.assert_close(other, one)


def test_critic_judges_a_padded_row_like_the_same_row_alone():
    torch.manual_seed(0)
    stack = {"cell": "lstm", "hidden_size": 5}
    critic = RecurrentCritic(LAYOUT, stack, scores="both", minibatch=False, spectral_norm=False)
    sample = a_sample()
    scores = critic(sample)
    for row, length in enumerate(LENGTHS.tolist()):
        labels, attributes = sample.labels[row : row + 1], sample.attributes[row : row + 1]
        values, conditions = (x[row : row + 1, :length] for x in (sample.values, sample.conditions))
        alone = critic(Sample(values, None, labels, attributes, conditions))
        torch.testing.assert_close(scores.sequence[row], alone.sequence[0])
        torch.testing.assert_close(scores.steps[row, :length], alone.steps[0])


@pytest.mark.parametrize("steps_per_call", [1, 2, 5])
def test_padding_has_no_influence_on_generator_and_autoencoder(steps_per_call):
    torch.manual_seed(0)
    stack = {"cell": "gru", "hidden_size": 5}
    generator = RecurrentGenerator(LAYOUT, stack, sequence_noise=3, step_noise=2, steps_per_call=steps_per_call)
    noise = generator.draw(4, 5, torch.Generator().manual_seed(0))
    sample = a_sample()
    made = generator(noise, lengths=LENGTHS, labels=sample.labels, conditions=sample.conditions)
    assert made.values.shape == (4, 5, 9)
    assert not made.values[~MASK].any()
    whole = generator(noise, lengths=None, labels=sample.labels, conditions=sample.conditions)
    torch.testing.assert_close(made.values[MASK], whole.values[MASK])


def test_pool_is_over_what_is_there():
    outputs = torch.randn(4, 5, 3)
    pooled = pool(outputs.masked_fill(~MASK.unsqueeze(-1), 99.0), LENGTHS)
    expected = [torch.cat([o[:n].mean(0), o[:n].amax(0)]) for o, n in zip(outputs, LENGTHS.tolist(), strict=True)]
    torch.testing.assert_close(pooled, torch.stack(expected))


def test_random_numbers_follow_from_seed_number_and_process():
    draws = {tuple(torch.rand(3, generator=random_of(*key)).tolist()) for key in ((0, 0), (0, 1), (1, 0), (0, 0, 1))}
    assert len(draws) == 4
    assert torch.equal(torch.rand(3, generator=random_of(5, 7)), torch.rand(3, generator=random_of(5, 7)))


def test_rate_factor():
    assert rate_factor("cosine", 0, 1000, 0.1, warmup=9) == 0.1
    assert rate_factor("cosine", 9, 1000, 0.1, warmup=9) == 1
    assert math.isclose(rate_factor("cosine", 1000, 1000, 0.1, 5), 0.1)
    assert rate_factor("constant", 900, 1000, 0.1, 5) == 1
    assert rate_factor("cosine", 900, math.inf, 0.1, 5) == 1
