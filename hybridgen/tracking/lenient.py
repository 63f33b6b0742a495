"""Samples while a model trains are worth less than the training: one that cannot be made is a warning."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def training_goes_on(path: Path) -> Iterator[None]:
    """Turn what is wrong with a sample (its values, or the place that it is written to) into a warning.

    Args:
        path: of the sample, for the message.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
        warnings.warn(f"there is no whole sample {path} ({reason}); training goes on", stacklevel=3)
