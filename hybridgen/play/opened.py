"""The models of the page: checkpoints, what they are called, and what can be done with each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hybridgen.loading import load

#: ``text`` continues a prompt, ``sentences`` has a latent space of sentences, ``sequences`` is everything else.
Kind = Literal["text", "sentences", "sequences"]
#: Codecs whose things the page can show; those of sounds have a sample rate instead.
_SHOWN = ("series", "pianoroll", "image_rows", "sketch")


class Opened(NamedTuple):
    """A model that is ready to play with.

    Attributes:
        name: short, and of no other model of the page.
        path: of the checkpoint, as it was given.
        model: on the CPU, in evaluation mode.
        kind: what can be done with it.
    """

    name: str
    path: str
    model: Any
    kind: Kind

    @property
    def about(self) -> str:
        """Class, size, codec and file in a line."""
        number = sum(parameter.numel() for parameter in self.model.parameters())
        parts = (type(self.model).__name__, f"{number:,} parameters", f"codec {self.model.codec.name}", self.path)
        return " · ".join(parts)


def open_models(paths: Sequence[str]) -> list[Opened]:
    """Load the checkpoints.

    Args:
        paths: files that ``hybridgen fit`` wrote, or folders that ``hybridgen export --format safetensors`` wrote.

    Raises:
        ValueError: if one is given twice, cannot be used, or is of a model that the page cannot show.
    """
    resolved = [Path(path).expanduser().resolve() for path in paths]
    twice = next((path for number, path in enumerate(resolved) if path in resolved[:number]), None)
    if twice is not None:
        raise ValueError(f"--ckpt: {twice} is given twice: give each once")
    found = []
    for name, path in zip(names_of(paths), paths, strict=True):
        model = load(Path(path).expanduser())
        found.append(Opened(name, path, model, kind_of(model, path)))
    return found


def kind_of(model: Any, path: str) -> Kind:
    """What can be done with a model.

    Raises:
        ValueError: if the page cannot show it; the message names the file.
    """
    name = type(model).__name__
    if hasattr(model, "generate_stream"):
        return "text"
    if all(hasattr(model, part) for part in ("sample_prior", "encode", "decode")):
        return "sentences"
    if not hasattr(model, "generate") or not (model.codec.name in _SHOWN or hasattr(model.codec, "sample_rate")):
        raise ValueError(
            f"--ckpt: {path} holds a {name} with the codec {model.codec.name!r}, which the page cannot show: use "
            "`hybridgen sample`"
        )
    if getattr(getattr(model, "layout", None), "num_conditions", 0):
        raise ValueError(
            f"--ckpt: {path} holds a {name} that must be given columns at every step, for which the page has no field: "
            "use model.generate(conditions=...) from Python"
        )
    return "sequences"


def names_of(paths: Sequence[str]) -> list[str]:
    """A short name for each checkpoint: of its run (``NAME/VERSION``), with the file's where that is not enough."""
    whole = [Path(path).expanduser().absolute() for path in paths]
    ways: tuple[Callable[[Path], str], ...] = (_run_of, lambda path: f"{_run_of(path)} {path.stem}")
    for way in ways:
        names = [way(path) for path in whole]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _run_of(path: Path) -> str:
    if path.parent.name == "checkpoints":
        return "/".join(path.parts[-4:-2]).strip("/") or path.stem
    return path.stem
