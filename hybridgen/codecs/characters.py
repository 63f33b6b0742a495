"""Characters: one id per Unicode code point of the training text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hybridgen.codecs.base import TextCodec
from hybridgen.codecs.checks import SPECIAL_NAMES, check_count, check_specials, check_text, text_pieces
from hybridgen.codecs.errors import CodecError


class CharacterCodec(TextCodec):
    """Code points in ascending order, then the special tokens.

    Round trip: ``decode(encode(text)) == text`` for every text whose characters are all in the vocabulary.
    ``<unk>`` decodes to U+FFFD, the replacement character; the other special tokens decode to nothing.

    Args:
        characters: The vocabulary: distinct characters in ascending order of code points.
        specials: Special tokens to number after the characters: any of ``unk``, ``eos``, ``bos``, ``pad``.

    Raises:
        CodecError: An argument is not as described.
    """

    name = "characters"

    def __init__(self, characters: str, *, specials: Sequence[str] = ()) -> None:
        check_text(characters, "the vocabulary 'characters'")
        names = check_specials(specials, SPECIAL_NAMES)
        points = _code_points(characters)
        if not points.size:
            raise CodecError("the vocabulary 'characters' is empty: give at least one character")
        disorder = np.flatnonzero(points[1:] <= points[:-1])
        if disorder.size:
            raise CodecError(
                f"the vocabulary 'characters' repeats or misplaces {_show(characters[disorder[0] + 1])}: "
                "give distinct characters in ascending order"
            )
        self.characters = characters
        # One slot per code point up to the largest known, and one more that all larger ones share.
        self._id_of_point = np.full(int(points[-1]) + 2, -1, dtype=np.int64)
        self._id_of_point[points] = np.arange(points.size)
        pieces = [character.encode("utf-8") for character in characters]
        pieces += ["\ufffd".encode() if name == "unk" else b"" for name in names]
        super().__init__(pieces, {name: points.size + i for i, name in enumerate(names)})

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        specials: Sequence[str] = (),
    ) -> CharacterCodec:
        """Take the characters of a text as the vocabulary.

        Args:
            texts: Pieces of text, read once.
            min_count: Leave out characters seen fewer times than this.
            max_size: The largest ``vocab_size``, special tokens included: the most frequent characters
                stay, of equally frequent ones the smaller code points. Default: no limit.
            specials: Special tokens: any of ``unk``, ``eos``, ``bos``, ``pad``. ``unk`` is added by itself
                when ``min_count`` or ``max_size`` may leave a character out.

        Raises:
            CodecError: No text at all, a piece that is not text, or an option that cannot be.
        """
        check_count(min_count, "min_count", 1)
        names = set(check_specials(specials, SPECIAL_NAMES))
        if min_count > 1 or max_size is not None:
            names.add("unk")
        if max_size is not None:
            check_count(max_size, "max_size", len(names) + 1)
        counts: Counter[str] = Counter()
        for piece in text_pieces(texts, cls.name):
            counts.update(piece)
        kept = sorted((c for c in counts if counts[c] >= min_count), key=lambda c: (-counts[c], c))
        if max_size is not None:
            kept = kept[: max_size - len(names)]
        if not kept:
            raise CodecError(f"min_count={min_count} leaves no character in the vocabulary: give a smaller one")
        return cls("".join(sorted(kept)), specials=sorted(names))

    def _lookup(self, text: str) -> np.ndarray:
        # min() with a scalar of the same type: no copy of the text in a wider one.
        return self._id_of_point[np.minimum(_code_points(text), np.uint32(self._id_of_point.size - 1))]

    def _describe_unknown(self, text: str, unknown: np.ndarray) -> str:
        first: dict[str, int] = {}
        for position in unknown.tolist():
            first.setdefault(text[position], position)
        shown = [f"{_show(character)} at position {position}" for character, position in list(first.items())[:3]]
        more = f" and {len(first) - 3} more" if len(first) > 3 else ""
        return f"the text has characters that this characters codec does not know, {', '.join(shown)}{more}"

    def _options(self) -> dict[str, Any]:
        return {"characters": self.characters, "specials": list(self.specials)}


def _code_points(text: str) -> np.ndarray:
    """Return the code points of ``text`` as uint32, ``(N,)``."""
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def _show(character: str) -> str:
    """Name a character so that it can be found even if it cannot be seen: ``U+00E9 'é'``."""
    return f"U+{ord(character):04X} {character!r}"
