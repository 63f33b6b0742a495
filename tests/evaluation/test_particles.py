"""Particle bounds against a linear-Gaussian state space model, whose likelihood a Kalman filter knows exactly."""

import math

import pytest
import torch

from hybridgen.evaluation import particles
from hybridgen.evaluation.frames import FrameTotals

# z_t = A z_{t-1} + N(0, Q), x_t = z_t + N(0, R), z_0 = 0; one dimension.
A, Q, R = 0.8, 0.5, 0.3


def normal(x, mean, variance):
    return -0.5 * ((x - mean) ** 2 / variance + math.log(2 * math.pi * variance))


def kalman(x):
    """Exact log p(x) of ``(B, T)``."""
    mean, variance, total = torch.zeros(len(x)).double(), 0.0, 0.0
    for t in range(x.shape[1]):
        mean, variance = A * mean, A * A * variance + Q
        total = total + normal(x[:, t], mean, variance + R)
        gain = variance / (variance + R)
        mean, variance = mean + gain * (x[:, t] - mean), (1 - gain) * variance
    return total


def propose(z, x, generator, spread=1.0):
    """One step of K paths ``(K, B)``: new latents and log weights; the proposal is a little off the best one."""
    gain = Q / (Q + R)
    mean, variance = A * z + 0.9 * gain * (x - A * z), spread * (1 - gain) * Q
    new = mean + math.sqrt(variance) * torch.randn(z.shape, generator=generator).double()
    return new, normal(new, A * z, Q) + normal(x, new, R) - normal(new, mean, variance)


def data(rows=3, time=12):
    generator = torch.Generator().manual_seed(5)
    z, xs = torch.zeros(rows).double(), []
    for _ in range(time):
        z = A * z + math.sqrt(Q) * torch.randn(rows, generator=generator).double()
        xs.append(z + math.sqrt(R) * torch.randn(rows, generator=generator).double())
    return torch.stack(xs, 1)


def independent(x, count, generator):
    z, weights = torch.zeros(count, len(x)).double(), []
    for t in range(x.shape[1]):
        z, w = propose(z, x[:, t], generator)
        weights.append(w)
    return torch.stack(weights)  # (T, K, B)


def filtered(x, count, generator, valid=None, **options):
    z = torch.zeros(count, len(x)).double()
    pf = particles.ParticleFilter(count, len(x), generator=generator, like=z, **options)
    for t in range(x.shape[1]):
        z, w = propose(z, x[:, t], generator)
        ancestors = pf.step(w, None if valid is None else valid[t])
        if ancestors is not None:
            z = z.flatten()[particles.rows_of(ancestors)].view_as(z)
    return pf.log_evidence


def repeated(x, times):
    """The same sequences many times over, as further rows: independent runs in one."""
    return x.repeat(times, 1)


def test_bounds_are_ordered_and_the_estimates_unbiased():
    x, runs = data(time=8), 5_000
    exact = kalman(x)
    generator = torch.Generator().manual_seed(1)
    log_weights = independent(repeated(x, runs), 4, generator)
    elbo = particles.elbo(log_weights).view(runs, -1)
    iwae = particles.iwae(log_weights).view(runs, -1)
    fivo = filtered(repeated(x, runs), 4, generator).view(runs, -1)
    assert bool((elbo.mean(0) < iwae.mean(0)).all())
    assert bool((torch.stack([iwae.mean(0), fivo.mean(0)]) < exact).all())
    for estimate in (fivo, filtered(repeated(x, runs), 4, generator, method="multinomial").view(runs, -1)):
        ratio = (estimate - exact).exp()  # E[p_hat] = p
        error = ratio.std(0) / math.sqrt(runs)
        assert bool(((ratio.mean(0) - 1).abs() < 4.5 * error).all())
        assert bool((error < 0.05).all())


def test_on_long_sequences_resampling_is_worth_more_than_weighting():
    x = data(rows=2, time=80)
    generator = torch.Generator().manual_seed(6)
    iwae = particles.iwae(independent(repeated(x, 100), 8, generator)).view(100, -1).mean(0)
    fivo = filtered(repeated(x, 100), 8, generator).view(100, -1).mean(0)
    assert bool((iwae + 1 < fivo).all())
    assert bool((fivo < kalman(x)).all())


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_the_evidence_of_all_steps_at_once_is_that_of_the_filter(threshold):
    x = data(time=30)
    valid = torch.arange(30)[:, None] < torch.tensor([30, 11, 1])
    z = torch.zeros(4, 3).double()
    pf = particles.ParticleFilter(4, 3, threshold=threshold, like=z)
    weights, resampled = [], []
    for t in range(30):
        z, w = propose(z, x[:, t], None)
        w = torch.where(valid[t], w, 0.0).requires_grad_()
        ancestors = pf.step(w, valid[t])
        weights.append(w)
        resampled.append(torch.zeros(3, dtype=torch.bool) if pf.resampled is None else pf.resampled)
        z = z if ancestors is None else z.flatten()[particles.rows_of(ancestors)].view_as(z)
    assert bool(torch.stack(resampled).any()) == bool(threshold)
    at_once = particles.evidence_of(torch.stack(weights), torch.stack(resampled))
    torch.testing.assert_close(at_once, pf.log_evidence)
    mine = torch.stack(torch.autograd.grad(at_once.sum(), weights, retain_graph=True))
    reference = torch.stack(torch.autograd.grad(pf.log_evidence.sum(), weights))
    torch.testing.assert_close(mine * valid.unsqueeze(1), reference)


def test_more_particles_come_closer():
    x = data()
    generator = torch.Generator().manual_seed(2)
    gaps = [
        float((kalman(x) - filtered(repeated(x, 200), k, generator).view(200, -1).mean(0)).mean()) for k in (2, 8, 64)
    ]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 0.05


def test_without_resampling_it_is_the_importance_weighted_bound():
    x = data()
    evidence = filtered(x, 6, torch.Generator().manual_seed(3), threshold=0.0)
    torch.testing.assert_close(evidence, particles.iwae(independent(x, 6, torch.Generator().manual_seed(3))))


@pytest.mark.parametrize("threshold", [0.3, 1.0])
def test_what_has_ended_stays_as_it_is(threshold):
    x = data(rows=2)
    short = torch.arange(12)[:, None] < torch.tensor([7, 12])
    evidence = filtered(x, 5, torch.Generator().manual_seed(4), valid=short, threshold=threshold)
    poisoned = x.clone()
    poisoned[0, 7:] = math.nan
    again = filtered(poisoned, 5, torch.Generator().manual_seed(4), valid=short, threshold=threshold)
    assert bool(evidence.isfinite().all())
    torch.testing.assert_close(again, evidence, rtol=0, atol=0)


@pytest.mark.parametrize("method", particles.RESAMPLING)
def test_children_are_in_proportion_to_the_weights(method):
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    runs = 20_000
    shape = (runs,) if method == "systematic" else (4, runs)
    logs = weights.log()[:, None].expand(4, runs) + 7.0  # not normalised
    ancestors = particles.choose_ancestors(logs, torch.rand(shape), method=method)
    counts = torch.stack([(ancestors == k).sum(0) for k in range(4)])  # (K, runs)
    torch.testing.assert_close(counts.float().mean(1), 4 * weights, rtol=0.03, atol=0)
    if method == "systematic":
        assert bool(((counts == (4 * weights).floor()[:, None]) | (counts == (4 * weights).ceil()[:, None])).all())


def test_effective_sample_size():
    logs = torch.tensor([[0.0, 0.0], [0.0, -math.inf], [0.0, -math.inf]]) - 3.0
    torch.testing.assert_close(particles.effective_sample_size(logs), torch.tensor([3.0, 1.0]))


def test_the_gradient_goes_through_the_weights():
    z = torch.zeros(3, 2, dtype=torch.float64)
    pf = particles.ParticleFilter(3, 2, threshold=1.0, like=z)
    leaf = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    pf.step(leaf)
    pf.step(2 * leaf)
    pf.log_evidence.sum().backward()
    # Softmax weights of the first step, and twice those of the second, which starts from equal weights.
    expected = torch.softmax(leaf, 0) + 2 * torch.softmax(2 * leaf, 0)
    torch.testing.assert_close(leaf.grad, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: particles.ParticleFilter(3, 2, method="stratified", like=torch.zeros(1)), "choose one of systematic"),
        (lambda: particles.ParticleFilter(3, 2, threshold=1.5, like=torch.zeros(1)), "resampling_threshold is 1.5"),
        (lambda: particles.ParticleFilter(0, 2, like=torch.zeros(1)), "num_particles is 0"),
        (lambda: particles.choose_ancestors(torch.zeros(3, 2), torch.rand(3)), "systematic resampling takes"),
        (lambda: particles.choose_ancestors(torch.zeros(3, 2), torch.rand(3), method="multinomial"), "uniforms must"),
    ],
)
def test_options_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_conventions_of_frames():
    totals = FrameTotals()
    totals.update(torch.tensor([10.0, 6.0]), torch.tensor([4.0, 1.0]), torch.tensor([5, 2]))
    totals.update(torch.tensor([2.0]), torch.tensor([2.0]), torch.tensor([1]))
    scores = totals.scores()
    assert scores["per_frame"] == pytest.approx(18 / 8)
    assert scores["per_frame_skip_first"] == pytest.approx(11 / 5)
    assert scores["per_sequence"] == pytest.approx(6)
    assert scores["per_frame_mean_of_sequences"] == pytest.approx((2 + 3 + 2) / 3)
    assert scores["per_sequence_standard_error"] == pytest.approx(torch.tensor([10.0, 6.0, 2.0]).std().item() / 3**0.5)
    other = FrameTotals()
    other.sums = totals.sums * 2  # two processes with the same share
    assert other.scores()["per_frame"] == pytest.approx(18 / 8)
    single = FrameTotals()
    single.update(torch.tensor([3.0]), torch.tensor([3.0]), torch.tensor([1]))
    assert "per_frame_skip_first" not in single.scores()
    assert "per_frame_standard_error" not in single.scores()


def test_a_particle_without_weight_has_no_children():
    ancestors = particles.choose_ancestors(torch.tensor([[-math.inf], [0.0]]), torch.zeros(1))
    assert ancestors.flatten().tolist() == [1, 1]
