"""What `hybridgen evaluate` does for a model of images."""

from argparse import Namespace
from pathlib import Path
from typing import Any

#: Images that are generated where nothing else is said.
NUMBER = 1000
#: Images of each class in the picture.
_SHOWN = 10


def evaluate(model: Any, data: Any, options: Namespace) -> Any:
    """Let a classifier of real images look at generated ones, the same number of each class.

    Args:
        model: with ``generate``, conditional on the class.
        data: an ``ImageRowsData`` like that of the model.
        options: of the command.

    Returns:
        A report with ``metrics()``, ``line()`` and ``to_dict()``.

    Raises:
        ValueError: if the images have no classes, or none are held out for testing.
    """
    import numpy as np
    import torch

    from hybridgen.data.image_files import write_images
    from hybridgen.evaluation.images import ImageSet, evaluate_images

    codec = model.codec
    if not codec.labels:
        raise ValueError("the images have no classes, and a classifier is what judges them: set data.labels")
    if codec.to_config() != data.codec.to_config():
        raise ValueError("--config: the images are not those that this model was trained on")
    if "test" not in data.parts:
        raise ValueError("no images are held out for testing: set data.test_fraction above 0")

    def real(part: str) -> ImageSet:
        images = data.parts[part]
        return ImageSet(torch.from_numpy(np.stack(images.elements)), torch.tensor(images.labels))

    number = NUMBER if options.num_samples is None else options.num_samples
    asked = torch.arange(number) % len(codec.labels)
    names = [codec.labels[label] for label in asked.tolist()]
    made = model.generate(number, length=codec.height, labels=names, seed=options.seed)
    # As they would be written: at the levels that pixels can have.
    fake = torch.stack([torch.from_numpy(codec.quantise(image.numpy())) for image in made])
    if options.out is not None:
        Path(options.out).mkdir(parents=True, exist_ok=True)
        shown = fake[: _SHOWN * len(codec.labels)]
        write_images(list(shown), Path(options.out) / "samples.png", codec, columns=len(codec.labels))
    return evaluate_images(real("train"), real("test"), ImageSet(fake, asked), seed=options.seed)
