"""Heads: from a hidden state to the distribution of the next element. See :class:`Head` for the contract."""

from hybridgen.heads.adaptive import AdaptiveSoftmaxHead, default_cutoffs
from hybridgen.heads.base import Head
from hybridgen.heads.categorical import CategoricalHead
from hybridgen.heads.mixture import MixtureOfSoftmaxesHead
from hybridgen.heads.registry import make, names

__all__ = [
    "AdaptiveSoftmaxHead",
    "CategoricalHead",
    "Head",
    "MixtureOfSoftmaxesHead",
    "default_cutoffs",
    "make",
    "names",
]
