"""Variational objectives: posteriors, priors, and everything that is done to a KL term. Plain torch.

Every KL is in nats. A latent is ``(B, D)``, one for each sequence, or ``(B, T, D)``, one for each step.
"""

from hybridgen.objectives.variational.aggressive import AggressiveTraining
from hybridgen.objectives.variational.control import KLControl, KLTerms
from hybridgen.objectives.variational.floors import BatchNormMean, DeltaPosterior
from hybridgen.objectives.variational.free_bits import FreeBits
from hybridgen.objectives.variational.gaussian import DiagonalGaussian, gaussian_kl
from hybridgen.objectives.variational.priors import (
    Mixture,
    MixturePrior,
    StandardNormalPrior,
    UniformSpherePrior,
    VampPrior,
)
from hybridgen.objectives.variational.schedules import Schedule
from hybridgen.objectives.variational.vmf import VonMisesFisher

__all__ = [
    "AggressiveTraining",
    "BatchNormMean",
    "DeltaPosterior",
    "DiagonalGaussian",
    "FreeBits",
    "KLControl",
    "KLTerms",
    "Mixture",
    "MixturePrior",
    "Schedule",
    "StandardNormalPrior",
    "UniformSpherePrior",
    "VampPrior",
    "VonMisesFisher",
    "gaussian_kl",
]
