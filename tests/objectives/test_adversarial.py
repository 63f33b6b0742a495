"""Adversarial losses, penalties, matching, layers, augmentation and averages."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hybridgen.cells import Stack
from hybridgen.objectives import adversarial

LENGTHS = torch.tensor([5, 3, 1, 4])


class RecurrentCritic(nn.Module):
    """A Stack with one score a sequence (the mean over its steps) or one a step."""

    def __init__(self, cell="gru", *, bidirectional=False, per_step=False, features=2):
        super().__init__()
        self.stack = Stack(cell, features, 6, bidirectional=bidirectional, num_layers=2)
        self.score = nn.Linear(self.stack.output_size, 1)
        self.per_step = per_step

    def forward(self, inputs, lengths=None):
        scores = self.score(self.stack(inputs, lengths=lengths)[0]).squeeze(-1)
        if self.per_step:
            return scores
        if lengths is None:
            return scores.mean(1)
        valid = torch.arange(inputs.shape[1]) < lengths[:, None]
        return scores.masked_fill(~valid, 0).sum(1) / lengths.clamp(min=1)


# Losses ---------------------------------------------------------------------------------------------------------


def test_losses_are_those_of_their_papers():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])
    log_sigmoid = F.logsigmoid
    expected = {
        "non_saturating": (
            -log_sigmoid(real).mean() - torch.log(1 - torch.sigmoid(fake)).mean(),
            -log_sigmoid(fake).mean(),
        ),
        "least_squares": ((real - 1).pow(2).mean() / 2 + fake.pow(2).mean() / 2, (fake - 1).pow(2).mean() / 2),
        "wasserstein": (fake.mean() - real.mean(), -fake.mean()),
        "hinge": (torch.tensor((0 + 2 + 1.5 + 0) / 2), -fake.mean()),
        "relativistic": (-log_sigmoid(real - fake).mean(), -log_sigmoid(fake - real).mean()),
    }
    assert set(adversarial.names()) == set(expected)
    for name, (critic, generator) in expected.items():
        loss = adversarial.make(name)
        torch.testing.assert_close(loss.critic(real, fake), critic, msg=name)
        torch.testing.assert_close(loss.generator(fake, real), generator, msg=name)


@pytest.mark.parametrize("name", adversarial.names())
def test_both_sides_pull_in_opposite_directions(name):
    real, fake = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    loss = adversarial.make(name)
    of_real, of_fake = torch.autograd.grad(loss.critic(real, fake), (real, fake), allow_unused=True)
    assert (of_real < 0).all()
    assert (of_fake >= 0).all()  # least squares is at its best for a score of 0
    (of_generator,) = torch.autograd.grad(loss.generator(fake, real), fake)
    assert (of_generator < 0).all()


@pytest.mark.parametrize("name", adversarial.names())
def test_padding_has_no_influence_on_losses(name):
    mask = torch.arange(5) < LENGTHS[:, None]
    real, fake = torch.randn(4, 5), torch.randn(4, 5)
    loss = adversarial.make(name)
    results = []
    for junk in (0.0, 7.0, math.nan):
        r = real.masked_fill(~mask, junk).requires_grad_()
        f = fake.masked_fill(~mask, junk).requires_grad_()
        value = loss.critic(r, f, real_mask=mask, fake_mask=mask) + loss.generator(f, r, real_mask=mask, fake_mask=mask)
        results.append((value, *torch.autograd.grad(value, (r, f))))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])
    flat = loss.critic(real[mask], fake[mask]) + loss.generator(fake[mask], real[mask])
    torch.testing.assert_close(results[0][0], flat)
    assert not results[0][2][~mask].any()


def test_misuse_of_losses_is_one_clear_sentence():
    with pytest.raises(ValueError, match="did you mean 'hinge'"):
        adversarial.make("hinje")
    loss = adversarial.make("relativistic")
    with pytest.raises(ValueError, match="give their scores"):
        loss.generator(torch.zeros(3))
    with pytest.raises(ValueError, match="pairs scores one by one"):
        loss.critic(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="fake_mask must be bool"):
        adversarial.make("hinge").generator(torch.zeros(3), fake_mask=torch.ones(3))


def test_accuracy():
    assert adversarial.accuracy(torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 1.0])) == 0.75
    assert adversarial.accuracy(torch.zeros(3), torch.zeros(3)) == 0.5
    assert adversarial.accuracy(torch.tensor([2.0, 5.0]), torch.tensor([1.0, 6.0]), pairs=True) == 0.5


# Penalties ------------------------------------------------------------------------------------------------------


def test_penalties_of_a_linear_critic_are_known():
    weight = torch.tensor([3.0, 4.0])

    def critic(x):
        return x @ weight

    real, fake = torch.randn(6, 2), torch.randn(6, 2)
    torch.testing.assert_close(adversarial.gradient_penalty(critic, real, fake), torch.tensor(16.0))
    torch.testing.assert_close(adversarial.gradient_penalty(critic, real, fake, target=6.0), torch.tensor(1.0))
    assert adversarial.gradient_penalty(critic, real, fake, target=6.0, one_sided=True) == 0
    torch.testing.assert_close(adversarial.r1(critic, real), torch.tensor(25.0))
    torch.testing.assert_close(adversarial.r2(critic, fake), torch.tensor(25.0))


def test_interpolates_lie_between():
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.sum((1, 2))

    real, fake = torch.ones(8, 3, 2), torch.zeros(8, 3, 2)
    adversarial.gradient_penalty(critic, real, fake)
    places = seen[0].flatten(1)
    assert (places >= 0).all()
    assert (places <= 1).all()
    torch.testing.assert_close(places, places[:, :1].expand_as(places))  # one place a sequence
    assert places[:, 0].std() > 0.05


@pytest.mark.parametrize(
    ("cell", "bidirectional"),
    [("gru", False), ("lstm", True), ("rnn", True), ("mgu", False), ("layernorm_gru", False), ("minlstm", False)],
)
@pytest.mark.parametrize("kind", ["gradient_penalty", "r1", "r2"])
def test_second_derivatives_through_recurrent_critics(cell, bidirectional, kind):
    """The gradient of a penalty by the critic's weights, against finite differences of the penalty."""
    critic = RecurrentCritic(cell, bidirectional=bidirectional).double()
    real, fake = torch.randn(2, 3, 4, 2, dtype=torch.float64)
    lengths = torch.tensor([4, 2, 3])

    def penalty():
        if kind == "gradient_penalty":
            return adversarial.gradient_penalty(
                critic,
                real,
                fake,
                real_lengths=lengths,
                fake_lengths=lengths,
                generator=torch.Generator().manual_seed(1),
            )
        return getattr(adversarial, kind)(critic, real, lengths=lengths)

    parameters = list(critic.parameters())
    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    directions = [torch.randn_like(p) for p in parameters]
    along = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)
    step = 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(sign * step * d)
        values.append(penalty())
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(sign * step * d)
    torch.testing.assert_close(along, (values[0] - values[1]) / (2 * step), rtol=1e-5, atol=1e-9)
    assert along.abs() > 1e-8


def test_double_derivative_of_a_stack_critic_passes_gradgradcheck():
    critic = RecurrentCritic("gru", bidirectional=True).double()
    inputs = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(critic, (inputs,))


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("kind", ["gradient_penalty", "r1"])
def test_padding_has_no_influence_on_penalties(kind, per_step):
    critic = RecurrentCritic(bidirectional=True, per_step=per_step)
    mask = (torch.arange(5) < LENGTHS[:, None]).unsqueeze(-1)
    real, fake = torch.randn(2, 4, 5, 2)

    def value(real, fake):
        if kind == "r1":
            penalty = adversarial.r1(critic, real, lengths=LENGTHS)
        else:
            penalty = adversarial.gradient_penalty(
                critic,
                real,
                fake,
                real_lengths=LENGTHS,
                fake_lengths=LENGTHS,
                generator=torch.Generator().manual_seed(0),
            )
        return penalty, *torch.autograd.grad(penalty, list(critic.parameters()), allow_unused=True)

    clean = value(real.masked_fill(~mask, 0), fake.masked_fill(~mask, 0))
    junk = value(real.masked_fill(~mask, math.nan), fake.masked_fill(~mask, 9.0))
    torch.testing.assert_close(junk, clean)
    # And the same as each sequence by itself, unpadded.
    if kind == "r1":
        alone = [adversarial.r1(critic, real[b : b + 1, :n]) for b, n in enumerate(LENGTHS.tolist())]
        torch.testing.assert_close(clean[0], torch.stack(alone).mean())


def test_penalty_of_scores_that_are_there():
    critic = RecurrentCritic()
    real = torch.randn(4, 5, 2)
    leaf = real.clone().requires_grad_()
    torch.testing.assert_close(adversarial.penalty_of(critic(leaf), leaf), adversarial.r1(critic, real))


def test_penalty_inside_no_grad_and_on_one_sided_lengths():
    critic = RecurrentCritic()
    with torch.no_grad():
        value = adversarial.r1(critic, torch.randn(3, 4, 2))
    assert value > 0
    with pytest.raises(ValueError, match="one of real and fake only"):
        adversarial.gradient_penalty(critic, torch.zeros(2, 3, 2), torch.zeros(2, 3, 2), real_lengths=LENGTHS[:2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_penalties_on_a_gpu(cell):
    critic = RecurrentCritic(cell, bidirectional=True).cuda()
    inputs = torch.randn(4, 5, 2, device="cuda")
    penalty = adversarial.r1(critic, inputs)
    gradients = torch.autograd.grad(penalty, list(critic.stack.parameters()))
    reference = adversarial.r1(critic.cpu(), inputs.cpu())
    expected = torch.autograd.grad(reference, list(critic.stack.parameters()))
    torch.testing.assert_close(penalty.cpu(), reference, rtol=1e-3, atol=1e-5)
    for got, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(got.cpu(), wanted, rtol=1e-2, atol=1e-4)


# Matching -------------------------------------------------------------------------------------------------------


def test_matching_is_zero_for_the_same_and_grows_with_a_shift():
    real = torch.randn(64, 5, 3)
    assert adversarial.feature_matching(real, real) == 0
    assert adversarial.moment_loss(real, real) == 0
    torch.testing.assert_close(adversarial.feature_matching(real, real + 2), torch.tensor(4.0))
    torch.testing.assert_close(adversarial.moment_loss(real, real + 2), torch.tensor(2.0))
    wide = adversarial.moment_loss(real - real.mean(0), 3 * (real - real.mean(0)))
    torch.testing.assert_close(wide, 2 * real.std(0, correction=0).mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(adversarial.feature_matching(real[:, 0], real[:, 0] + 1), torch.tensor(1.0))


@pytest.mark.parametrize("loss", [adversarial.feature_matching, adversarial.moment_loss])
def test_padding_has_no_influence_on_matching(loss):
    mask = (torch.arange(5) < LENGTHS[:, None]).unsqueeze(-1)
    real, fake = torch.randn(2, 4, 5, 3)
    results = []
    for junk in (0.0, math.nan):
        f = fake.masked_fill(~mask, junk).requires_grad_()
        value = loss(real.masked_fill(~mask, junk), f, real_lengths=LENGTHS, fake_lengths=LENGTHS)
        results.append((value, *torch.autograd.grad(value, f)))
    torch.testing.assert_close(results[1], results[0])
    assert results[0][0] > 0


# Layers ---------------------------------------------------------------------------------------------------------


def test_minibatch_deviation_tells_a_collapsed_batch():
    layer = adversarial.MinibatchStandardDeviation(4)
    inputs = torch.randn(8, 5, 3)
    out = layer(inputs)
    assert out.shape == (8, 5, 4)
    torch.testing.assert_close(out[..., :3], inputs)
    expected = inputs[:4].std(0, correction=0).mean()
    torch.testing.assert_close(out[:4, :, 3], expected.expand(4, 5), rtol=1e-5, atol=1e-6)
    collapsed = layer(inputs[:1].expand(8, 5, 3))
    assert collapsed[..., 3].max() < 1e-3
    assert layer(torch.randn(8, 3)).shape == (8, 4)
    assert layer(torch.randn(6, 2, 3)).shape == (6, 2, 4)  # not divided by 4: one group


def test_padding_has_no_influence_on_minibatch_deviation():
    layer = adversarial.MinibatchStandardDeviation(4)
    mask = (torch.arange(5) < LENGTHS[:, None]).unsqueeze(-1)
    inputs = torch.randn(4, 5, 3)
    clean, junk = (layer(inputs.masked_fill(~mask, j), lengths=LENGTHS)[..., 3] for j in (0.0, math.nan))
    torch.testing.assert_close(junk, clean)
    assert not clean[~mask.squeeze(-1)].any()


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn", "mgu"])
def test_spectral_norm_bounds_cells_and_fits_every_way(cell):
    torch.manual_seed(1)
    critic = adversarial.spectral_norm_(RecurrentCritic(cell, bidirectional=True))
    inputs = torch.randn(4, 5, 2)
    critic.train()
    for _ in range(50):
        critic(inputs)
    critic.eval()
    for part in critic.stack.cells:
        norms = [torch.linalg.matrix_norm(getattr(part, n), 2) for n in ("weight_ih", "weight_hh")]
        torch.testing.assert_close(torch.stack(norms), torch.ones(2), rtol=1e-2, atol=0)
    ways = [critic.stack(inputs, way=way)[0] for way in ("handwritten", "loop")]
    torch.testing.assert_close(ways[0], ways[1])
    penalties = []
    for way in ("handwritten", "loop"):

        def score(x, way=way):
            return critic.stack(x, way=way)[0].mean((1, 2))

        penalty = adversarial.r1(score, inputs)
        penalties.append((penalty, *torch.autograd.grad(penalty, list(critic.stack.parameters()), allow_unused=True)))
    torch.testing.assert_close(penalties[0], penalties[1])
    assert penalties[0][0] > 0


# Augmentation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", adversarial.OPERATIONS)
def test_augmentation_changes_rows_and_passes_gradients(operation):
    augment = adversarial.Augment([operation], probability=0.5, time_shift=0.5)
    inputs = torch.randn(64, 8, 3, requires_grad=True)
    out = augment(inputs, generator=torch.Generator().manual_seed(0))
    again = augment(inputs, generator=torch.Generator().manual_seed(0))
    assert torch.equal(out, again)
    changed = (out != inputs).flatten(1).any(1)
    assert 10 < int(changed.sum()) < 54
    (gradient,) = torch.autograd.grad(out.sum(), inputs)
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient[~changed], torch.ones_like(gradient[~changed]))
    assert torch.equal(adversarial.Augment([operation], probability=0.0)(inputs), inputs)


def test_padding_has_no_influence_on_augmentation():
    augment = adversarial.Augment(probability=1.0, time_shift=0.5)
    mask = (torch.arange(5) < LENGTHS[:, None]).unsqueeze(-1)
    inputs = torch.randn(4, 5, 3)
    out = [
        augment(inputs.masked_fill(~mask, j), lengths=LENGTHS, generator=torch.Generator().manual_seed(3))
        for j in (0.0, math.nan)
    ]
    torch.testing.assert_close(out[1], out[0])
    assert not out[0].masked_fill(mask, 0).any()


def test_shift_keeps_to_what_is_there():
    augment = adversarial.Augment(["time_shift"], probability=1.0, time_shift=1.0)
    inputs = torch.arange(5.0).view(1, 5, 1).repeat(32, 1, 1)
    out = augment(inputs).squeeze(-1)
    steps = out.diff(dim=1)
    assert ((steps == 0) | (steps == 1)).all()
    assert (out[:, 0] != out[:, -1]).any()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"operations": ["jiter"]}, "did you mean 'jitter'"),
        ({"probability": 2}, "probability of an augmentation is 2"),
        ({"cutout": -1}, "cutout of an augmentation is -1"),
    ],
)
def test_misuse_of_augmentation(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        adversarial.Augment(**options)


# Averages -------------------------------------------------------------------------------------------------------


def test_average_follows_the_weights_and_then_smooths():
    module = nn.Linear(2, 2)
    average = adversarial.moving_average(module, decay=0.9)
    assert not any(p.requires_grad for p in average.parameters())
    expected = None
    for n in range(200):
        with torch.no_grad():
            module.weight.fill_(float(n % 2))
        average.update_parameters(module)
        d = min(0.9, (1 + n) / (10 + n))
        expected = float(n % 2) if n == 0 else d * expected + (1 - d) * (n % 2)
    torch.testing.assert_close(average.module.weight, torch.full((2, 2), expected))
    assert 0.4 < expected < 0.6
    with pytest.raises(ValueError, match="decay of the moving average is 1"):
        adversarial.moving_average(module, decay=1)
