"""From the contents of a checkpoint file to a model of a given class; which classes there are is known above."""

from pathlib import Path
from typing import Any

from hybridgen.reliability.fitting import first_mismatch
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

    def misfit(why: str) -> CheckpointError:
        return CheckpointError(
            f"{checkpoint_path} does not fit this version of hybridgen's {contents['hybridgen_model']}: {why}"
        )

    try:
        model = cls(**contents["options"], codec=contents["codec"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        # An attribute that is missing is that of a codec of another kind.
        raise misfit(next(iter(str(error).splitlines()), type(error).__name__)) from error
    try:
        model.load_state_dict(contents["state_dict"])
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        try:
            what = first_mismatch(contents["state_dict"], model.state_dict())
        except AttributeError:  # some of it is no weight
            what = "some of its weights are no tensors"
        raise misfit(what or " ".join(str(error).split())) from error
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
