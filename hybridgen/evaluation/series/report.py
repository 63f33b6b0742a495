"""All figures of a set of generated series, with what keeps the headline honest in the same line.

The headline is TimeGAN's (Yoon et al. 2019); where each figure is from stands at its function.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hybridgen.evaluation.series.frechet import context_fid
from hybridgen.evaluation.series.inputs import as_pair, as_series, check_counts
from hybridgen.evaluation.series.neighbours import (
    Manifolds,
    Memorisation,
    manifolds,
    memorisation_of_windows,
    memorisation_ratio,
)
from hybridgen.evaluation.series.statistics import (
    MeanDiscrepancy,
    autocorrelation_difference,
    correlational_score,
    mean_discrepancy,
)
from hybridgen.evaluation.series.strong_critic import StrongCriticScore, strong_critic_score
from hybridgen.evaluation.series.timegan_scores import Score, discriminative_score, predictive_score


@dataclass(frozen=True)
class SeriesReport:
    """What :func:`evaluate_series` finds; each field is the result of the function of its name.

    Attributes:
        discriminative: of real against generated.
        discriminative_floor: of one half of the real series against the other: what a perfect generator would get.
        predictive: trained on generated series.
        predictive_original: trained on real ones: as good as it gets.
        strong_critic: what a critic that is not blind finds.
        memorisation: None without held-out series.
        memorisation_apart: the same beside training windows that share no row, where windows overlap; else None.
        context_fid: by our own small encoder.
        correlational: difference of correlations.
        autocorrelation: difference of autocorrelations.
        mean_discrepancy: with a Gaussian kernel.
        manifolds: precision, recall, density and coverage.
    """

    discriminative: Score
    discriminative_floor: Score
    predictive: Score
    predictive_original: Score
    strong_critic: StrongCriticScore
    memorisation: Memorisation | None
    context_fid: float
    correlational: float
    autocorrelation: float
    mean_discrepancy: MeanDiscrepancy
    manifolds: Manifolds
    memorisation_apart: Memorisation | None = None

    def line(self) -> str:
        """The headline in one line."""
        copies = "not measured" if self.memorisation is None else f"{self.memorisation.ratio:.2f}"
        if self.memorisation_apart is not None:
            copies = f"{self.memorisation_apart.ratio:.2f} (beside training windows that share no row)"
        return (
            f"discriminative {self.discriminative.mean:.3f} +- {self.discriminative.std:.3f} "
            f"(real vs real {self.discriminative_floor.mean:.3f}, strong critic {self.strong_critic.score:.3f}), "
            f"predictive {self.predictive.mean:.3f} (real {self.predictive_original.mean:.3f}), memorisation {copies}"
        )

    def metrics(self) -> dict[str, float]:
        """Every figure by a stable name."""
        found = {
            "discriminative_score": self.discriminative.mean,
            "discriminative_score_std": self.discriminative.std,
            "discriminative_floor": self.discriminative_floor.mean,
            "discriminative_training_accuracy": float(np.mean(self.discriminative.training_accuracy)),
            "predictive_score": self.predictive.mean,
            "predictive_original": self.predictive_original.mean,
            "strong_critic_score": self.strong_critic.score,
            "strong_critic_area": self.strong_critic.area,
            "context_fid": self.context_fid,
            "correlational_score": self.correlational,
            "autocorrelation_difference": self.autocorrelation,
            "mean_discrepancy": self.mean_discrepancy.squared,
            "mean_discrepancy_bandwidth": self.mean_discrepancy.bandwidth,
            **self.manifolds._asdict(),
        }
        if self.memorisation is not None:
            found |= {"memorisation_ratio": self.memorisation.ratio, "copies": self.memorisation.copies}
        if self.memorisation_apart is not None:
            apart = self.memorisation_apart
            found |= {"memorisation_ratio_apart": apart.ratio, "copies_apart": apart.copies}
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything, single runs too, as plain JSON values."""
        parts = asdict(self)
        return {name: part._asdict() if hasattr(part, "_asdict") else part for name, part in parts.items()}


def evaluate_series(
    real: Any,
    fake: Any,
    *,
    held_out: Any | None = None,
    starts: Any | None = None,
    standardise: bool = True,
    runs: int = 10,
    iterations: float = 1.0,
    seed: int = 0,
) -> SeriesReport:
    """Every metric of generated series at once.

    Args:
        real: ``(N, T, F)``, the series that were learned from, each feature scaled to 0..1.
        fake: ``(M, T, F)``, M about N, in the same scale.
        held_out: ``(K, T, F)``, real series from another stretch of time, for the memorisation ratio.
        starts: ``(N,)``, the row that each real series begins at, where these are overlapping windows of one table and
            nothing is held out; see :func:`memorisation_of_windows`.
        standardise: whether neighbours are measured with each feature in its own deviation, or all in a common one.
        runs: of the metrics that train networks.
        iterations: their training steps, as a fraction of the published numbers: below 1 for a look, not for a table.
        seed: of all that is drawn.

    Raises:
        ValueError: if a shape or an option does not fit.
    """
    real, fake = as_pair(real, fake)
    check_counts(runs=runs)
    if not 0 < iterations <= 1:
        raise ValueError(f"iterations is {iterations}: give a fraction of the published numbers, in (0, 1]")
    if held_out is not None:
        held_out = as_series(held_out, "held_out")

    def steps(published: int) -> int:
        return max(1, round(iterations * published))

    # The floor compares two sets of the same size as far as the data go: halves of the real series.
    order = np.random.default_rng(seed).permutation(len(real))
    halves = real[order[::2]], real[order[1::2]]
    training = {"runs": runs, "seed": seed}
    apart = None
    if starts is not None:
        with suppress(ValueError):  # too short a table: not measured
            apart = memorisation_of_windows(real, starts, fake, standardise=standardise)
    return SeriesReport(
        discriminative=discriminative_score(real, fake, iterations=steps(2000), **training),
        discriminative_floor=discriminative_score(*halves, iterations=steps(2000), **training),
        predictive=predictive_score(real, fake, iterations=steps(5000), **training),
        predictive_original=predictive_score(real, real, iterations=steps(5000), **training),
        strong_critic=strong_critic_score(real, fake, iterations=steps(600), seed=seed),
        memorisation=None if held_out is None else memorisation_ratio(real, held_out, fake, standardise=standardise),
        context_fid=context_fid(real, fake, iterations=steps(400), seed=seed),
        correlational=correlational_score(real, fake),
        autocorrelation=autocorrelation_difference(real, fake),
        mean_discrepancy=mean_discrepancy(real, fake, seed=seed),
        manifolds=manifolds(real, fake, seed=seed, standardise=standardise),
        memorisation_apart=apart,
    )
