"""Independent lines, in batches of similar length."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hybridgen.data.batching import BatchLoader, TextBatch, cut_rows
from hybridgen.data.errors import DataError, check_count
from hybridgen.data.tokens import TokenFile

_POOL = 50  # batches that are sorted by length together


class Lines(BatchLoader):
    """Batches whole lines of similar length; each line is in exactly one batch of an epoch.

    A row's inputs are ``<bos>`` (``<eos>`` where the codec has none) and the line; its targets are the line and
    ``<eos>``. With ``shuffle``, an epoch's lines are put in random order, sorted by length within pools of 50 batches,
    cut into batches, and the batches put in random order, all from ``seed`` and the epoch alone. Without, lines go
    from the shortest to the longest.

    The lines are cut into as many batches as they fill, of sizes that differ by at most one line over all ranks. Each
    rank takes every ``world_size``-th line of a batch, so that ranks have equal numbers of batches, of similar lengths,
    and none is empty. With ``batch_size`` 1 and several processes that can take a batch with one line more.

    Memory: some 40 bytes for each line.

    Args:
        tokens: A text that was encoded with lines as its units, by a codec with ``<eos>``.
        batch_size: Lines in a batch of each process, at most.
        rank: Which process this is.
        world_size: How many processes share the text.
        shuffle: Whether the order is random, another in each epoch.
        seed: Of the order.
        max_length: Leave out lines of more tokens than this, ``<eos>`` included. Default: none.

    Raises:
        DataError: An option is not as described, the codec has no ``<eos>``, or there are fewer lines than processes.
    """

    def __init__(
        self,
        tokens: TokenFile,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        max_length: int | None = None,
    ) -> None:
        super().__init__(tokens, rank=rank, world_size=world_size)
        if not tokens.has_eos:
            raise DataError("lines need a codec with <eos> to end them: build it with specials=['eos']")
        self.batch_size = check_count(batch_size, "batch_size")
        self.seed = check_count(seed, "seed", 0)
        self.shuffle = shuffle
        self.max_length = None if max_length is None else check_count(max_length, "max_length", 2)
        lengths = np.diff(tokens.starts, append=len(tokens) - 1)  # (lines,)
        self._lines = np.arange(len(lengths)) if max_length is None else np.flatnonzero(lengths <= max_length)
        self._lengths = lengths[self._lines]
        number = len(self._lines)
        if number < world_size:
            limit = "" if max_length is None else f" of at most max_length={max_length} tokens"
            raise DataError(f"the text has {number} lines{limit}, fewer than {world_size} processes: give more text")
        # The second only counts with batch_size 1: no rank can have a batch with nothing in it.
        batches = min(-(-number // (batch_size * world_size)), number // world_size)
        self._cuts = np.arange(batches + 1) * number // batches

    def __len__(self) -> int:
        return len(self._cuts) - 1

    @property
    def num_lines(self) -> int:
        """The lines of an epoch, over all ranks."""
        return len(self._lines)

    def layout(self) -> dict[str, Any]:
        return {
            "batching": "lines",
            "tokens": len(self.tokens),
            "rows": self.batch_size * self.world_size,
            "seed": self.seed if self.shuffle else None,
            "max_length": self.max_length,
        }

    def plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the order of the lines, `(lines,)`, and the order of the batches that it is cut into, `(len,)`."""
        if not self.shuffle:
            return np.argsort(self._lengths, kind="stable"), np.arange(len(self))
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(len(self._lines))
        pool = np.arange(len(order)) // (_POOL * self.batch_size * self.world_size)
        order = order[np.lexsort((self._lengths[order], pool))]
        return order, generator.permutation(len(self))

    def build(self, plan: tuple[np.ndarray, np.ndarray], index: int) -> TextBatch:
        order, batches = plan
        number = batches[index]
        mine = order[self._cuts[number] : self._cuts[number + 1]][self.rank :: self.world_size]  # (B,)
        starts = np.asarray(self.tokens.starts[self._lines[mine]])
        batch = cut_rows(self.tokens, starts, self._lengths[mine], first=True, reset_documents=False)
        if self.tokens.start_id is not None:
            batch.inputs[:, 0] = torch.tensor(self.tokens.start_id)
        return batch
