"""All figures of a set of generated sounds, each beside what real sounds get.

A classifier of real ones asked about generated ones: Shmelkov et al. 2018, "How good is my GAN?", arXiv:1807.09499; the
inception score: Salimans et al. 2016, arXiv:1606.03498; the Frechet distance: Heusel et al. 2017, arXiv:1706.08500.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridgen.evaluation.series.frechet import frechet_distance
from hybridgen.evaluation.series.neighbours import Memorisation, memorisation_ratio
from hybridgen.evaluation.sounds.classifier import SoundClassifier, train_classifier
from hybridgen.evaluation.sounds.spectra import mel_spectra


class SoundSet(NamedTuple):
    """Sounds and what they are said to be.

    Attributes:
        sounds: waveforms ``(N,)``.
        labels: ``(B,)`` class numbers.
    """

    sounds: Sequence[Tensor]
    labels: Tensor


class Heard(NamedTuple):
    """What the classifier makes of a set of sounds.

    Attributes:
        label_accuracy: share that it takes for what they are said to be.
        inception_score: see :func:`inception_score`.
        frechet_distance: of its features to those of the training sounds.
    """

    label_accuracy: float
    inception_score: float
    frechet_distance: float


@dataclass(frozen=True)
class SoundReport:
    """What :func:`evaluate_sounds` finds.

    Attributes:
        generated: of generated sounds.
        real: of real test sounds, which neither the generator nor the classifier saw.
        copies: of real test sounds coded and decoded again: the best that the codec allows.
        memorisation: distances of spectra to the training sounds.
        number: sounds of each set that inception score and Frechet distance are of: both depend on it.
    """

    generated: Heard
    real: Heard
    copies: Heard
    memorisation: Memorisation
    number: int

    def metrics(self) -> dict[str, float]:
        """Every figure by a stable name."""
        found = {
            "label_accuracy": self.generated.label_accuracy,
            "inception_score": self.generated.inception_score,
            "inception_score_ratio": self.generated.inception_score / self.copies.inception_score,
            "frechet_distance": self.generated.frechet_distance,
            "memorisation_ratio": self.memorisation.ratio,
            "copies": self.memorisation.copies,
        }
        for name, heard in (("real", self.real), ("copy_synthesis", self.copies)):
            found |= {f"{name}_{key}": value for key, value in heard._asdict().items()}
        return found

    def line(self) -> str:
        """The headline in one line."""
        generated, copies = self.generated, self.copies
        return (
            f"label accuracy {generated.label_accuracy:.3f} (real {self.real.label_accuracy:.3f}, through the codec "
            f"{copies.label_accuracy:.3f}), inception score {generated.inception_score:.2f} (through the codec "
            f"{copies.inception_score:.2f}), memorisation {self.memorisation.ratio:.2f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {name: part._asdict() if hasattr(part, "_asdict") else part for name, part in asdict(self).items()}


def inception_score(probabilities: Tensor) -> float:
    """``exp(E KL(p(y|x) | p(y)))``: high where single sounds are clear and all together varied (Salimans et al. 2016).

    Between 1 and the number of classes. It depends on the classifier: compare only with sounds that the same one heard.

    Args:
        probabilities: ``(B, num_labels)``.
    """
    probabilities = probabilities.double().clamp(min=1e-12)
    mean = probabilities.mean(0, keepdim=True)
    return float((probabilities * (probabilities.log() - mean.log())).sum(1).mean().exp())


def evaluate_sounds(
    train: SoundSet,
    test: SoundSet,
    fake: SoundSet,
    copies: SoundSet,
    *,
    sample_rate: int,
    num_labels: int,
    epochs: int = 30,
    seed: int = 0,
) -> SoundReport:
    """Train a classifier on real sounds and let it hear generated ones.

    Args:
        train: real sounds that the generator learned from; the classifier learns from them too.
        test: real sounds that neither saw.
        fake: generated sounds, and the classes that were asked for.
        copies: the test sounds after the codec's round trip.
        sample_rate: samples in a second of all of them.
        num_labels: classes.
        epochs: of the classifier.
        seed: of the classifier.

    Raises:
        ValueError: if a set is empty or its labels do not fit.
    """
    options = {"sample_rate": sample_rate, "num_labels": num_labels, "epochs": epochs, "seed": seed}
    classifier = train_classifier(train.sounds, train.labels, **options)
    _, among = classifier.hear(train.sounds)
    number = min(len(test.sounds), len(fake.sounds), len(copies.sounds))
    generated, real, copied = (_heard(classifier, part, among, number) for part in (fake, test, copies))
    spectra = [mel_spectra(part.sounds, sample_rate) for part in (train, test, fake)]
    return SoundReport(generated, real, copied, memorisation_ratio(*spectra, standardise=False), number)


def _heard(classifier: SoundClassifier, part: SoundSet, among: Tensor, number: int) -> Heard:
    probabilities, features = classifier.hear(part.sounds)
    right = (probabilities.argmax(-1) == torch.as_tensor(part.labels)).double().mean()
    # Both depend on the number, so of an equal number of each set; sets are ordered, so by chance.
    chosen = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[:number]
    return Heard(float(right), inception_score(probabilities[chosen]), frechet_distance(features[chosen], among))
