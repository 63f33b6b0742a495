"""Evaluation of generated series ``(N, T, F)``: published scores, and what keeps them honest."""

from hybridgen.evaluation.series.context_encoder import ContextEncoder, train_encoder
from hybridgen.evaluation.series.frechet import context_fid, frechet_distance
from hybridgen.evaluation.series.neighbours import (
    Manifolds,
    Memorisation,
    manifolds,
    memorisation_of_windows,
    memorisation_ratio,
    nearest_distances,
)
from hybridgen.evaluation.series.pictures import projections, save_pictures
from hybridgen.evaluation.series.report import SeriesReport, evaluate_series
from hybridgen.evaluation.series.statistics import (
    MeanDiscrepancy,
    autocorrelation,
    autocorrelation_difference,
    correlational_score,
    mean_discrepancy,
)
from hybridgen.evaluation.series.strong_critic import StrongCriticScore, area_under_roc, strong_critic_score
from hybridgen.evaluation.series.timegan_scores import Score, discriminative_score, predictive_score

__all__ = [
    "ContextEncoder",
    "Manifolds",
    "MeanDiscrepancy",
    "Memorisation",
    "Score",
    "SeriesReport",
    "StrongCriticScore",
    "area_under_roc",
    "autocorrelation",
    "autocorrelation_difference",
    "context_fid",
    "correlational_score",
    "discriminative_score",
    "evaluate_series",
    "frechet_distance",
    "manifolds",
    "mean_discrepancy",
    "memorisation_of_windows",
    "memorisation_ratio",
    "nearest_distances",
    "predictive_score",
    "projections",
    "save_pictures",
    "strong_critic_score",
    "train_encoder",
]
