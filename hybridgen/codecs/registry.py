"""Codecs by name: for configurations, the command line and checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from hybridgen.closest import name_the_closest
from hybridgen.codecs.audio import FramedCodec, MuLawCodec
from hybridgen.codecs.base import TextCodec
from hybridgen.codecs.bpe import BPECodec
from hybridgen.codecs.bytes import ByteCodec
from hybridgen.codecs.characters import CharacterCodec
from hybridgen.codecs.checks import check_config_is_mapping, check_options
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.image_rows import ImageRowsCodec
from hybridgen.codecs.log_mel import LogMelCodec
from hybridgen.codecs.pianoroll import PianoRollCodec
from hybridgen.codecs.saving import SavedCodec
from hybridgen.codecs.series import SeriesCodec
from hybridgen.codecs.sketch import SketchCodec
from hybridgen.codecs.words import WordCodec

Found = TypeVar("Found", bound=SavedCodec)

_TEXT: dict[str, type[TextCodec]] = {codec.name: codec for codec in (BPECodec, ByteCodec, CharacterCodec, WordCodec)}
_OTHERS: tuple[type[SavedCodec], ...] = (
    FramedCodec,
    ImageRowsCodec,
    LogMelCodec,
    MuLawCodec,
    PianoRollCodec,
    SeriesCodec,
    SketchCodec,
)
_ALL: dict[str, type[SavedCodec]] = {**_TEXT, **{codec.name: codec for codec in _OTHERS}}
_BUILT_IN = frozenset(_ALL)


def register(cls: type[SavedCodec]) -> None:
    """Add a codec of your own by its ``name``, so that configurations and checkpoints know it.

    A name of your own may be given again; those of the toolkit may not.

    Raises:
        CodecError: The name is one of the toolkit's, or the class is no :class:`SavedCodec`.
    """
    if not (isinstance(cls, type) and issubclass(cls, SavedCodec)):
        raise CodecError(f"{cls!r} is not a subclass of hybridgen.codecs.SavedCodec")
    if cls.name in _BUILT_IN:
        raise CodecError(f"there is already a codec named {cls.name!r}")
    _ALL[cls.name] = cls
    if issubclass(cls, TextCodec):
        _TEXT[cls.name] = cls


def names() -> list[str]:
    """Return the names of the text codecs, which :func:`make` knows, sorted."""
    return sorted(_TEXT)


def make(name: str, texts: Iterable[str] | None = None, **options: Any) -> TextCodec:
    """Build a codec from text: ``make("words", open("train.txt"), max_size=10_000)``.

    Args:
        name: One of :func:`names`.
        texts: Pieces of training text, read once; ``bytes`` needs none.
        **options: The options of that codec's ``train``.

    Raises:
        CodecError: An unknown name or option, or whatever ``train`` raises.
    """
    codec = _find(name, _TEXT)
    check_options(options, codec.train, name)
    return codec.train(texts, **options)


def from_config(config: Mapping[str, Any]) -> Any:
    """Rebuild the codec that any ``to_config()`` saved, of text or of anything else.

    Raises:
        CodecError: No codec, an unknown one, one of another version, or a damaged one.
    """
    return _find(check_config_is_mapping(config)["codec"], _ALL).from_config(config)


def _find(name: object, known: Mapping[str, type[Found]]) -> type[Found]:
    if not isinstance(name, str) or name not in known:
        raise CodecError(f"there is no codec {name!r}: {name_the_closest(name, sorted(known))}")
    return known[name]
