"""The text codec: a str to token ids and back, saved inside every checkpoint as plain JSON.

A codec's author writes three things: how a vocabulary is built (``train``), how text is looked up
(``_lookup``), and what each id writes (``pieces``, given to the constructor). Decoding, streaming, byte
counts, errors and saving follow from those and live here once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from hybridgen.codecs.checks import check_ids, check_text
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.saving import SavedCodec
from hybridgen.codecs.streams import DecodeStream

Errors = Literal["strict", "replace"]
Ids = torch.Tensor | np.ndarray | Sequence[int]

_BLOCK = 1 << 16  # ids decoded together


class TextCodec(SavedCodec):
    """What every text codec can do.

    Ids are ``0 .. vocab_size - 1`` with no gap. A saved codec is exactly the constructor's arguments:
    ``to_config()`` writes them, ``from_config()`` passes them back.

    Args:
        pieces: What each id writes, as UTF-8 bytes, in the order of ids; ``b""`` for a token that writes
            nothing.
        specials: Ids of the special tokens by name: any of ``unk``, ``eos``, ``bos``, ``pad``.

    Attributes:
        name: The name under which ``codecs.make`` knows the codec.
        version: Rises when the same config would mean other ids.
        specials: Ids of the special tokens by name.
    """

    def __init__(self, pieces: Sequence[bytes], specials: Mapping[str, int]) -> None:
        self.specials = dict(specials)
        self._pieces = list(pieces)
        self._piece_lengths = np.fromiter(map(len, self._pieces), dtype=np.int64, count=len(self._pieces))

    # What a codec's author writes.

    @classmethod
    @abstractmethod
    def train(cls, texts: Iterable[str], **options: Any) -> TextCodec:
        """Build the vocabulary from pieces of text, read once: a corpus larger than memory streams through.

        Args:
            texts: Pieces of text, such as an open file (its lines) or a list of documents.
            **options: Each codec's own, by keyword.

        Raises:
            CodecError: No text at all, a piece that is not text, or an option that cannot be.
        """

    @abstractmethod
    def _lookup(self, text: str) -> np.ndarray:
        """Return a fresh int64 array of ids ``(N,)``, with -1 where the vocabulary has nothing."""

    def _describe_unknown(self, text: str, unknown: np.ndarray) -> str:
        """Name the first unknown tokens of ``text`` and where they are, given their indices ``(U,)``."""
        raise NotImplementedError  # only reached by a codec whose _lookup can return -1

    # What follows from it.

    @property
    def vocab_size(self) -> int:
        """The number of ids, special tokens included."""
        return len(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def unk_id(self) -> int | None:
        """The id that stands for everything outside the vocabulary, or None."""
        return self.specials.get("unk")

    @property
    def eos_id(self) -> int | None:
        """The id that ends a sequence, or None."""
        return self.specials.get("eos")

    @property
    def bos_id(self) -> int | None:
        """The id that begins a sequence, or None."""
        return self.specials.get("bos")

    @property
    def pad_id(self) -> int | None:
        """The id that fills a batch beyond a sequence's end, or None."""
        return self.specials.get("pad")

    def encode(self, text: str, *, errors: Errors | None = None) -> torch.Tensor:
        """Turn text into ids.

        Args:
            text: The text, possibly empty.
            errors: What to do with a character or word outside the vocabulary: ``"strict"`` raises,
                ``"replace"`` reads it as ``<unk>`` where the codec has one and raises where it has none.
                Default: ``"replace"``.

        Returns:
            Token ids ``(N,)``, int64, on the CPU.

        Raises:
            CodecError: Not text, or something outside the vocabulary that may not be replaced.
        """
        if errors not in (None, "strict", "replace"):
            raise CodecError(f"errors={errors!r} is unknown: use 'strict' or 'replace'")
        check_text(text)
        ids = self._lookup(text)  # (N,)
        unknown = np.flatnonzero(ids < 0)  # (U,)
        if unknown.size:
            if self.unk_id is None:
                remedy = "train the codec on text that has them, or with specials=['unk']"
                raise CodecError(f"{self._describe_unknown(text, unknown)}: {remedy}")
            if errors == "strict":
                remedy = "encode with errors='replace' to read them as <unk>"
                raise CodecError(f"{self._describe_unknown(text, unknown)}: {remedy}")
            ids[unknown] = self.unk_id
        return torch.from_numpy(ids)

    def decode(self, ids: Ids) -> str:
        """Turn ids into text; bytes that are no UTF-8 character become U+FFFD.

        Args:
            ids: Token ids ``(N,)``: a tensor on any device, an array or a list.

        Raises:
            CodecError: Not one-dimensional, not integers, or an id outside the vocabulary.
        """
        checked = check_ids(ids, self.vocab_size, self.name)
        # In blocks: a Python list of all ids at once takes ten times the memory and the time.
        blocks = (checked[start : start + _BLOCK].tolist() for start in range(0, checked.size, _BLOCK))
        written = b"".join(b"".join(map(self._pieces.__getitem__, block)) for block in blocks)
        return written.decode("utf-8", errors="replace")

    def decode_stream(self) -> DecodeStream:
        """Return a decoder that takes one id at a time and never emits half a character.

        To continue a prompt, put the prompt's ids first and drop what that returns.
        """
        return DecodeStream(self._pieces, self.name)

    def token_bytes(self, ids: Ids) -> torch.Tensor:
        """Count the UTF-8 bytes that each token of a text writes.

        For ``ids = encode(text)`` the counts add up to the length in bytes of ``decode(ids)``. So a model's
        bits per byte are exactly ``total_nats / log(2) / count_bytes(ids)``, whatever the codec.

        Args:
            ids: Token ids ``(N,)`` of a whole text.

        Returns:
            Byte counts ``(N,)``, int64, on the CPU.

        Raises:
            CodecError: As for :meth:`decode`.
        """
        return torch.from_numpy(self._piece_lengths[check_ids(ids, self.vocab_size, self.name)])

    def count_bytes(self, ids: Ids) -> int:
        """Count the UTF-8 bytes of a text: the sum of :meth:`token_bytes`."""
        return int(self.token_bytes(ids).sum())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, specials={self.specials})"
