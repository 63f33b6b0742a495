"""What a classifier of real digits says of images."""

import numpy as np
import pytest
import torch

from hybridgen.data import ImageRowsData
from hybridgen.evaluation.images import ImageSet, evaluate_images


@pytest.fixture(scope="module")
def digits():
    data = ImageRowsData()
    return [
        ImageSet(torch.from_numpy(np.stack(data.parts[part].elements)), torch.tensor(data.parts[part].labels))
        for part in ("train", "test", "valid")
    ]


def test_real_images_are_labelled_right_and_wrong_labels_are_seen(digits):
    train, test, valid = digits
    real = evaluate_images(train, test, valid)
    assert real.label_accuracy > 0.95
    assert real.real_label_accuracy > 0.97
    assert real.memorisation.ratio == pytest.approx(1, abs=0.15)
    assert real.manifolds.recall > 0.6
    wrong = evaluate_images(train, test, valid._replace(labels=(valid.labels + 1) % 10))
    assert wrong.label_accuracy < 0.05
    assert len(wrong.by_class) == 10


def test_copies_and_a_collapse_are_told(digits):
    train, test, _ = digits
    copies = evaluate_images(train, test, ImageSet(train.images[:300], train.labels[:300]))
    assert copies.memorisation.ratio < 0.05
    assert copies.memorisation.copies > 0.9
    # One clear image of each class is all right for the classifier, and covers next to nothing.
    rows = torch.tensor([int((train.labels == digit).nonzero()[0]) for digit in range(10)]).repeat(30)
    shaken = train.images[rows] + 0.01 * torch.rand(300, 8, 8, generator=torch.Generator().manual_seed(0))
    collapsed = evaluate_images(train, test, ImageSet(shaken, train.labels[rows]))
    assert collapsed.label_accuracy == 1
    assert collapsed.manifolds.recall < 0.1
    assert collapsed.metrics()["label_accuracy"] == 1


def test_coverage_does_not_depend_on_how_many_more_real_images_there_are(digits):
    train, test, _ = digits
    # Sixty real images stand for generated ones: six times as many test images must change nothing.
    few = evaluate_images(train, ImageSet(test.images, test.labels), ImageSet(train.images[:60], train.labels[:60]))
    even = evaluate_images(
        train, ImageSet(test.images[:60], test.labels[:60]), ImageSet(train.images[:60], train.labels[:60])
    )
    assert few.manifolds.coverage == pytest.approx(even.manifolds.coverage, abs=0.15)
    assert few.manifolds.coverage > 0.7
    again = evaluate_images(train, ImageSet(test.images, test.labels), ImageSet(train.images[:60], train.labels[:60]))
    assert again.manifolds == few.manifolds


def test_a_pixel_that_is_black_in_real_images_does_not_decide(digits):
    train, test, valid = digits
    stray = valid.images.clone()
    assert float(train.images[:, 0, 0].max()) == 0
    stray[:, 0, 0] = 1 / 16
    plain, found = (evaluate_images(train, test, valid._replace(images=images)) for images in (valid.images, stray))
    assert found.memorisation.ratio == pytest.approx(plain.memorisation.ratio, abs=0.05)


def test_what_does_not_fit_is_refused(digits):
    train, test, valid = digits
    with pytest.raises(ValueError, match="test has images of shape"):
        evaluate_images(train, test._replace(images=test.images[:, :4]), valid)
    with pytest.raises(ValueError, match="one class"):
        evaluate_images(train._replace(labels=torch.zeros_like(train.labels)), test, valid)
