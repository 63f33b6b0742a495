"""Bytes: the 256 values of a byte, so that every text of the world has a spelling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hybridgen.codecs.base import TextCodec
from hybridgen.codecs.checks import check_specials


class ByteCodec(TextCodec):
    """The UTF-8 bytes of a text: ids 0 to 255 are the bytes, then come the special tokens.

    Round trip: ``decode(encode(text)) == text`` for every text. Special tokens decode to nothing.

    Args:
        specials: Special tokens to number after the bytes: any of ``eos``, ``bos``, ``pad``.

    Raises:
        CodecError: ``specials`` is not as described.
    """

    name = "bytes"

    def __init__(self, *, specials: Sequence[str] = ()) -> None:
        names = check_specials(specials, ("eos", "bos", "pad"))
        pieces = [bytes([value]) for value in range(256)] + [b""] * len(names)
        super().__init__(pieces, {name: 256 + i for i, name in enumerate(names)})

    @classmethod
    def train(cls, texts: Iterable[str] | None = None, *, specials: Sequence[str] = ()) -> ByteCodec:
        """Return the codec; its vocabulary does not depend on ``texts``, which are not read."""
        del texts
        return cls(specials=specials)

    def _lookup(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64)

    def _options(self) -> dict[str, Any]:
        return {"specials": list(self.specials)}
