"""How probable sentences are under a latent-variable model, by an estimator that is always named.

For a model ``p(x, z) = p(z) p(x | z)`` and an approximate posterior ``q(z | x)``::

    ELBO    = E_q[log p(x | z)] - KL(q(z | x) || p(z))                        <= log p(x)
    IWAE-k  = E[log (1/k) sum_i w_i],  w_i = p(x, z_i) / q(z_i | x)           <= log p(x), rising with k

Burda et al. 2016, "Importance weighted autoencoders", arXiv:1509.00519. Scores are told as *negative* log-likelihoods
in nats, so that less is better and a bound is an upper one; what they are divided by is in their names. Two scores of
different estimators never compare.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridgen.objectives import likelihood


@dataclass(frozen=True, kw_only=True)
class SentenceScore:
    """Mean nats of a set of sentences.

    Attributes:
        estimator: ``ELBO``, ``IWAE-500``, ``exact``... what the figures are.
        sentences: how many sentences.
        tokens: how many predicted tokens they have, end tokens included.
        nats_per_sentence: mean over sentences.
        standard_error: of that mean, from how much sentences differ; NaN for a single sentence.
        nats_per_token: all nats by all tokens (not the mean of the sentences' means).
        token_standard_error: of that ratio, by the delta method.
    """

    estimator: str
    sentences: int
    tokens: int
    nats_per_sentence: float
    standard_error: float
    nats_per_token: float
    token_standard_error: float

    @property
    def perplexity(self) -> float:
        """``exp`` of the nats per token: for a bound, a bound on the perplexity."""
        return likelihood.perplexity(self.nats_per_token)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self) | {"perplexity": self.perplexity}


class SentenceTotals:
    """Sums over batches of sentences, from which means and their standard errors follow exactly.

    ``sums`` is one float64 tensor ``(6,)``, so that several processes add theirs up by a single ``all_reduce``.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(6, dtype=torch.float64)

    def update(self, nats: Tensor, tokens: Tensor) -> None:
        """Add sentences.

        Args:
            nats: ``(B,)`` of each sentence, on any device.
            tokens: ``(B,)`` predicted tokens of each.

        Raises:
            ValueError: if the shapes are not both (B,).
        """
        if nats.dim() != 1 or nats.shape != tokens.shape:
            raise ValueError(
                f"nats and tokens must both have shape (B,) but have {list(nats.shape)} and {list(tokens.shape)}"
            )
        nats, tokens = nats.detach().double(), tokens.detach().double()
        terms = (torch.ones_like(nats), tokens, nats, nats.square(), nats * tokens, tokens.square())
        self.sums = self.sums.to(nats.device) + torch.stack([term.sum() for term in terms])

    def score(self, estimator: str) -> SentenceScore:
        """The means so far.

        Args:
            estimator: what the nats are, for the record.

        Raises:
            ValueError: if no sentence was added.
        """
        sentences, tokens, nats, nats2, cross, tokens2 = self.sums.tolist()
        if not sentences:
            raise ValueError("there are no sentences to score: give at least one")
        mean, ratio = nats / sentences, nats / tokens
        spread, residual = math.nan, math.nan
        if sentences > 1:
            count = sentences * (sentences - 1)
            spread = math.sqrt(max(0.0, nats2 - nats * mean) / count)
            left = nats2 - 2 * ratio * cross + ratio**2 * tokens2  # sum of (nats - ratio * tokens)^2
            residual = math.sqrt(max(0.0, left) / count) * sentences / tokens
        return SentenceScore(
            estimator=estimator,
            sentences=round(sentences),
            tokens=round(tokens),
            nats_per_sentence=mean,
            standard_error=spread,
            nats_per_token=ratio,
            token_standard_error=residual,
        )


class ElboTotals:
    """The evidence lower bound of a set of sentences and its two terms, each with its standard error."""

    def __init__(self) -> None:
        self.elbo, self.reconstruction, self.kl = SentenceTotals(), SentenceTotals(), SentenceTotals()

    def update(self, reconstruction: Tensor, kl: Tensor, tokens: Tensor) -> None:
        """Add sentences.

        Args:
            reconstruction: ``(B,)`` nats, ``-log p(x | z)``.
            kl: ``(B,)`` nats, ``KL(q(z | x) || p(z))`` without weight or floor.
            tokens: ``(B,)`` predicted tokens of each.
        """
        self.elbo.update(reconstruction + kl, tokens)
        self.reconstruction.update(reconstruction, tokens)
        self.kl.update(kl, tokens)

    def scores(self) -> dict[str, SentenceScore]:
        """``elbo`` (negative, so an upper bound on the nats), ``reconstruction`` and ``kl``."""
        return {
            "elbo": self.elbo.score("ELBO"),
            "reconstruction": self.reconstruction.score("reconstruction term of the ELBO"),
            "kl": self.kl.score("KL term of the ELBO"),
        }


class ImportanceBound(NamedTuple):
    """IWAE-k of each sentence.

    Attributes:
        log_likelihood: ``(B,)`` nats, ``log (1/k) sum_i w_i``: in expectation at most ``log p(x)``.
        standard_error: ``(B,)`` nats, Monte Carlo error of it by the delta method; NaN for k = 1.
        effective_samples: ``(B,)`` in [1, k], ``(sum w)^2 / sum w^2``: near 1 says that k is too small.
        num_samples: k.
    """

    log_likelihood: Tensor
    standard_error: Tensor
    effective_samples: Tensor
    num_samples: int


class ImportanceSum:
    """IWAE-k in pieces: k = 500 in memory for as many samples as are given at a time."""

    def __init__(self) -> None:
        self.num_samples = 0
        self._sum: Tensor | None = None  # log sum of w, (B,) float64
        self._squares: Tensor | None = None  # log sum of w^2

    def update(self, log_weights: Tensor) -> None:
        """Add samples.

        Args:
            log_weights: ``(k, B)`` nats, ``log p(x, z) - log q(z | x)`` with ``z`` drawn from q; any k >= 1.

        Raises:
            ValueError: if the shape is not (k, B) with k >= 1, or B is not that of the samples before.
        """
        if log_weights.dim() != 2 or len(log_weights) == 0:
            raise ValueError(f"log_weights must have shape (k, B) with k at least 1 but have {list(log_weights.shape)}")
        if self._sum is not None and log_weights.shape[1:] != self._sum.shape:
            raise ValueError(f"log_weights are of {log_weights.shape[1]} sentences, those before of {len(self._sum)}")
        weights = log_weights.detach().double()
        total, squares = weights.logsumexp(0), (2 * weights).logsumexp(0)  # (B,) each
        self._sum = total if self._sum is None else torch.logaddexp(self._sum, total)
        self._squares = squares if self._squares is None else torch.logaddexp(self._squares, squares)
        self.num_samples += len(weights)

    def bound(self) -> ImportanceBound:
        """The bound by all samples so far.

        Raises:
            ValueError: if there are none: k is 0.
        """
        if self._sum is None:
            raise ValueError("k is 0: an importance-weighted bound needs at least 1 sample")
        k = self.num_samples
        effective = (2 * self._sum - self._squares).exp()
        # Var(log mean w) ~ Var(w) / (k mean(w)^2), with the unbiased variance.
        variance = (k / effective - 1).clamp(min=0) / (k - 1) if k > 1 else torch.full_like(effective, torch.nan)
        return ImportanceBound(self._sum - math.log(k), variance.sqrt(), effective, k)


def iwae_bound(log_weights: Tensor) -> Tensor:
    """The importance-weighted bound of each sentence, ``log (1/k) sum_i w_i``.

    Args:
        log_weights: ``(k, B)`` nats, ``log p(x, z_i) - log q(z_i | x)`` with ``z_i`` drawn from q. For more samples
            than fit into memory, and for the standard error, see :class:`ImportanceSum`.

    Returns:
        ``(B,)`` nats of log-likelihood (more is better), differentiable; k = 1 is a one-sample ELBO.

    Raises:
        ValueError: if k is 0 or the shape is another.
    """
    if log_weights.dim() != 2 or len(log_weights) == 0:
        raise ValueError(f"log_weights must have shape (k, B) with k at least 1 but have {list(log_weights.shape)}")
    return log_weights.logsumexp(0) - math.log(len(log_weights))
