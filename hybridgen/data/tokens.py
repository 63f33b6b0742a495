"""A text as a flat file of token ids that is mapped into memory: a corpus larger than memory costs none.

The file is the stream that a language model reads: little-endian unsigned integers, as narrow as the vocabulary
allows. Where the codec has ``<eos>``, the stream is ``<eos> unit <eos> unit <eos> ... unit <eos>``: each unit (a
document, or a line) is followed by one ``<eos>`` unless it ends in one already, and each is predicted from a fresh
state that reads the ``<eos>`` before it. So every token of the text is predicted, exactly once. A codec without
``<eos>`` has the bare units one after another, and the very first token is only ever read.

In both cases element ``i`` is predicted from the elements before it, for ``i = 1 .. length - 1``: the number of
targets is ``length - 1``.
"""

from __future__ import annotations

import mmap
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# A mapped page counts as memory of the process until it is given back; each look-up may map 64 KiB around it.
_LOOKUPS_BEFORE_RELEASE = 512


class TokenCounts(NamedTuple):
    """What is in an encoded text, for the denominators of perplexity, bits per byte and bits per character.

    Attributes:
        tokens: All tokens, each added ``<eos>`` included.
        targets: Those that are predicted: all where the codec has ``<eos>``, else all but the first.
        target_bytes: UTF-8 bytes that the targets write when decoded. Bits per byte are
            ``total_nats / log(2) / target_bytes``.
        text_bytes: UTF-8 bytes of the text that was encoded (of its lines without their ends, where lines are
            the units). Differs from what the tokens write where a codec is lossy (``words``).
        text_characters: Its characters.
        units: Documents, or lines.
    """

    tokens: int
    targets: int
    target_bytes: int
    text_bytes: int
    text_characters: int
    units: int


class TokenFile:
    """An encoded text on disk; see the module for what its elements are.

    Args:
        tokens_path: The flat file of ids.
        starts_path: The flat file of unit starts.
        dtype: Of the ids: ``"<u1"``, ``"<u2"`` or ``"<u4"``.
        has_eos: Whether units are separated by ``<eos>``.
        counts: What is in it.
        start_id: What a unit that stands alone is predicted from: ``<bos>``, else ``<eos>``, else None.

    Attributes:
        starts: `(units,)` int64, mapped: for each unit the element before which a state is fresh. That is the
            ``<eos>`` before it, or its first token where there is no ``<eos>``.
    """

    def __init__(
        self,
        tokens_path: Path,
        starts_path: Path,
        *,
        dtype: str,
        has_eos: bool,
        counts: TokenCounts,
        start_id: int | None,
    ) -> None:
        self.path = tokens_path
        self.starts_path = starts_path
        self.dtype = dtype
        self.has_eos = has_eos
        self.counts = counts
        self.start_id = start_id
        self._map, self._tokens = _map_file(tokens_path, dtype)
        self._starts_map, self.starts = _map_file(starts_path, "<i8")
        self._lookups = 0

    def __len__(self) -> int:
        """The number of elements of the stream."""
        return len(self._tokens)

    def __reduce__(self) -> tuple[Any, ...]:
        # A map cannot be sent to another process; there the files are mapped again.
        options = {name: getattr(self, name) for name in ("dtype", "has_eos", "counts", "start_id")}
        return partial(TokenFile, **options), (self.path, self.starts_path)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return elements of the stream.

        Args:
            indices: Of any shape, whole numbers in ``0 .. len - 1``; neighbours along the last dimension.

        Returns:
            Ids, int64, of the same shape.
        """
        ids = self._tokens[indices].astype(np.int64)
        self._lookups += indices.size // max(indices.shape[-1], 1)
        if self._lookups >= _LOOKUPS_BEFORE_RELEASE:
            self._release()
        return ids

    def _release(self) -> None:
        """Give the mapped pages back; the system still holds them, for as long as it has memory to spare."""
        self._lookups = 0
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in (self._map, self._starts_map):
                mapped.madvise(mmap.MADV_DONTNEED)


def token_dtype(vocab_size: int) -> str:
    """Return the narrowest of ``"<u1"``, ``"<u2"``, ``"<u4"`` that holds every id."""
    return "<u1" if vocab_size <= 1 << 8 else "<u2" if vocab_size <= 1 << 16 else "<u4"


def _map_file(path: Path, dtype: str) -> tuple[mmap.mmap, np.ndarray]:
    with path.open("rb") as handle:
        mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    return mapped, np.frombuffer(mapped, dtype=dtype)
