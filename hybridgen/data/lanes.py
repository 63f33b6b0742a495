"""Contiguous lanes: the text as one long stream for truncated back-propagation with a carried state."""

from __future__ import annotations

from typing import Any

import numpy as np

from hybridgen.data.batching import BatchLoader, TextBatch, cut_rows
from hybridgen.data.errors import DataError, check_count
from hybridgen.data.tokens import TokenFile

_DEVIATION = 5.0  # steps: the spread of a random chunk's length
_HALF_CHANCE = 0.05  # of a chunk of about half the length
_SHORTEST_RANDOM = 8


class Lanes(BatchLoader):
    """Cuts a text into lanes of equal length that are read side by side, chunk after chunk.

    The M targets of the text are dealt to ``batch_size * world_size`` lanes in order: the first ``M mod lanes`` lanes
    take ``ceil(M / lanes)`` targets each, the others ``floor(M / lanes)``; rank r has lanes ``r * batch_size`` to
    ``(r + 1) * batch_size - 1``. So every target is in exactly one batch of an epoch, the ranks together read what one
    process with ``world_size`` times the batch size reads, and only the last batch can have rows (one step) shorter
    than the others. Row b of a batch goes on where row b of the batch before ended.

    With ``random_bptt`` the chunks of an epoch have random lengths, as in Merity et al. (2018), "Regularizing and
    optimizing LSTM language models": normal around ``bptt`` (with probability 0.05 around ``bptt / 2``) with a standard
    deviation of 5. Their number is the same in every epoch, so that schedules can count on it: what their lengths
    miss of the text's length is spread over them. They depend on ``seed`` and the epoch alone.

    Args:
        tokens: The encoded text.
        batch_size: Lanes of each process.
        bptt: Steps in a chunk, at least 2: how far gradients go back.
        rank: Which process this is.
        world_size: How many processes share the text.
        random_bptt: Whether chunks have random lengths around ``bptt``.
        max_bptt: Steps in the longest random chunk, which bounds the memory. Default: ``bptt + 10``.
        seed: Of the random lengths.
        reset_documents: Whether the state is fresh where a document starts.

    Raises:
        DataError: An option is not as described, or the text has fewer targets than there are lanes.
    """

    def __init__(
        self,
        tokens: TokenFile,
        *,
        batch_size: int,
        bptt: int,
        rank: int = 0,
        world_size: int = 1,
        random_bptt: bool = False,
        max_bptt: int | None = None,
        seed: int = 0,
        reset_documents: bool = True,
    ) -> None:
        super().__init__(tokens, rank=rank, world_size=world_size)
        self.lanes = check_count(batch_size, "batch_size") * world_size
        self.bptt = check_count(bptt, "bptt", 2)
        self.seed = check_count(seed, "seed", 0)
        self.random_bptt = random_bptt
        self.reset_documents = reset_documents
        if random_bptt:
            check_count(bptt, "bptt (with random_bptt)", _SHORTEST_RANDOM)
            self.max_bptt = bptt + 10 if max_bptt is None else check_count(max_bptt, "max_bptt", bptt)
        elif max_bptt is not None:
            raise DataError(f"max_bptt={max_bptt!r} is for chunks of random length: set random_bptt, or leave it out")
        targets = tokens.counts.targets
        if targets < self.lanes:
            raise DataError(
                f"the text has {targets} tokens to predict, fewer than the {self.lanes} lanes of a batch "
                f"(batch_size={batch_size} times {world_size} processes): give more text, or lower batch_size"
            )
        every, more = divmod(targets, self.lanes)
        lane = np.arange(rank * batch_size, (rank + 1) * batch_size)  # (B,)
        self._lengths = every + (lane < more)  # (B,)
        self._starts = every * lane + np.minimum(lane, more)  # (B,)
        self._longest = every + (more > 0)
        self._num_chunks = self._count_chunks()

    def __len__(self) -> int:
        return self._num_chunks

    def layout(self) -> dict[str, Any]:
        layout = {"batching": "lanes", "tokens": len(self.tokens), "lanes": self.lanes, "bptt": self.bptt}
        if self.random_bptt:
            layout |= {"max_bptt": self.max_bptt, "seed": self.seed}
        return layout

    def plan(self, epoch: int) -> np.ndarray:
        """Return the borders of the chunks within a lane, `(len + 1,)`, from 0 to the longest lane's length."""
        if self.random_bptt:
            sizes = self._draw_sizes(np.random.default_rng((self.seed, epoch)))
        else:
            sizes = np.full(self._num_chunks, self.bptt)
            sizes[-1] = self._longest - self.bptt * (self._num_chunks - 1)
            if sizes[-1] == 1 and self._num_chunks > 1:  # the shorter lanes would have nothing in it
                sizes[-2:] = self.bptt - 1, 2
        return np.concatenate([[0], np.cumsum(sizes)])

    def build(self, plan: np.ndarray, index: int) -> TextBatch:
        start, stop = plan[index], plan[index + 1]
        return cut_rows(
            self.tokens,
            self._starts + start,
            np.minimum(stop, self._lengths) - start,
            first=index == 0,
            reset_documents=self.reset_documents,
        )

    def _count_chunks(self) -> int:
        if not self.random_bptt:
            return -(-self._longest // self.bptt)
        mean = self.bptt * (1 - _HALF_CHANCE / 2)
        fewest, most = -(-self._longest // self.max_bptt), max(1, self._longest // self._shortest)
        return min(max(round(self._longest / mean), fewest), most)

    @property
    def _shortest(self) -> int:
        return min(5, self.bptt // 2)  # as Merity et al.

    def _draw_sizes(self, generator: np.random.Generator) -> np.ndarray:
        """Draw the lengths of an epoch's chunks, `(len,)`, which add up to the longest lane's length."""
        number = self._num_chunks
        around = np.where(generator.random(number) < _HALF_CHANCE, self.bptt / 2, self.bptt)
        sizes = generator.normal(around, _DEVIATION).astype(np.int64)
        low, high = min(self._shortest, self._longest), self.max_bptt
        sizes = np.clip(sizes, low, high)
        while missing := self._longest - int(sizes.sum()):
            movable = np.flatnonzero(sizes < high if missing > 0 else sizes > low)
            chosen = generator.permutation(movable)[: abs(missing)]
            sizes[chosen] += 1 if missing > 0 else -1
        return sizes
