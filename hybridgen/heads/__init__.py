"""Heads: from a hidden state to the distribution of the next element. See :mod:`hybridgen.heads.base`."""

from hybridgen.heads.adaptive import AdaptiveSoftmaxHead, default_cutoffs
from hybridgen.heads.base import ClassHead, Head
from hybridgen.heads.bernoulli import BernoulliHead
from hybridgen.heads.categorical import CategoricalHead
from hybridgen.heads.elements import ElementHead
from hybridgen.heads.gaussian import GaussianHead
from hybridgen.heads.logistics import MixtureOfLogisticsHead
from hybridgen.heads.mixture import MixtureOfSoftmaxesHead
from hybridgen.heads.registry import element_names, make, names, register
from hybridgen.heads.strokes import BivariateMixtureHead

__all__ = [
    "AdaptiveSoftmaxHead",
    "BernoulliHead",
    "BivariateMixtureHead",
    "CategoricalHead",
    "ClassHead",
    "ElementHead",
    "GaussianHead",
    "Head",
    "MixtureOfLogisticsHead",
    "MixtureOfSoftmaxesHead",
    "default_cutoffs",
    "element_names",
    "make",
    "names",
    "register",
]
