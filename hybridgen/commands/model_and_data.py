"""Which models learn from which data, and which of them predict: asked by class, before anything is built or read."""

import importlib
import inspect
from typing import Any

import pytorch_lightning as pl

_ELEMENTS = ("AudioData", "ImageRowsData", "PianoRollData", "SeriesData", "SketchData")
#: The data that each model learns from; of what is not here (a class of your own) nothing is said.
LEARNS_FROM = {
    "DRAW": ("ImageRowsData",),
    "LanguageModel": ("TextData",),
    "LatentGAN": ("TextData",),
    "SequenceGAN": ("AudioData", "SeriesData"),
    "SequenceModel": _ELEMENTS,
    "SequenceVAEGAN": _ELEMENTS,
    "TextVAE": ("TextData",),
    "VariationalRNN": _ELEMENTS,
}


def class_of(section: Any) -> Any:
    """The class that ``model`` or ``data`` of a configuration names; None where there is none."""
    module, _, name = str((section or {}).get("class_path") or "").rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError):
        return None  # the parser has words for that


def check_match(model: Any, kind: Any) -> None:
    """Refuse data of another kind than a model learns from.

    A subclass may read what its parent does not, so only the toolkit's own classes are looked at.

    Args:
        model: the model's class, or None.
        kind: the data module's class, or None.

    Raises:
        ValueError: if they do not go together; the message names the data that would.
    """
    from hybridgen import data, models  # not before a configuration is parsed: names would mean what they did not

    if not (_ours(models, model) and _ours(data, kind)) or model.__name__ not in LEARNS_FROM:
        return
    right = LEARNS_FROM[model.__name__]
    if kind.__name__ in right:
        return
    others = [name for name, learns_from in LEARNS_FROM.items() if kind.__name__ in learns_from]
    instead = f", or a model that does ({', '.join(others)})" if others else ""
    raise ValueError(
        f"data.class_path is hybridgen.data.{kind.__name__}, which a {model.__name__} does not learn from: "
        f"give {' or '.join(right)}{instead}"
    )


def check_predicts(model: Any) -> None:
    """Refuse `hybridgen predict` of a model that writes no rows.

    Raises:
        ValueError: if it does not; the message names the commands that it has.
    """
    if not inspect.isclass(model) or getattr(model, "predict_step", None) is not pl.LightningModule.predict_step:
        return
    offers = {"generate": "sample", "reconstruct": "reconstruct"}
    others = ", ".join(command for method, command in offers.items() if hasattr(model, method))
    raise ValueError(
        f"predict writes a row for each line or chunk of a text, which a {model.__name__} does not predict: "
        f"use hybridgen {f'{others} or test' if others else 'test'}"
    )


def _ours(room: Any, cls: Any) -> bool:
    return inspect.isclass(cls) and getattr(room, cls.__name__, None) is cls
