"""From a checkpoint file to a model that can generate."""

from pathlib import Path
from typing import Any

from hybridgen.reliability.verify import CheckpointError, read

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

    checkpoint = _exported(Path(checkpoint_path)) if Path(checkpoint_path).is_dir() else read(checkpoint_path)
    name = checkpoint["hybridgen_model"]
    cls = models.find(str(name))
    if cls is None:
        raise CheckpointError(
            f"{checkpoint_path} holds a {name}, which this version of hybridgen does not know: a model of your own is "
            "known once its module is named in HYBRIDGEN_PLUGINS"
        )
    try:
        model = cls(**checkpoint["options"], codec=checkpoint["codec"])
        model.load_state_dict(checkpoint["state_dict"])
    except (TypeError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{checkpoint_path} does not fit this version of hybridgen's {name}: {str(error).splitlines()[0]}"
        ) from error
    return model.eval()


def _exported(folder: Path) -> dict[str, Any]:
    """What a checkpoint holds, from an exported folder."""
    from hybridgen.export.weights import read_folder

    try:
        config, weights = read_folder(folder)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    parts = {"hybridgen_model": "model", "options": "options", "codec": "codec"}
    return {name: config[part] for name, part in parts.items()} | {"state_dict": weights}
