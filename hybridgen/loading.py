"""From a checkpoint file to a model that can generate."""

from pathlib import Path
from typing import Any

from hybridgen.reliability.verify import CheckpointError, read
from hybridgen.restoring import read_contents, restore

__all__ = ["CheckpointError", "load", "read_checkpoint"]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint; nothing in the file is ever executed.

    Raises:
        CheckpointError: if there is no such file, it is damaged, or it is something else.
    """
    return read(path)


def load(checkpoint_path: str | Path) -> Any:
    """The model in a checkpoint, on the CPU and ready to generate.

    Args:
        checkpoint_path: a file that training wrote; it holds the codec too, no data is needed. Or a folder that
            ``hybridgen export --format safetensors`` wrote.

    Raises:
        CheckpointError: if the file cannot be used; the message says why.
    """
    from hybridgen import models

    checkpoint = read_contents(checkpoint_path)
    name = checkpoint["hybridgen_model"]
    cls = models.find(str(name))
    if cls is None:
        raise CheckpointError(
            f"{checkpoint_path} holds a {name}, which this version of hybridgen does not know: a model of your own is "
            "known once its module is named in HYBRIDGEN_PLUGINS"
        )
    return restore(cls, checkpoint, checkpoint_path)
