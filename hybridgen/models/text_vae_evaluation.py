"""What validation and testing of a text VAE tell: bounds, the collapse monitor, and how they are named."""

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.nn import functional as F

from hybridgen import evaluation
from hybridgen.data import TextBatch
from hybridgen.models.processes import gathered, summed
from hybridgen.objectives.variational import DiagonalGaussian
from hybridgen.tracking.finite import in_any_process

if TYPE_CHECKING:
    from hybridgen.models.text_vae import TextVAE

#: Sentences that the mutual information is estimated on, at most: its cost grows with their square.
INFORMATION_SENTENCES = 10_000
#: Tokens that are decoded at a time for an importance-weighted bound; decides the memory, not the result.
TOKENS_AT_A_TIME = 16_384

_log = logging.getLogger(__name__)


class CollapseReport(NamedTuple):
    """The collapse monitor's figures.

    Attributes:
        verdict: whether the latent is ignored, and what to try.
        kl: of each dimension, ``(D,)``; of the whole latent, ``(1,)``, where the posterior or prior allows no more.
        active_units: how many, and the variance of each dimension's posterior mean.
        information: mutual information, with its number of sentences and its ceiling.
        shuffle_change: nats per sentence by which the reconstruction gets worse with another sentence's latent; NaN if
            it was not asked for.
        shuffle_standard_error: of that.
        shuffled: how many sentences were decoded so.
    """

    verdict: evaluation.CollapseVerdict
    kl: evaluation.DimensionKL
    active_units: evaluation.ActiveUnits
    information: evaluation.MutualInformation
    shuffle_change: float
    shuffle_standard_error: float
    shuffled: int


class SentenceEvaluation:
    """One pass over sentences.

    Latents come from generators of its own with a fixed seed, so that figures depend on the weights alone and the
    random numbers of training are left as they are.

    Args:
        model: the text VAE, in evaluation mode.
        num_batches: how many batches there will be.
        decoded: sentences to decode with another's latent, about; 0 leaves that out.
        k: samples of the importance-weighted bound; None leaves it out.
    """

    def __init__(self, model: "TextVAE", *, num_batches: int, decoded: int, k: int | None = None) -> None:
        self.model, self.num_batches, self.decoded, self.k = model, num_batches, decoded, k
        self.generator = torch.Generator().manual_seed(0)
        self.importance_generator = torch.Generator().manual_seed(1)
        self.totals = evaluation.ElboTotals()
        self.importance = evaluation.SentenceTotals()
        self._rows: list[tuple[Tensor, ...]] = []  # of each batch: KL, latent, parameters of the posterior
        self._kept: list[tuple[TextBatch, Tensor, Tensor]] = []
        self._batches = 0

    @torch.no_grad()
    def update(self, batch: TextBatch) -> None:
        """Add a batch of sentences."""
        model = self.model
        posterior = model.posterior(batch.targets, batch.lengths)
        z = posterior.sample(generator=self.generator)
        reconstruction = model.reconstruction_nats(batch, z)
        kl = model.kl(posterior, z)  # (B, D or 1)
        tokens = batch.row_targets
        self.totals.update(reconstruction, kl.sum(1), tokens)
        parameters = posterior if isinstance(posterior, DiagonalGaussian) else (posterior.mean,)
        self._rows.append(tuple(part.float().cpu() for part in (kl, z, *parameters)))
        if self._is_kept(len(z)):
            self._kept.append((batch, z, reconstruction))
        self._batches += 1
        if self.k is not None:
            self.importance.update(-self._importance_bound(batch, posterior), tokens)

    def validation_metrics(self) -> tuple[dict[str, float], CollapseReport | None]:
        """The values of ``val/...`` and the report, if there are two sentences or more."""
        scores = self._scores()
        metrics = {
            "elbo": -scores["elbo"].nats_per_sentence,
            "loss": scores["elbo"].nats_per_sentence,
            "reconstruction": scores["reconstruction"].nats_per_sentence,
            "kl": scores["kl"].nats_per_sentence,
            "perplexity_elbo": scores["elbo"].perplexity,
        }
        report = self.report(metrics["kl"])
        return metrics | _report_metrics(report), report

    def test_metrics(self) -> tuple[dict[str, float], CollapseReport | None]:
        """The values of ``test/...``, negative log-likelihoods per sentence and per token, and the report."""
        scores = self._scores()
        if self.k is not None:
            scores[f"iwae{self.k}"] = self._reduced(self.importance).score(f"IWAE-{self.k}")
        metrics = {}
        for name, score in scores.items():
            metrics[f"{name}_nats"] = score.nats_per_sentence
            metrics[f"{name}_nats_standard_error"] = score.standard_error
            metrics[f"{name}_nats_per_token"] = score.nats_per_token
            if name.startswith(("elbo", "iwae")):
                metrics[f"perplexity_{name}"] = score.perplexity
        report = self.report(metrics["kl_nats"])
        return metrics | _report_metrics(report), report

    @torch.no_grad()
    def report(self, kl: float) -> CollapseReport | None:
        """The collapse monitor's figures, of all processes' sentences; None where there is one sentence alone."""
        device = self.model.device
        columns = (gathered(torch.cat(parts), device) for parts in zip(*self._rows, strict=True))
        kl_rows, latents, *parameters = columns
        if len(latents) < 2:
            return None
        some = torch.linspace(0, len(latents) - 1, min(len(latents), INFORMATION_SENTENCES)).long()
        if len(parameters) == 2:
            information = evaluation.mutual_information(*(part[some] for part in parameters))
        else:
            directions, kappa = parameters[0][some], self.model.options["kappa"]
            information = evaluation.mutual_information_of(lambda z: kappa * z @ directions.T, latents[some])
        units = evaluation.active_units(parameters[0])
        change, error, shuffled = self._shuffle()
        verdict = evaluation.collapse_verdict(
            kl=kl,
            mutual_information=information.nats,
            active_units=units.count,
            latent_size=self.model.latent_size,
            shuffle_change=change if shuffled else information.nats,
            shuffle_standard_error=error if shuffled else 0.0,
        )
        per_dimension = evaluation.kl_per_dimension(kl_rows)
        return CollapseReport(verdict, per_dimension, units, information, change, error, shuffled)

    def _scores(self) -> dict[str, evaluation.SentenceScore]:
        for totals in (self.totals.elbo, self.totals.reconstruction, self.totals.kl):
            self._reduced(totals)
        return self.totals.scores()

    def _reduced(self, totals: evaluation.SentenceTotals) -> evaluation.SentenceTotals:
        """Add up what all processes have."""
        totals.sums = summed(totals.sums.to(self.model.device)).cpu()
        return totals

    def _is_kept(self, size: int) -> bool:
        """Whether a batch is decoded again: about ``decoded`` sentences, from batches of all lengths."""
        wanted = min(self.num_batches, -(-self.decoded // size))
        number = self._batches
        return wanted > 0 and (number * wanted) // self.num_batches != ((number - 1) * wanted) // self.num_batches

    def _shuffle(self) -> tuple[float, float, int]:
        """Change of the reconstruction with another's latent, its standard error, and the number of sentences.

        Latents are exchanged within each process.
        """
        number = sum(len(z) for _, z, _ in self._kept)
        if in_any_process(number < 2, self.model.device):
            return float("nan"), float("nan"), 0
        latents = torch.cat([z for _, z, _ in self._kept])
        order = evaluation.shuffle_between(number, generator=torch.Generator().manual_seed(0))
        others = latents[order.to(latents.device)].split([len(z) for _, z, _ in self._kept])
        pairs = zip(self._kept, others, strict=True)
        changes = [self.model.reconstruction_nats(batch, z) - own for (batch, _, own), z in pairs]
        change = gathered(torch.cat(changes), self.model.device).double()
        return float(change.mean()), float(change.std() / len(change) ** 0.5), len(change)

    def _importance_bound(self, batch: TextBatch, posterior: Any) -> Tensor:
        """``(B,)`` nats of log-likelihood, at bounded memory."""
        model, total = self.model, evaluation.ImportanceSum()
        embedded = F.embedding(batch.inputs, model.embedding.weight)  # (B, T, E)
        prior = model.prior.mixture() if hasattr(model.prior, "mixture") else model.prior
        each = min(self.k, max(1, TOKENS_AT_A_TIME // batch.inputs.numel()))
        for first in range(0, self.k, each):
            z = posterior.sample(min(each, self.k - first), generator=self.importance_generator)  # (k, B, D)
            k = len(z)
            nats = model.sentence_nats(
                embedded.repeat(k, 1, 1),
                batch.targets.repeat(k, 1),
                None if batch.lengths is None else batch.lengths.repeat(k),
                z.flatten(0, 1),
            )
            total.update(prior.log_prob(z) - posterior.log_prob(z) - nats.view(k, -1))
        return total.bound().log_likelihood


def warn_of_collapse(report: CollapseReport | None) -> bool:
    """Say once, in one sentence, that the latent is ignored; returns whether it was."""
    if report is None or not report.verdict.ignored:
        return False
    _warn(report.verdict.sentence)
    return True


@rank_zero_only
def _warn(sentence: str) -> None:
    _log.warning("%s", sentence)


def _report_metrics(report: CollapseReport | None) -> dict[str, float]:
    if report is None:
        return {}
    metrics = {
        "active_units": float(report.active_units.count),
        "mutual_information": report.information.nats,
        "mutual_information_standard_error": report.information.standard_error,
        "mutual_information_ceiling": report.information.ceiling,
    }
    if report.shuffled:
        metrics["shuffle_change"] = report.shuffle_change
        metrics["shuffle_change_standard_error"] = report.shuffle_standard_error
    return metrics
