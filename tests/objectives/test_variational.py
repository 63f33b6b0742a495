"""Posteriors, priors and floors against independent references."""

import math

import pytest
import torch
from scipy import stats
from scipy.special import ive
from torch import distributions

from hybridgen.objectives.variational import (
    BatchNormMean,
    DeltaPosterior,
    DiagonalGaussian,
    MixturePrior,
    StandardNormalPrior,
    UniformSpherePrior,
    VampPrior,
    VonMisesFisher,
    gaussian_kl,
)
from hybridgen.objectives.variational.vmf import log_bessel, log_normaliser


def gaussian(*shape):
    return DiagonalGaussian(torch.randn(*shape), torch.randn(*shape))


class TestGaussian:
    def test_log_prob_and_kl_are_torchs(self):
        q, p, z = gaussian(4, 6), gaussian(6), torch.randn(3, 4, 6)
        theirs = [distributions.Normal(d.mean, (0.5 * d.log_variance).exp()) for d in (q, p)]
        torch.testing.assert_close(q.log_prob(z), theirs[0].log_prob(z).sum(-1))
        torch.testing.assert_close(gaussian_kl(q, p), distributions.kl_divergence(*theirs))
        standard = distributions.Normal(torch.zeros(6), torch.ones(6))
        torch.testing.assert_close(gaussian_kl(q), distributions.kl_divergence(theirs[0], standard))

    def test_samples_have_its_moments_and_its_gradient(self):
        q = DiagonalGaussian(
            torch.tensor([1.0, -2.0], requires_grad=True), torch.tensor([0.0, 1.5], requires_grad=True)
        )
        z = q.sample(40_000)
        torch.testing.assert_close(z.mean(0), q.mean, atol=0.05, rtol=0)
        torch.testing.assert_close(z.var(0), q.log_variance.exp(), atol=0.15, rtol=0)
        z.square().sum(-1).mean().backward()  # E z^2 = mean^2 + variance
        torch.testing.assert_close(q.mean.grad, 2 * q.mean.detach(), atol=0.1, rtol=0)
        torch.testing.assert_close(q.log_variance.grad, q.log_variance.detach().exp(), atol=0.2, rtol=0)

    def test_a_generator_makes_draws_repeatable(self):
        q = gaussian(3, 2)
        first, second = (q.sample(generator=torch.Generator().manual_seed(5)) for _ in range(2))
        assert torch.equal(first, second)
        assert q.sample(4).shape == (4, 3, 2)
        with pytest.raises(ValueError, match="num_samples is 0"):
            q.sample(0)


class TestVonMisesFisher:
    @pytest.mark.parametrize(("size", "kappa"), [(2, 0.5), (3, 10.0), (32, 35.0), (50, 200.0)])
    def test_density_is_scipys(self, size, kappa):
        q = VonMisesFisher.from_direction(torch.randn(size, dtype=torch.float64), kappa)
        z = torch.nn.functional.normalize(torch.randn(5, size, dtype=torch.float64), dim=-1)
        reference = stats.vonmises_fisher(q.mean.numpy(), kappa).logpdf(z.numpy())
        torch.testing.assert_close(q.log_prob(z), torch.from_numpy(reference))

    def test_the_bessel_function_is_scipys_and_never_underflows(self):
        for order, x in ((0.0, 0.3), (15.0, 35.0), (24.5, 100.0), (3.0, 700.0)):
            assert log_bessel(order, x) == pytest.approx(math.log(ive(order, x)) + x, rel=1e-10)
        assert ive(500.0, 1.0) == 0.0  # where the library gives up
        assert math.isfinite(log_normaliser(1000, 1.0))

    @pytest.mark.parametrize(("size", "kappa"), [(2, 3.0), (16, 0.0), (16, 50.0)])
    def test_samples_are_on_the_sphere_and_estimate_the_kl(self, size, kappa):
        q = VonMisesFisher.from_direction(torch.randn(size), kappa)
        z = q.sample(30_000)
        torch.testing.assert_close(z.norm(dim=-1), torch.ones(30_000))
        ratios = q.log_prob(z) - UniformSpherePrior(size).log_prob(z)
        assert float(q.kl_to_uniform()) == pytest.approx(float(ratios.mean()), abs=0.02 * (1 + kappa / 10))
        # At right angles to the mean there is no other direction.
        across = z - (z @ q.mean).unsqueeze(-1) * q.mean
        assert float(across.mean(0).norm()) < 0.02

    def test_the_gradient_reaches_the_direction(self):
        direction = torch.randn(8, requires_grad=True)
        target = torch.nn.functional.normalize(torch.randn(8), dim=-1)
        q = VonMisesFisher.from_direction(direction, 30.0)
        (q.sample(20_000) @ target).mean().backward()
        # E z = A(k) mean, A(k) = I[4](k) / I[3](k)
        ratio = math.exp(log_bessel(4.0, 30.0) - log_bessel(3.0, 30.0))
        other = direction.detach().clone().requires_grad_()
        (ratio * torch.nn.functional.normalize(other, dim=-1) @ target).backward()
        torch.testing.assert_close(direction.grad, other.grad, atol=0.02, rtol=0.1)

    def test_mistakes_are_told(self):
        with pytest.raises(ValueError, match="at least 2 dimensions"):
            VonMisesFisher(torch.ones(3, 1), 1.0)
        with pytest.raises(ValueError, match="kappa is -1"):
            VonMisesFisher(torch.eye(3), -1.0)


class TestPriors:
    def test_a_mixture_is_torchs(self):
        prior = MixturePrior(3, 4)
        with torch.no_grad():
            prior.logits.normal_()
            prior.log_variance.normal_()
        components = distributions.Independent(distributions.Normal(prior.mean, (0.5 * prior.log_variance).exp()), 1)
        reference = distributions.MixtureSameFamily(distributions.Categorical(logits=prior.logits), components)
        z = torch.randn(2, 5, 3)
        torch.testing.assert_close(prior.log_prob(z), reference.log_prob(z), atol=1e-5, rtol=1e-5)
        sample = prior.sample(30_000).detach()
        torch.testing.assert_close(sample.mean(0), reference.mean, atol=0.05, rtol=0)
        torch.testing.assert_close(sample.var(0), reference.variance, atol=0.2, rtol=0.1)

    def test_the_vamp_prior_is_the_mixture_of_the_encodings_and_does_not_own_the_encoder(self):
        encoder = torch.nn.Linear(5, 4)

        def encode(inputs):
            return DiagonalGaussian(*encoder(inputs).chunk(2, -1))

        prior = VampPrior(encode, (5,), 3)
        assert [name for name, _ in prior.named_parameters()] == ["pseudo_inputs"]
        assert not list(VampPrior(encoder, (5,), 3).children())
        q, z = encode(prior.pseudo_inputs), torch.randn(7, 2)
        by_hand = torch.stack([DiagonalGaussian(m, v).log_prob(z) for m, v in zip(*q, strict=True)]).logsumexp(0)
        torch.testing.assert_close(prior.log_prob(z), by_hand - math.log(3))
        prior.log_prob(z).sum().backward()
        assert encoder.weight.grad.abs().sum() > 0
        assert prior.sample(6).shape == (6, 2)

    def test_the_standard_normal(self):
        z = torch.randn(3, 4, 5)
        reference = distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        torch.testing.assert_close(StandardNormalPrior(5).log_prob(z), reference)
        assert StandardNormalPrior(5).sample(2).shape == (2, 5)


class TestFloors:
    def test_batch_norm_holds_the_kl_up(self):
        layer = BatchNormMean(4, gamma=0.6)
        mean = layer(3 * torch.randn(5000, 4) + 7)
        torch.testing.assert_close(mean.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
        torch.testing.assert_close(mean.std(0), torch.full((4,), 0.6), atol=1e-3, rtol=0)
        # Even with the variance that costs least, 1.
        kl = gaussian_kl(DiagonalGaussian(mean.detach(), torch.zeros(5000, 4))).sum(1).mean()
        assert float(kl) == pytest.approx(float(layer.kl_floor().detach()), rel=1e-3)

    def test_evaluation_knows_the_variance_between_batches(self):
        # Batches that differ in their means, as those of sentences of similar length do.
        layer = BatchNormMean(1, gamma=1.0, momentum=0.02)
        centres = torch.tensor([-3.0, 3.0])
        for step in range(1000):
            layer(centres[step % 2] + torch.randn(64, 1))
        layer.eval()
        data = torch.cat([centre + torch.randn(20_000, 1) for centre in centres])
        normalised = layer(data).detach()
        assert float(normalised.std()) == pytest.approx(1.0, rel=0.05)
        assert float(normalised.mean()) == pytest.approx(0.0, abs=0.1)

    def test_padding_counts_for_nothing_and_one_row_is_possible(self):
        layer, mask = BatchNormMean(2), torch.tensor([[True, True, False], [True, False, False]])
        values = torch.randn(2, 3, 2)
        first = layer(values, mask=mask)[mask]
        layer2 = BatchNormMean(2)
        values2 = values.masked_fill(~mask.unsqueeze(-1), 1e6)
        torch.testing.assert_close(layer2(values2, mask=mask)[mask], first)
        assert torch.equal(layer.second_moment, layer2.second_moment)
        assert layer(torch.randn(1, 2)).isfinite().all()
        assert BatchNormMean(2)(torch.randn(1, 2)).isfinite().all()

    @pytest.mark.parametrize("delta", [0.05, 0.5, 3.0])
    def test_delta_is_committed_everywhere(self, delta):
        layer = DeltaPosterior(delta)
        mean, log_variance = 20 * torch.randn(500, 6), 20 * torch.randn(500, 6)
        mean.requires_grad_(), log_variance.requires_grad_()
        q = layer(mean, log_variance)
        assert float(gaussian_kl(q).min()) >= delta * (1 - 1e-4)
        gaussian_kl(q).sum().backward()
        assert mean.grad.isfinite().all()
        assert log_variance.grad.isfinite().all()

    def test_mistakes_are_told(self):
        with pytest.raises(ValueError, match="batch_norm_gamma is 0"):
            BatchNormMean(3, gamma=0)
        with pytest.raises(ValueError, match="delta is -1"):
            DeltaPosterior(-1)
