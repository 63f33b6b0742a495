"""Evaluation of generated sounds by a classifier of real ones."""

from hybridgen.evaluation.sounds.classifier import SoundClassifier, train_classifier
from hybridgen.evaluation.sounds.report import SoundReport, SoundSet, evaluate_sounds, inception_score
from hybridgen.evaluation.sounds.spectra import mel_spectra

__all__ = [
    "SoundClassifier",
    "SoundReport",
    "SoundSet",
    "evaluate_sounds",
    "inception_score",
    "mel_spectra",
    "train_classifier",
]
