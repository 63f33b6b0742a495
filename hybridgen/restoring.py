"""From the contents of a checkpoint file to a model of a given class; which classes there are is known above."""

from pathlib import Path
from typing import Any

from hybridgen.reliability.verify import CheckpointError, read


def read_contents(checkpoint_path: str | Path) -> dict[str, Any]:
    """What a checkpoint, or a folder of exported weights, holds; nothing in it is ever executed.

    Returns:
        ``hybridgen_model`` (the name of the class), ``options``, ``codec`` and ``state_dict``; of a checkpoint all else
        that training wrote, too.

    Raises:
        CheckpointError: if there is no such file, it is damaged, or it is something else.
    """
    path = Path(checkpoint_path)
    return _exported(path) if path.is_dir() else read(path)


def restore(cls: Any, contents: dict[str, Any], checkpoint_path: str | Path) -> Any:
    """A model of the class ``cls`` with the options and weights of a checkpoint, on the CPU and ready to generate.

    Args:
        cls: what ``contents["hybridgen_model"]`` names.
        contents: as :func:`read_contents` returns it.
        checkpoint_path: where it was read from, for messages.

    Raises:
        CheckpointError: if the contents are those of another version.
    """
    try:
        model = cls(**contents["options"], codec=contents["codec"])
        model.load_state_dict(contents["state_dict"])
    except (TypeError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{checkpoint_path} does not fit this version of hybridgen's {contents['hybridgen_model']}: "
            f"{str(error).splitlines()[0]}"
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
