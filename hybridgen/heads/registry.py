"""The heads by name, for configurations."""

import inspect
from typing import Any

from hybridgen.closest import did_you_mean
from hybridgen.heads.adaptive import AdaptiveSoftmaxHead
from hybridgen.heads.base import ClassHead, Head
from hybridgen.heads.bernoulli import BernoulliHead
from hybridgen.heads.categorical import CategoricalHead
from hybridgen.heads.elements import ElementHead
from hybridgen.heads.gaussian import GaussianHead
from hybridgen.heads.logistics import MixtureOfLogisticsHead
from hybridgen.heads.mixture import MixtureOfSoftmaxesHead
from hybridgen.heads.strokes import BivariateMixtureHead

_CLASS_HEADS: dict[str, type[ClassHead]] = {
    "categorical": CategoricalHead,
    "adaptive": AdaptiveSoftmaxHead,
    "mixture": MixtureOfSoftmaxesHead,
}
_ELEMENT_HEADS: dict[str, type[ElementHead]] = {
    "bernoulli": BernoulliHead,
    "gaussian": GaussianHead,
    "mixture_of_logistics": MixtureOfLogisticsHead,
    "bivariate_mixture": BivariateMixtureHead,
}
_HEADS: dict[str, type[Head]] = {**_CLASS_HEADS, **_ELEMENT_HEADS}
_BUILT_IN = frozenset(_HEADS)


def register(name: str, cls: type[Head]) -> None:
    """Add a head of your own, so that :func:`make` and every configuration know its name.

    Its constructor takes ``(hidden_size, size, *, ...)``; one over classes is also given ``tied``, the embedding to
    share weights with or None. A name of your own may be given again; those of the toolkit may not.

    Raises:
        ValueError: if the name is one of the toolkit's, or the class is no :class:`ClassHead` or :class:`ElementHead`.
    """
    if name in _BUILT_IN:
        raise ValueError(f"there is already a head named {name!r}")
    if not (isinstance(cls, type) and issubclass(cls, ClassHead | ElementHead)):
        raise ValueError(f"{cls!r} is not a subclass of hybridgen.heads.ClassHead or ElementHead")
    kind = _CLASS_HEADS if issubclass(cls, ClassHead) else _ELEMENT_HEADS
    kind[name] = _HEADS[name] = cls


def names() -> tuple[str, ...]:
    """The names of the heads over classes, for models of tokens."""
    return tuple(_CLASS_HEADS)


def element_names() -> tuple[str, ...]:
    """The names of the heads over elements, for models of vectors."""
    return tuple(_ELEMENT_HEADS)


def make(name: str, hidden_size: int, size: int, **options: Any) -> Any:
    """Build a head by name.

    Args:
        name: one of :func:`names` or :func:`element_names`.
        hidden_size: width H of a hidden state.
        size: number V of classes, or width F of an element.
        **options: the head's own options, keyword arguments of its class.

    Returns:
        A :class:`ClassHead` or an :class:`ElementHead`.

    Raises:
        ValueError: if the name, an option's name or its value does not fit; the message names the closest.
    """
    if name not in _HEADS:
        raise ValueError(f"there is no head named {name!r}: {_hint(str(name), tuple(_HEADS))}")
    parameters = inspect.signature(_HEADS[name]).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ValueError(f"head {name!r} has no option {option!r}: {_hint(option, known)}")
    return _HEADS[name](hidden_size, size, **options)


def _hint(asked: str, known: list[str] | tuple[str, ...]) -> str:
    return did_you_mean(asked, known, f"choose one of {', '.join(known)}")
