"""Heads over elements: parity with torch.distributions, normalisation, gradients, draws."""

import math

import pytest
import torch
from torch import distributions as D

from hybridgen import heads

HIDDEN, ROWS = 6, 9
EXAMPLES = {
    "bernoulli": ("bernoulli", 5, {"initial_probability": 0.2}),
    "gaussian": ("gaussian", 3, {}),
    "logistics": ("mixture_of_logistics", 3, {"num_components": 4}),
    "levels": ("mixture_of_logistics", 2, {"num_components": 3, "num_levels": 16}),
    "strokes": ("bivariate_mixture", 5, {"num_components": 4}),
}
everywhere = pytest.mark.parametrize("example", EXAMPLES)


def build(example, dtype=torch.float64):
    name, size, options = EXAMPLES[example]
    head = heads.make(name, HIDDEN, size, **options).to(dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return head


def batch(head, rows=ROWS):
    hidden = torch.randn(rows, HIDDEN, dtype=torch.float64, requires_grad=True)
    return hidden, head.sample(hidden.detach(), temperature=1.5)


def assert_close(mine, reference, tolerance=1e-9):
    torch.testing.assert_close(mine, reference, rtol=tolerance, atol=tolerance)


def reference(head, hidden):
    """The head's distribution, built by torch.distributions from its raw outputs."""
    outputs = hidden @ head.weight.T + head.bias
    if head.kind == "binary":
        return D.Independent(D.Bernoulli(logits=outputs), 1)
    if isinstance(head, heads.GaussianHead):
        mean, raw = outputs.chunk(2, -1)
        scale = torch.where(raw < 0, -5 * torch.tanh(-raw / 5), 3 * torch.tanh(raw / 3)).exp()
        return D.Independent(D.Normal(mean, scale), 1)
    logits, means, raw = outputs.view(len(hidden), head.element_size, 3, -1).unbind(2)
    scales = torch.where(raw < 0, -7 * torch.tanh(-raw / 7), 3 * torch.tanh(raw / 3)).exp()
    standard = D.TransformedDistribution(
        D.Uniform(torch.zeros_like(means), torch.ones_like(means)),
        [D.SigmoidTransform().inv, D.AffineTransform(means, scales)],
    )
    return D.Independent(D.MixtureSameFamily(D.Categorical(logits=logits), standard, validate_args=False), 1)


@pytest.mark.parametrize("example", ["bernoulli", "gaussian", "logistics"])
def test_nll_is_that_of_torch_distributions(example):
    head = build(example)
    hidden, targets = batch(head)
    distribution = reference(head, hidden)
    assert_close(head.nll(hidden, targets), -distribution.log_prob(targets))
    if example != "logistics":
        assert_close(head.mean(hidden), distribution.mean)


def test_strokes_are_a_mixture_of_bivariate_normals_and_a_pen():
    head = build("strokes")
    hidden, targets = batch(head, rows=40)
    assert {0, 1, 2} == set(targets[:, 2:].argmax(1).tolist())
    logits, mx, my, sx, sy, r, pen = (hidden @ head.weight.T + head.bias).split([4, 4, 4, 4, 4, 4, 3], -1)

    def scale(raw):
        return torch.where(raw < 0, -6 * torch.tanh(-raw / 6), 4 * torch.tanh(raw / 4)).exp()

    r = 0.999 * torch.tanh(r)
    covariance = torch.stack([scale(sx) ** 2, r * scale(sx) * scale(sy), r * scale(sx) * scale(sy), scale(sy) ** 2], -1)
    normals = D.MultivariateNormal(torch.stack([mx, my], -1), covariance.unflatten(-1, (2, 2)))
    mixture = D.MixtureSameFamily(D.Categorical(logits=logits), normals)
    states = targets[:, 2:].argmax(1)
    move = torch.where(states == 2, 0.0, -mixture.log_prob(targets[:, :2]))
    expected = move - D.Categorical(logits=pen).log_prob(states)
    assert_close(head.nll(hidden, targets), expected)
    moves, pens = head.terms(hidden, targets)
    assert_close(moves, move)
    assert_close(moves + pens, expected)
    assert_close(head.mean(hidden)[:, :2], mixture.mean)
    assert bool((targets[states == 2][:, :2] == 0).all())


def test_levels_sum_to_one_and_have_the_mean_of_their_probabilities():
    head = build("levels")
    hidden, _ = batch(head, rows=4)
    levels = torch.linspace(-1, 1, 16, dtype=torch.float64)
    nll = torch.stack([head.nll(hidden, torch.tensor([[a, b]]).double().expand(4, 2)) for a in levels for b in levels])
    probabilities = (-nll).exp()
    assert_close(probabilities.sum(0), torch.ones(4, dtype=torch.float64))
    first = probabilities.view(16, 16, 4).sum(1)  # (16, rows)
    assert_close(head.mean(hidden)[:, 0], (first * levels[:, None]).sum(0))
    far = head.nll(hidden * 1e4, torch.ones(4, 2, dtype=torch.float64))
    assert bool(far.isfinite().all())  # a difference of two equal floats would be log 0


@pytest.mark.parametrize(("name", "options"), [("mixture_of_logistics", {"num_components": 3}), ("gaussian", {})])
def test_densities_integrate_to_one(name, options):
    head = heads.make(name, HIDDEN, 1, **options).double()
    grid = torch.linspace(-60, 60, 60001, dtype=torch.float64)
    hidden = torch.randn(1, HIDDEN, dtype=torch.float64).expand(len(grid), -1)
    density = (-head.nll(hidden, grid[:, None])).exp()
    assert_close(torch.trapezoid(density, grid), torch.tensor(1.0, dtype=torch.float64), 1e-6)


@everywhere
def test_gradients(example):
    head = build(example)
    hidden, targets = batch(head, rows=3)
    assert torch.autograd.gradcheck(lambda x: head.nll(x, targets), hidden)
    head.nll(hidden, targets).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


@everywhere
def test_draws_have_the_mean_of_the_distribution(example):
    head = build(example)
    hidden = torch.randn(1, HIDDEN, dtype=torch.float64)
    draws = head.sample(hidden.expand(40_000, -1), generator=torch.Generator().manual_seed(1))
    mean = head.mean(hidden)[0].detach()
    if example == "strokes":  # its mean move is that of a pen which goes on
        draws, mean = draws[draws[:, 4] == 0][:, :2], mean[:2]
    error = draws.std(0) / math.sqrt(len(draws))
    assert bool(((draws.mean(0) - mean).abs() < 5 * error + 1e-6).all())


@everywhere
def test_a_draw_is_the_same_alone_and_in_a_batch(example):
    head = build(example)
    hidden = torch.randn(4, HIDDEN, dtype=torch.float64)
    uniforms = torch.rand(4, head.num_uniforms, dtype=torch.float64)
    together = head.sample(hidden, uniforms=uniforms)
    assert_close(head.sample(hidden[2:3], uniforms=uniforms[2:3]), together[2:3])
    extreme = head.sample(hidden, uniforms=torch.zeros_like(uniforms))
    assert bool(extreme.isfinite().all())
    assert head.sample(hidden).shape == (4, head.element_size)


@everywhere
def test_temperature_nought_is_one_point(example):
    head = build(example)
    hidden = torch.randn(1, HIDDEN, dtype=torch.float64).expand(20, -1)
    draws = head.sample(hidden, temperature=0.0)
    assert_close(draws, draws[:1].expand_as(draws), 1e-2)
    with pytest.raises(ValueError, match="temperature is -1"):
        head.sample(hidden, temperature=-1.0)


@everywhere
def test_no_rows_and_shapes_that_do_not_fit(example):
    head = build(example)
    size = head.element_size
    assert head.nll(torch.zeros(0, HIDDEN).double(), torch.zeros(0, size).double()).shape == (0,)
    with pytest.raises(ValueError, match="flatten batch and time first"):
        head.nll(torch.zeros(2, 3, HIDDEN).double(), torch.zeros(2, 3, size).double())
    with pytest.raises(ValueError, match=rf"targets must have shape \(2, {size}\)"):
        head.nll(torch.zeros(2, HIDDEN).double(), torch.zeros(2, size + 1).double())
    with pytest.raises(ValueError, match="uniforms must have shape"):
        head.sample(torch.zeros(2, HIDDEN).double(), uniforms=torch.rand(2, 1))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("bernouli", 4, 3), {}, "did you mean 'bernoulli'"),
        (("bernoulli", 4, 0), {}, "element_size is 0"),
        (("bernoulli", 4, 3), {"initial_probability": 1.0}, "initial_probability is 1.0"),
        (("gaussian", 4, 3), {"min_log_scale": 1.0}, "must lie below and above 0"),
        (("mixture_of_logistics", 4, 3), {"num_components": 0}, "num_components is 0"),
        (("mixture_of_logistics", 4, 3), {"num_levels": 1}, "at least 2 levels"),
        (("bivariate_mixture", 4, 4), {}, "element_size is 4"),
        (("gaussian", 4, 3), {"tied": None}, "no option 'tied'"),
    ],
)
def test_options_that_do_not_fit(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        heads.make(*arguments, **options)


def test_the_two_kinds_have_names_of_their_own():
    assert not set(heads.names()) & set(heads.element_names())
    assert set(heads.element_names()) == {name for name, _, _ in EXAMPLES.values()}


@pytest.mark.parametrize("name", ["bivariate_mixture", "mixture_of_logistics", "gaussian", "bernoulli"])
def test_likelihoods_under_autocast_are_of_full_precision(name):
    torch.manual_seed(0)
    width = 5 if name == "bivariate_mixture" else 3
    head = heads.make(name, 4, width)
    with torch.no_grad():
        head.weight.mul_(20)  # correlations near 1, where what half precision leaves of 1 - r^2 is nothing
    hidden = torch.randn(64, 4).bfloat16().float()
    targets = torch.nn.functional.one_hot(torch.randint(3, (64,)), 3).float()
    if width == 5:
        targets = torch.cat([torch.randn(64, 2), targets], 1)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, nll = head._outputs(hidden), head.nll(hidden, targets)
    assert outputs.dtype is nll.dtype is torch.float32
    assert bool(nll.isfinite().all())
