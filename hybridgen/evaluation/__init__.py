"""Evaluation: what a trained model is worth, as functions of tensors. It knows no model and no trainer."""

from hybridgen.evaluation.dynamic import dynamic_nats, gradient_scales
from hybridgen.evaluation.language import LanguageScore, carried_nats, cold_nats, token_nats
from hybridgen.evaluation.latent import (
    ActiveUnits,
    CollapseVerdict,
    DimensionKL,
    ElboTotals,
    ImportanceBound,
    ImportanceSum,
    MutualInformation,
    SentenceScore,
    SentenceTotals,
    active_units,
    collapse_verdict,
    iwae_bound,
    kl_per_dimension,
    mutual_information,
    mutual_information_of,
    shuffle_between,
)
from hybridgen.evaluation.neural_cache import NeuralCache, cache_nats

__all__ = [
    "ActiveUnits",
    "CollapseVerdict",
    "DimensionKL",
    "ElboTotals",
    "ImportanceBound",
    "ImportanceSum",
    "LanguageScore",
    "MutualInformation",
    "NeuralCache",
    "SentenceScore",
    "SentenceTotals",
    "active_units",
    "cache_nats",
    "carried_nats",
    "cold_nats",
    "collapse_verdict",
    "dynamic_nats",
    "gradient_scales",
    "iwae_bound",
    "kl_per_dimension",
    "mutual_information",
    "mutual_information_of",
    "shuffle_between",
    "token_nats",
]
