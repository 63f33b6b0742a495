"""Adversarial training as functions of tensors: losses, penalties, matching, layers, augmentation, averages."""

from hybridgen.objectives.adversarial.augmentation import OPERATIONS, Augment
from hybridgen.objectives.adversarial.averaging import moving_average
from hybridgen.objectives.adversarial.layers import MinibatchStandardDeviation, spectral_norm_
from hybridgen.objectives.adversarial.losses import AdversarialLoss, accuracy, make, names
from hybridgen.objectives.adversarial.matching import feature_matching, moment_loss
from hybridgen.objectives.adversarial.penalties import Critic, gradient_penalty, penalty_of, r1, r2

__all__ = [
    "OPERATIONS",
    "AdversarialLoss",
    "Augment",
    "Critic",
    "MinibatchStandardDeviation",
    "accuracy",
    "feature_matching",
    "gradient_penalty",
    "make",
    "moment_loss",
    "moving_average",
    "names",
    "penalty_of",
    "r1",
    "r2",
    "spectral_norm_",
]
