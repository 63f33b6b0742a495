"""Evaluation of latent-variable models: bounds, information and the verdict on collapse, all from one place."""

from hybridgen.evaluation.latent_bounds import (
    ElboTotals,
    ImportanceBound,
    ImportanceSum,
    SentenceScore,
    SentenceTotals,
    iwae_bound,
)
from hybridgen.evaluation.latent_collapse import CollapseVerdict, collapse_verdict, shuffle_between
from hybridgen.evaluation.latent_information import (
    ActiveUnits,
    DimensionKL,
    MutualInformation,
    active_units,
    kl_per_dimension,
    mutual_information,
    mutual_information_of,
)

__all__ = [
    "ActiveUnits",
    "CollapseVerdict",
    "DimensionKL",
    "ElboTotals",
    "ImportanceBound",
    "ImportanceSum",
    "MutualInformation",
    "SentenceScore",
    "SentenceTotals",
    "active_units",
    "collapse_verdict",
    "iwae_bound",
    "kl_per_dimension",
    "mutual_information",
    "mutual_information_of",
    "shuffle_between",
]
