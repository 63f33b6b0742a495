"""What `hybridgen evaluate` does for a model of sounds."""

from argparse import Namespace
from typing import Any

#: Sounds that are generated where nothing else is said.
NUMBER = 1000
#: Passes of the classifier over the training sounds.
EPOCHS = 30


def evaluate(model: Any, data: Any, options: Namespace) -> Any:
    """Let a classifier of real sounds hear generated ones, the same number of each class.

    Args:
        model: with ``generate_features``.
        data: an ``AudioData`` with the model's codec.
        options: of the command.

    Returns:
        A report with ``metrics()``, ``line()`` and ``to_dict()``.

    Raises:
        ValueError: if the sounds have no classes, or none are held out for testing.
    """
    import torch

    from hybridgen.evaluation.sounds import SoundSet, evaluate_sounds

    codec = model.codec
    if not codec.num_labels:
        raise ValueError("the sounds have no classes, and a classifier is what judges them: set data.labelled")
    if "test" not in data.counts:
        raise ValueError("no sounds are held out for testing: set data.test_fraction above 0")
    train, test = (SoundSet(data.waveforms(part), _labels(data, part)) for part in ("train", "test"))
    batch = data.sequences("test").batch()
    copies = SoundSet(codec.decode(batch.values, lengths=batch.lengths), test.labels)
    number = NUMBER if options.num_samples is None else options.num_samples
    asked = torch.arange(number) % codec.num_labels
    features = model.generate_features(number, labels=asked, seed=options.seed)
    fake = SoundSet(codec.decode(features.values, lengths=features.lengths), asked)
    return evaluate_sounds(
        train, test, fake, copies,
        sample_rate=codec.sample_rate,
        num_labels=codec.num_labels,
        epochs=max(1, round(options.iterations * EPOCHS)),
        seed=options.seed,
    )  # fmt: skip


def _labels(data: Any, part: str) -> Any:
    import torch

    return torch.as_tensor(data.sequences(part).labels)
