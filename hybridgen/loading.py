"""From a checkpoint file to a model that can generate."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch


class CheckpointError(ValueError):
    """A file that is no checkpoint of this toolkit, or a damaged one."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint; nothing in the file is ever executed.

    Raises:
        CheckpointError: if there is no such file, it is damaged, or it is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}: give the path of a .ckpt file")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is no checkpoint, or it was cut short: give a file that training wrote")
    with zipfile.ZipFile(path) as file:
        damaged = file.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged ({damaged} fails its checksum): use another checkpoint of the run")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise CheckpointError(f"{path} holds something that a checkpoint of this toolkit does not") from error
    if not isinstance(checkpoint, dict) or "hybridgen_model" not in checkpoint:
        raise CheckpointError(f"{path} is no checkpoint of a hybridgen model")
    return checkpoint


def load(checkpoint_path: str | Path) -> Any:
    """The model in a checkpoint, on the CPU and ready to generate.

    Args:
        checkpoint_path: a file that training wrote; it holds the codec too, no data is needed.

    Raises:
        CheckpointError: if the file cannot be used; the message says why.
    """
    from hybridgen import models

    checkpoint = read_checkpoint(checkpoint_path)
    name = checkpoint["hybridgen_model"]
    cls = getattr(models, str(name), None) if name in models.__all__ else None
    if cls is None:
        raise CheckpointError(f"{checkpoint_path} holds a {name}, which this version of hybridgen does not know")
    model = cls(**checkpoint["options"], codec=checkpoint["codec"])
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()
