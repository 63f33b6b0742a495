"""What is checked before a codec believes its input: text, ids, options, saved configs.

Everything here raises :class:`CodecError` and nothing else, so that a damaged checkpoint or a wrong file
ends in one sentence instead of a traceback through numpy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hybridgen.closest import name_the_closest
from hybridgen.codecs.errors import CodecError

# The order in which special tokens are numbered and saved.
SPECIAL_NAMES = ("unk", "eos", "bos", "pad")


def special_token(name: str) -> str:
    """Spell a special token: ``"eos"`` is ``"<eos>"``, as in the Penn Treebank."""
    return f"<{name}>"


def check_text(text: object, what: str = "the text") -> None:
    """Raise unless ``text`` is a str that UTF-8 can hold.

    A lone surrogate (half of a UTF-16 pair, left by a wrong file encoding) is in no alphabet and in no
    UTF-8 file; it is refused everywhere, so that all codecs agree on what text is.

    Raises:
        CodecError: It is not such a str.
    """
    if not isinstance(text, str):
        raise CodecError(f"{what} is of type {type(text).__name__}, not str: read or decode it as UTF-8 text first")
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        point = ord(text[error.start])
        raise CodecError(
            f"{what} has the lone surrogate U+{point:04X} at position {error.start}, not a character: "
            "read the file as UTF-8 with errors='replace'"
        ) from None


def text_pieces(texts: Iterable[str] | None, codec: str) -> Iterator[str]:
    """Yield the checked pieces of a training text, and raise at the end if there was nothing in them.

    Args:
        texts: Pieces of text, read once and never held together; one str is one piece.
        codec: The codec's name, for the message.

    Raises:
        CodecError: A piece is no text, there are none, or all are empty.
    """
    # A str is an iterable of its characters: taken as such, every word would be one letter long.
    pieces = [texts] if isinstance(texts, str) else texts
    if not isinstance(pieces, Iterable):
        given = "missing" if pieces is None else f"of type {type(pieces).__name__}"
        raise CodecError(
            f"the {codec} codec builds its vocabulary from text but texts is {given}: "
            "pass pieces of text, such as an open file"
        )
    empty = True
    for number, piece in enumerate(pieces):
        check_text(piece, f"piece {number} of the training text")
        empty = empty and not piece
        yield piece
    if empty:
        raise CodecError(
            f"the {codec} codec builds its vocabulary from text but every piece was empty: "
            "check the file, or an iterator that was already used up"
        )


def check_ids(ids: torch.Tensor | np.ndarray | Sequence[int], vocab_size: int, codec: str) -> np.ndarray:
    """Return ``ids`` as an int64 array ``(N,)``, all of them in ``[0, vocab_size)``.

    Raises:
        CodecError: Not one-dimensional, not integers, or an id outside the vocabulary.
    """
    if isinstance(ids, torch.Tensor):
        # bfloat16 has no numpy twin, so the kind is judged before the conversion.
        whole = not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
        array = ids.detach().cpu().numpy() if whole else np.empty(ids.shape, dtype=np.float64)
    else:
        try:
            array = np.asarray(ids)
        except ValueError:  # rows of unequal length
            array = np.empty((0, 0))
    if array.ndim != 1:
        raise CodecError(
            f"decoding takes one sequence of ids of shape (N,) but got {array.ndim} dimensions: "
            "decode the rows of a batch one by one"
        )
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.dtype.kind not in "iu":
        raise CodecError(
            f"decoding takes whole numbers but got {getattr(ids, 'dtype', array.dtype)}: "
            "take the argmax or a sample of the model's output first"
        )
    outside = np.flatnonzero((array < 0) | (array >= vocab_size))
    if outside.size:
        position = int(outside[0])
        raise CodecError(
            f"id {int(array[position])} at position {position} is outside the vocabulary, 0 to "
            f"{vocab_size - 1}: decode with the {codec} codec that the model was trained with"
        )
    return array.astype(np.int64, copy=False)


def check_count(value: object, option: str, minimum: int) -> int:
    """Return ``value`` if it is a whole number of at least ``minimum``.

    Raises:
        CodecError: It is not.
    """
    if type(value) is not int or value < minimum:  # type(): True is not a count
        raise CodecError(f"{option}={value!r} must be a whole number of at least {minimum}: give such a number")
    return value


def check_specials(specials: object, allowed: Sequence[str]) -> list[str]:
    """Return the names in ``specials`` in the order of :data:`SPECIAL_NAMES`.

    Args:
        specials: Names of special tokens, each at most once.
        allowed: The names that this codec takes.

    Raises:
        CodecError: They are no list, or a name is unknown, not taken, or there twice.
    """
    if isinstance(specials, str) or not isinstance(specials, Sequence):
        raise CodecError(f"specials={specials!r} must be a list of names: write it as {[*allowed][:1]}")
    for position, name in enumerate(specials):
        if not isinstance(name, str) or name not in allowed:
            raise CodecError(
                f"specials names {name!r}, which this codec does not take: {name_the_closest(name, allowed)}"
            )
        if name in specials[:position]:
            raise CodecError(f"specials names {name!r} twice: name each special token once")
    return [name for name in SPECIAL_NAMES if name in specials]


def check_options(options: Iterable[str], function: Callable[..., Any], codec: str) -> None:
    """Check that ``function`` has a keyword for every option.

    Raises:
        CodecError: It has none for one; the message names the closest.
    """
    valid = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in valid:
            raise CodecError(f"the {codec} codec has no option {option!r}: {name_the_closest(option, valid)}")


def check_config_is_mapping(config: object) -> Mapping[str, Any]:
    """Return ``config`` if it is a mapping with a ``"codec"`` name in it.

    Raises:
        CodecError: It is not.
    """
    if not isinstance(config, Mapping):
        raise CodecError(
            f"a saved codec is a mapping but this one is of type {type(config).__name__}: "
            "pass what to_config() gave, or use an undamaged checkpoint"
        )
    if "codec" not in config:
        raise CodecError("the saved codec has no 'codec' name: pass what to_config() gave")
    return config


def read_config(config: object, codec: str, version: int, keys: Sequence[str]) -> dict[str, Any]:
    """Check the envelope of a saved codec and return the constructor's arguments in it.

    Args:
        config: What ``to_config()`` returned, perhaps through JSON, perhaps damaged on the way.
        codec: The name that it must carry.
        version: The version that it must carry.
        keys: The arguments that must be there, no more and no fewer: an argument of which this version knows
            nothing changed what the ids mean.

    Raises:
        CodecError: Another codec or version saved it, or an argument is missing or unknown.
    """
    config = check_config_is_mapping(config)
    if config["codec"] != codec:
        raise CodecError(
            f"this config is of the codec {config['codec']!r}, not {codec!r}: load it with codecs.from_config"
        )
    if type(config.get("version")) is not int or config["version"] != version:
        raise CodecError(
            f"this {codec} codec was saved as version {config.get('version')!r} but this hybridgen reads "
            f"version {version}: install the hybridgen that saved it"
        )
    for key in keys:
        if key not in config:
            raise CodecError(f"the saved {codec} codec has no {key!r}: the checkpoint is damaged, use another copy")
    for key in config:
        if key not in ("codec", "version", *keys):
            raise CodecError(
                f"the saved {codec} codec has the unknown key {key!r}: install the hybridgen that saved it"
            )
    return {key: config[key] for key in keys}
