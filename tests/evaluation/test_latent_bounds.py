"""Bounds on the likelihood against a model whose likelihood is known, and the sums that means come from."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

from hybridgen.evaluation.latent import ElboTotals, ImportanceSum, SentenceTotals, iwae_bound

SIGMA = 0.7
WEIGHTS = torch.tensor([2.0, 0.5, 0.0], dtype=torch.float64)


def linear_gaussian(sentences, *, seed=1):
    """x = w z + noise: data, the exact log p(x), and the exact posterior."""
    generator = torch.Generator().manual_seed(seed)
    scale = (WEIGHTS**2 + SIGMA**2).sqrt()
    x = torch.randn(sentences, 3, generator=generator, dtype=torch.float64) * scale
    variance = 1 / (1 + WEIGHTS**2 / SIGMA**2)
    return x, Normal(0, scale).log_prob(x).sum(1), Normal(x * WEIGHTS / SIGMA**2 * variance, variance.sqrt())


def log_weights(x, q, k):
    z = q.sample((k,))
    return (Normal(0, 1).log_prob(z) + Normal(WEIGHTS * z, SIGMA).log_prob(x) - q.log_prob(z)).sum(-1)


def too_wide(q):
    return Normal(q.mean + 0.2, q.stddev * 1.3)


def test_the_exact_posterior_gives_the_exact_likelihood():
    x, exact, q = linear_gaussian(50)
    weights = log_weights(x, q, 5)
    torch.testing.assert_close(iwae_bound(weights), exact)
    total = ImportanceSum()
    total.update(weights)
    bound = total.bound()
    torch.testing.assert_close(bound.log_likelihood, exact)
    torch.testing.assert_close(bound.standard_error, torch.zeros_like(exact), atol=1e-6, rtol=0)
    torch.testing.assert_close(bound.effective_samples, torch.full_like(exact, 5.0))


def test_the_bound_rises_with_k_and_stays_below_the_likelihood():
    x, exact, q = linear_gaussian(4000)
    means = [float(iwae_bound(log_weights(x, too_wide(q), k)).mean()) for k in (1, 5, 50)]
    assert means[0] < means[1] < means[2] < float(exact.mean())
    # k = 1 is the ELBO, whose gap is the KL between the two posteriors.
    gap = torch.distributions.kl_divergence(too_wide(q), q).sum(1).mean()
    assert float(exact.mean()) - means[0] == pytest.approx(float(gap), rel=0.1)
    assert means[2] == pytest.approx(float(exact.mean()), abs=0.02)


@settings(deadline=None, max_examples=40)
@given(k=st.integers(2, 30), cut=st.integers(1, 29), shift=st.floats(-1000, 1000), seed=st.integers(0, 99))
def test_pieces_give_what_the_whole_gives(k, cut, shift, seed):
    weights = torch.randn(k, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3 + shift
    whole, pieces = ImportanceSum(), ImportanceSum()
    whole.update(weights)
    for piece in weights.split(cut):
        pieces.update(piece)
    assert pieces.bound().num_samples == k
    for a, b in zip(whole.bound()[:3], pieces.bound()[:3], strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(whole.bound().log_likelihood, iwae_bound(weights))


def test_the_monte_carlo_error_is_the_one_there_is():
    x, _, q = linear_gaussian(1)
    weights = log_weights(x.expand(3000, 3), too_wide(Normal(q.mean.expand(3000, 3), q.stddev)), 50)
    total = ImportanceSum()
    total.update(weights)
    bound = total.bound()
    assert float(bound.standard_error.mean()) == pytest.approx(float(bound.log_likelihood.std()), rel=0.1)
    assert bool((bound.effective_samples <= 50).all())


def test_one_sample_has_no_error_and_none_is_a_mistake():
    total = ImportanceSum()
    with pytest.raises(ValueError, match="k is 0"):
        total.bound()
    total.update(torch.zeros(1, 2))
    assert total.bound().standard_error.isnan().all()
    with pytest.raises(ValueError, match="of 3 sentences, those before of 2"):
        total.update(torch.zeros(1, 3))
    for empty in (torch.zeros(0, 2), torch.zeros(2)):
        with pytest.raises(ValueError, match="k at least 1"):
            iwae_bound(empty)


def test_the_bound_has_a_gradient():
    weights = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(iwae_bound, weights)


@settings(deadline=None, max_examples=30)
@given(sentences=st.integers(2, 40), cut=st.integers(1, 40), seed=st.integers(0, 99))
def test_totals_are_the_means_of_all_sentences(sentences, cut, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 60, (sentences,), generator=generator)
    nats = tokens * 5 + torch.randn(sentences, generator=generator, dtype=torch.float64)
    totals = SentenceTotals()
    for n, t in zip(nats.split(cut), tokens.split(cut), strict=True):
        totals.update(n, t)
    score = totals.score("exact")
    assert (score.sentences, score.tokens) == (sentences, int(tokens.sum()))
    assert score.nats_per_sentence == pytest.approx(float(nats.mean()))
    assert score.standard_error == pytest.approx(float(nats.std() / math.sqrt(sentences)), abs=1e-6)
    assert score.nats_per_token == pytest.approx(float(nats.sum() / tokens.sum()))
    assert score.perplexity == pytest.approx(math.exp(score.nats_per_token))
    assert json.loads(json.dumps(score.to_dict()))["estimator"] == "exact"


def test_the_error_per_token_is_that_of_a_ratio():
    # Nats in proportion to the tokens: sentences differ much, tokens not at all.
    totals = SentenceTotals()
    tokens = torch.tensor([1, 10, 30, 60])
    totals.update(tokens * 4.5, tokens)
    score = totals.score("exact")
    assert score.token_standard_error == pytest.approx(0, abs=1e-6)
    assert score.standard_error > 10
    # And what resampling sentences finds, where they do differ.
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 40, (500,), generator=generator)
    nats = tokens * (4 + torch.rand(500, generator=generator, dtype=torch.float64))
    totals = SentenceTotals()
    totals.update(nats, tokens)
    rows = torch.randint(500, (2000, 500), generator=generator)
    resampled = nats[rows].sum(1) / tokens[rows].sum(1)
    assert totals.score("exact").token_standard_error == pytest.approx(float(resampled.std()), rel=0.1)


def test_the_elbo_is_the_sum_of_its_terms():
    totals = ElboTotals()
    totals.update(torch.tensor([90.0, 110.0]), torch.tensor([4.0, 2.0]), torch.tensor([20, 20]))
    scores = totals.scores()
    assert scores["elbo"].nats_per_sentence == pytest.approx(103)
    assert scores["reconstruction"].nats_per_sentence + scores["kl"].nats_per_sentence == pytest.approx(103)
    assert scores["elbo"].perplexity == pytest.approx(math.exp(206 / 40))
    assert scores["elbo"].estimator == "ELBO"


def test_published_row_of_ptb_counts_end_tokens():
    # Texar: 102.54 nats per sentence and perplexity 107.64 over 3761 sentences of 82,430 tokens with </s>.
    totals = SentenceTotals()
    totals.sums = torch.tensor([3761, 82430, 102.54 * 3761, 0, 0, 0], dtype=torch.float64)
    assert totals.score("ELBO").perplexity == pytest.approx(107.64, abs=0.05)


def test_totals_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="no sentences"):
        SentenceTotals().score("ELBO")
    with pytest.raises(ValueError, match="shape"):
        SentenceTotals().update(torch.zeros(2), torch.zeros(3))
