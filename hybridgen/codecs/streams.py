"""Decoding one id at a time, for text that is shown while it is being generated."""

from __future__ import annotations

import operator
from codecs import getincrementaldecoder
from collections.abc import Sequence

from hybridgen.codecs.errors import CodecError


class DecodeStream:
    """Turns ids into text as they come, holding back the bytes of an unfinished UTF-8 character.

    Everything that :meth:`put` and :meth:`end` returned, joined, is exactly what ``decode`` gives for the
    same ids.

    Args:
        pieces: The UTF-8 bytes that each id writes.
        codec: The codec's name, for messages.
    """

    def __init__(self, pieces: Sequence[bytes], codec: str) -> None:
        self._pieces = pieces
        self._codec = codec
        # "replace" is what bulk decoding does too: a model may well generate bytes that are no character.
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def put(self, id: int) -> str:
        """Take the next id and return the text that is now certain, possibly empty.

        Raises:
            CodecError: The id is not a whole number or is outside the vocabulary.
        """
        try:
            index = operator.index(id)
        except TypeError:
            raise CodecError(f"a stream takes one whole id at a time but got {id!r}: put id by id") from None
        if not 0 <= index < len(self._pieces):
            raise CodecError(
                f"id {index} is outside the vocabulary, 0 to {len(self._pieces) - 1}: "
                f"decode with the {self._codec} codec that the model was trained with"
            )
        return self._decoder.decode(self._pieces[index])

    def end(self) -> str:
        """Return what was held back (U+FFFD for an unfinished character) and start afresh."""
        return self._decoder.decode(b"", final=True)


class WordStream(DecodeStream):
    """A stream of words, each of which writes a space before itself except at the start of a line."""

    def __init__(self, pieces: Sequence[bytes], codec: str) -> None:
        super().__init__(pieces, codec)
        self._at_line_start = True

    def put(self, id: int) -> str:
        """Take the next id and return its text; see :meth:`DecodeStream.put`."""
        text = super().put(id)
        if self._at_line_start:
            text = text.removeprefix(" ")
        if text:  # <bos> and <pad> write nothing and leave the line where it was
            self._at_line_start = text == "\n"
        return text

    def end(self) -> str:
        """Return what was held back, which for whole words is nothing, and start afresh."""
        self._at_line_start = True
        return super().end()
