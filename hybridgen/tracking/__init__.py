"""Tracking: where a run's files go and what is logged while it trains."""

from hybridgen.tracking.compiling import CompileCells
from hybridgen.tracking.finite import SkipNonFinite, TrainingDiverged
from hybridgen.tracking.gradient_flow import GradientFlow

__all__ = ["CompileCells", "GradientFlow", "SkipNonFinite", "TrainingDiverged"]
