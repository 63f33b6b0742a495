"""Evaluation: what a trained model is worth, as functions of tensors. It knows no model and no trainer."""

from hybridgen.evaluation.dynamic import dynamic_nats, gradient_scales
from hybridgen.evaluation.language import LanguageScore, carried_nats, cold_nats
from hybridgen.evaluation.neural_cache import NeuralCache, cache_nats

__all__ = [
    "LanguageScore",
    "NeuralCache",
    "cache_nats",
    "carried_nats",
    "cold_nats",
    "dynamic_nats",
    "gradient_scales",
]
