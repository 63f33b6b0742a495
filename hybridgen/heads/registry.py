"""The heads by name, for configurations."""

import inspect
from typing import Any

from hybridgen.closest import did_you_mean
from hybridgen.heads.adaptive import AdaptiveSoftmaxHead
from hybridgen.heads.base import Head
from hybridgen.heads.categorical import CategoricalHead
from hybridgen.heads.mixture import MixtureOfSoftmaxesHead

_HEADS: dict[str, type[Head]] = {
    "categorical": CategoricalHead,
    "adaptive": AdaptiveSoftmaxHead,
    "mixture": MixtureOfSoftmaxesHead,
}


def names() -> tuple[str, ...]:
    """The names :func:`make` knows."""
    return tuple(_HEADS)


def make(name: str, hidden_size: int, num_classes: int, **options: Any) -> Head:
    """Build a head by name.

    Args:
        name: one of :func:`names`.
        hidden_size: width H of a hidden state.
        num_classes: number V of classes.
        **options: the head's own options, keyword arguments of its class.

    Raises:
        ValueError: if the name, an option's name or its value does not fit; the message names the closest.
    """
    if name not in _HEADS:
        raise ValueError(f"there is no head named {name!r}: {_hint(str(name), names())}")
    parameters = inspect.signature(_HEADS[name]).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ValueError(f"head {name!r} has no option {option!r}: {_hint(option, known)}")
    return _HEADS[name](hidden_size, num_classes, **options)


def _hint(asked: str, known: list[str] | tuple[str, ...]) -> str:
    return did_you_mean(asked, known, f"choose one of {', '.join(known)}")
