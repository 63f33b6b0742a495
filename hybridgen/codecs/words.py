"""Words with the conventions of the Penn Treebank language-model benchmark.

Mikolov et al. (2010), "Recurrent neural network based language model": words are what whitespace separates,
every line ends with ``<eos>``, and what is outside the vocabulary is ``<unk>``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import torch

from hybridgen.codecs.base import Ids, TextCodec
from hybridgen.codecs.checks import (
    SPECIAL_NAMES,
    check_count,
    check_ids,
    check_specials,
    check_text,
    special_token,
    text_pieces,
)
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.streams import DecodeStream, WordStream


class WordCodec(TextCodec):
    r"""Whitespace-separated words; every newline is ``<eos>``.

    A text that does not end in a newline gets no ``<eos>`` at its end, so that a prompt stays open. A word
    of the text that is spelt like a special token (``<unk>`` in the Penn Treebank) is that token.

    Round trip: decoding writes one space between the words of a line and a newline for ``<eos>``; ``<bos>``
    and ``<pad>`` write nothing. So where all words are in the vocabulary and the text spells out no special
    token but ``<unk>``::

        decode(encode(text)) == "\n".join(" ".join(line.split()) for line in text.split("\n"))

    that is, ``text`` with its whitespace normalised (and in lower case with ``lowercase``); whitespace is
    what ``str.split`` takes for it. Byte counts are of the normalised text.

    Args:
        words: The vocabulary in the order of ids, special tokens among them. ``train`` orders it by
            descending frequency, which is what an adaptive softmax needs.
        lowercase: Whether text is lowercased before it is split.
        specials: Which of the words are special tokens: ``unk`` and ``eos``, perhaps ``bos`` and ``pad``.

    Raises:
        CodecError: An argument is not as described.
    """

    name = "words"

    def __init__(
        self, words: Sequence[str], *, lowercase: bool = False, specials: Sequence[str] = ("unk", "eos")
    ) -> None:
        if not isinstance(lowercase, bool):
            raise CodecError(f"lowercase={lowercase!r} must be true or false: give one of them")
        names = check_specials(specials, SPECIAL_NAMES)
        index = _index_words(words)
        for name in ("unk", "eos", *names):
            if name not in names or special_token(name) not in index:
                raise CodecError(f"the vocabulary 'words' lacks the special token {special_token(name)}: add it")
        self.words = list(index)
        self.lowercase = lowercase
        self._index = index
        written = {special_token(name): b"" for name in ("bos", "pad") if name in names}
        written[special_token("eos")] = b"\n"
        pieces = [written.get(word, b" " + word.encode("utf-8")) for word in self.words]
        super().__init__(pieces, {name: index[special_token(name)] for name in names})

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        lowercase: bool = False,
        specials: Sequence[str] = (),
    ) -> WordCodec:
        """Take the words of a text as the vocabulary, the most frequent first, equals in alphabetical order.

        ``<unk>`` and ``<eos>`` are always in it, ranked by their frequency; a word that is left out counts as
        ``<unk>``.

        Args:
            texts: Pieces of text, read once. A piece must not end inside a word: lines of a file are right.
            min_count: Leave out words seen fewer times than this.
            max_size: The largest ``vocab_size``, special tokens included. Default: no limit.
            lowercase: Lowercase the text, here and in ``encode``.
            specials: Special tokens beside these two: ``bos``, ``pad``.

        Raises:
            CodecError: No text at all, a piece that is not text, or an option that cannot be.
        """
        check_count(min_count, "min_count", 1)
        asked = check_specials(specials, SPECIAL_NAMES)
        names = [name for name in SPECIAL_NAMES if name in ("unk", "eos", *asked)]
        reserved = [special_token(name) for name in names]
        if max_size is not None:
            check_count(max_size, "max_size", len(reserved) + 1)
        counts: Counter[str] = Counter()
        for piece in text_pieces(texts, cls.name):
            counts.update(_split(piece, lowercase))

        def by_frequency(word: str) -> tuple[int, str]:
            return -counts[word], word

        ranked = sorted(counts.keys() - set(reserved), key=by_frequency)
        room = len(ranked) if max_size is None else max_size - len(reserved)
        kept = [word for word in ranked[:room] if counts[word] >= min_count]
        if not kept:
            raise CodecError(f"the text has no word seen min_count={min_count} times: give more text or a smaller one")
        counts[special_token("unk")] += sum(counts[word] for word in ranked[len(kept) :])
        return cls(sorted(kept + reserved, key=by_frequency), lowercase=lowercase, specials=names)

    def decode(self, ids: Ids) -> str:
        """Join words by spaces and write a newline for ``<eos>``; see :meth:`TextCodec.decode`."""
        # Every word wrote a space before itself; no word has whitespace, so these are the ones to take back.
        return super().decode(ids).replace("\n ", "\n").removeprefix(" ")

    def decode_stream(self) -> DecodeStream:
        """Return a decoder that takes one id at a time; see :meth:`TextCodec.decode_stream`."""
        return WordStream(self._pieces, self.name)

    def token_bytes(self, ids: Ids) -> torch.Tensor:
        """Count the bytes of each word and the space before it, if any; see :meth:`TextCodec.token_bytes`."""
        checked = check_ids(ids, self.vocab_size, self.name)
        counts = self._piece_lengths[checked]  # (N,)
        written = np.flatnonzero(counts)  # (M,), without <bos> and <pad>
        ends_line = checked[written] == self.eos_id  # (M,)
        starts_line = np.concatenate(([True], ends_line))[:-1]  # (M,)
        counts[written[starts_line & ~ends_line]] -= 1
        return torch.from_numpy(counts)

    def _lookup(self, text: str) -> np.ndarray:
        words = _split(text, self.lowercase)
        return np.fromiter(map(self._index.get, words, repeat(-1)), dtype=np.int64, count=len(words))

    def _describe_unknown(self, text: str, unknown: np.ndarray) -> str:
        first: dict[str, int] = {}
        lines = (text.lower() if self.lowercase else text).split("\n")
        for number, line in enumerate(lines, start=1):
            for word in line.split():
                if word not in self._index:
                    first.setdefault(word, number)
        shown = [f"{word!r} on line {number}" for word, number in list(first.items())[:3]]
        more = f" and {len(first) - 3} more" if len(first) > 3 else ""
        return f"the text has words that this words codec does not know, {', '.join(shown)}{more}"

    def _options(self) -> dict[str, Any]:
        return {"words": list(self.words), "lowercase": self.lowercase, "specials": list(self.specials)}


def _split(text: str, lowercase: bool) -> list[str]:
    """Return the words of ``text`` with ``<eos>`` for every newline."""
    # The lowercase of some text is a matter of context within a word, never across one.
    text = text.lower() if lowercase else text
    return text.replace("\n", f" {special_token('eos')} ").split()


def _index_words(words: object) -> dict[str, int]:
    """Return the id of every word, having checked that each could come out of :func:`_split`, once."""
    if isinstance(words, str) or not isinstance(words, Sequence):
        raise CodecError(f"the vocabulary 'words' is of type {type(words).__name__}, not list: give a list of words")
    index: dict[str, int] = {}
    for position, word in enumerate(words):
        check_text(word, f"entry {position} of the vocabulary 'words'")
        if word.split() != [word]:
            raise CodecError(
                f"entry {position} of the vocabulary 'words', {word!r}, is empty or has whitespace: remove it"
            )
        if word in index:
            raise CodecError(f"the vocabulary 'words' has {word!r} at both {index[word]} and {position}: remove one")
        index[word] = position
    return index
