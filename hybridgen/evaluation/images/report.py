"""What generated images of classes are worth: whether a classifier that knows real ones sees the class asked for.

A share that it labels right says how clear samples are, not how varied: one good image of each class gets all of it. So
it stands beside recall, coverage and the distance to the training images. The share is the "GAN-test" of Shmelkov et
al. 2018, arXiv:1807.09499.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybridgen.evaluation.series.neighbours import Manifolds, Memorisation, manifolds, memorisation_ratio

#: Training images that the classifier learns from, at most: its cost grows with their square.
MOST = 10_000


class ImageSet(NamedTuple):
    """Images and what they are said to be.

    Attributes:
        images: ``(N, H, W)`` from 0 to 1.
        labels: ``(N,)`` class numbers.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ImageReport:
    """What :func:`evaluate_images` finds.

    Attributes:
        label_accuracy: share of generated images that the classifier takes for what was asked for.
        by_class: the same for each class.
        real_label_accuracy: share of real test images that it labels right.
        memorisation: distances to the training images.
        manifolds: precision, recall, density and coverage of equally many test and generated images.
    """

    label_accuracy: float
    by_class: tuple[float, ...]
    real_label_accuracy: float
    memorisation: Memorisation
    manifolds: Manifolds

    def metrics(self) -> dict[str, float]:
        """Every figure by a stable name."""
        return {
            "label_accuracy": self.label_accuracy,
            "real_label_accuracy": self.real_label_accuracy,
            "memorisation_ratio": self.memorisation.ratio,
            "copies": self.memorisation.copies,
            **self.manifolds._asdict(),
        }

    def line(self) -> str:
        """The headline in one line."""
        return (
            f"label accuracy {self.label_accuracy:.3f} (real {self.real_label_accuracy:.3f}), "
            f"recall {self.manifolds.recall:.3f}, memorisation {self.memorisation.ratio:.2f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        parts = {"memorisation": self.memorisation._asdict(), "manifolds": self.manifolds._asdict()}
        return {**self.metrics(), "by_class": list(self.by_class), **parts}


def evaluate_images(train: ImageSet, test: ImageSet, fake: ImageSet, *, seed: int = 0) -> ImageReport:
    """Train a classifier on real images and let it look at generated ones.

    It is a support vector machine with a Gaussian kernel on pixels: no training to tune, the same every time, and on
    digits above 98%.

    Args:
        train: real images that the generator learned from; the classifier learns from them too.
        test: real images that neither saw.
        fake: generated images, and the classes that were asked for.
        seed: of which training images are taken where there are more than 10,000, and of draws of the other measures.

    Raises:
        ValueError: if a set is empty, shapes differ, or there is one class only.
    """
    from sklearn.svm import SVC

    sets = [
        ImageSet(torch.as_tensor(part.images).float(), torch.as_tensor(part.labels)) for part in (train, test, fake)
    ]
    for name, part in zip(("train", "test", "fake"), sets, strict=True):
        if part.images.dim() != 3 or not len(part.images) or part.images.shape[1:] != sets[0].images.shape[1:]:
            raise ValueError(f"{name} has images of shape {tuple(part.images.shape)}: give (N, H, W), all of one size")
        if part.labels.shape != part.images.shape[:1]:
            raise ValueError(f"{name} has labels of shape {tuple(part.labels.shape)}: give one for each image")
    if len(sets[0].labels.unique()) < 2:
        raise ValueError("the training images are of one class: there is nothing to tell apart")
    chosen = np.random.default_rng(seed).permutation(len(sets[0].images))[:MOST]
    classifier = SVC(C=10.0, gamma="scale")
    classifier.fit(sets[0].images.flatten(1).numpy()[chosen], sets[0].labels.numpy()[chosen])

    def right(part: ImageSet) -> np.ndarray:
        return classifier.predict(part.images.flatten(1).numpy()) == part.labels.numpy()

    generated, labels = right(sets[2]), sets[2].labels.numpy()
    classes = sorted(set(sets[0].labels.tolist()))
    by_class = tuple(float(generated[labels == c].mean()) if (labels == c).any() else float("nan") for c in classes)
    number = min(len(sets[1].images), len(sets[2].images))
    # Coverage and recall depend on how many there are of each: an equal number of both, drawn at random.
    random = np.random.default_rng(seed)
    held_out, made = (part.images[random.permutation(len(part.images))[:number]] for part in sets[1:])
    return ImageReport(
        label_accuracy=float(generated.mean()),
        by_class=by_class,
        real_label_accuracy=float(right(sets[1]).mean()),
        memorisation=memorisation_ratio(*(part.images for part in sets), standardise=False),
        manifolds=manifolds(held_out, made, seed=seed, standardise=False),
    )
