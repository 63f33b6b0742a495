"""Codecs by name: for configurations, the command line and checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hybridgen.codecs.base import TextCodec
from hybridgen.codecs.bpe import BPECodec
from hybridgen.codecs.bytes import ByteCodec
from hybridgen.codecs.characters import CharacterCodec
from hybridgen.codecs.checks import check_config_is_mapping, check_options
from hybridgen.codecs.errors import CodecError, name_the_closest
from hybridgen.codecs.words import WordCodec

_CODECS: dict[str, type[TextCodec]] = {codec.name: codec for codec in (BPECodec, ByteCodec, CharacterCodec, WordCodec)}


def names() -> list[str]:
    """Return the names that :func:`make` knows, sorted."""
    return sorted(_CODECS)


def make(name: str, texts: Iterable[str] | None = None, **options: Any) -> TextCodec:
    """Build a codec from text: ``make("words", open("train.txt"), max_size=10_000)``.

    Args:
        name: One of :func:`names`.
        texts: Pieces of training text, read once; ``bytes`` needs none.
        **options: The options of that codec's ``train``.

    Raises:
        CodecError: An unknown name or option, or whatever ``train`` raises.
    """
    codec = _find(name)
    check_options(options, codec.train, name)
    return codec.train(texts, **options)


def from_config(config: Mapping[str, Any]) -> TextCodec:
    """Rebuild the codec that any ``to_config()`` saved.

    Raises:
        CodecError: No codec, an unknown one, one of another version, or a damaged one.
    """
    return _find(check_config_is_mapping(config)["codec"]).from_config(config)


def _find(name: object) -> type[TextCodec]:
    if not isinstance(name, str) or name not in _CODECS:
        raise CodecError(f"there is no codec {name!r}: {name_the_closest(name, names())}")
    return _CODECS[name]
