"""Sequences of vectors in memory, such as piano rolls, strokes or rows of images, in batches of similar length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybridgen.data.batching import BatchLoader
from hybridgen.data.errors import DataError, check_count

_POOL = 50  # batches that are sorted by length together


class ElementBatch(NamedTuple):
    """A batch of B sequences of up to T elements, each a vector of F numbers.

    Attributes:
        elements: `(B, T, F)` float32; 0 beyond a sequence's end.
        lengths: `(B,)` int64 in ``1 .. T``.
        labels: `(B,)` int64, the class of each sequence, or None.
        indices: `(B,)` int64, the number of each sequence in its part of the data.
        num_elements: How many elements there are, padding left out.
    """

    elements: Tensor
    lengths: Tensor
    labels: Tensor | None
    indices: Tensor
    num_elements: int


class ElementSequences(BatchLoader):
    """Batches whole sequences (or pieces of them) of similar length; each is in exactly one batch of an epoch.

    With ``shuffle``, an epoch's sequences are put in random order, sorted by length within pools of 50 batches, cut
    into batches, and the batches put in random order, all from ``seed`` and the epoch alone. Without, sequences go from
    the shortest to the longest. Ranks share every batch, as with :class:`~hybridgen.data.lines.Lines`.

    Args:
        sequences: Arrays `(T, F)`, none of them empty.
        labels: The class of each, or None.
        batch_size: Sequences in a batch of each process, at most.
        rank: Which process this is.
        world_size: How many processes share the sequences.
        shuffle: Whether the order is random, another in each epoch.
        seed: Of the order and of ``augment``.
        max_length: Cut longer sequences into pieces of near-equal lengths of at most this. Default: none is cut.
        augment: Changes a sequence by random numbers, which are those of (seed, epoch, its number) alone.

    Raises:
        DataError: An option is not as described, a sequence is empty, or there are fewer than processes.
    """

    def __init__(
        self,
        sequences: Sequence[np.ndarray],
        *,
        labels: Sequence[int] | None = None,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        max_length: int | None = None,
        augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    ) -> None:
        super().__init__(sequences, rank=rank, world_size=world_size)
        self.sequences = sequences
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self.batch_size = check_count(batch_size, "batch_size")
        self.shuffle = shuffle
        self.seed = check_count(seed, "seed", 0)
        self.max_length = None if max_length is None else check_count(max_length, "max_length", 1)
        self.augment = augment
        self._pieces = [piece for number, whole in enumerate(sequences) for piece in self._cut(number, len(whole))]
        self._lengths = np.asarray([stop - start for _, start, stop in self._pieces], dtype=np.int64)
        number = len(self._pieces)
        if number < world_size:
            raise DataError(f"there are {number} sequences, fewer than {world_size} processes: give more")
        if int(self._lengths.min()) < 1:
            raise DataError(f"sequence {int(self._lengths.argmin())} is empty: leave it out")
        batches = min(-(-number // (batch_size * world_size)), number // world_size)
        self._cuts = np.arange(batches + 1) * number // batches

    def __len__(self) -> int:
        return len(self._cuts) - 1

    def layout(self) -> dict[str, Any]:
        return {
            "batching": "elements",
            "sequences": len(self.sequences),
            "elements": int(self._lengths.sum()),
            "rows": self.batch_size * self.world_size,
            "seed": self.seed if self.shuffle else None,
            "max_length": self.max_length,
        }

    def plan(self, epoch: int) -> tuple[int, np.ndarray, np.ndarray]:
        """Return the epoch, the order of the pieces and the order of the batches that it is cut into.

        Orders are int arrays of shape ``(pieces,)`` and ``(batches,)``.
        """
        if not self.shuffle:
            return epoch, np.argsort(self._lengths, kind="stable"), np.arange(len(self))
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(len(self._lengths))
        pool = np.arange(len(order)) // (_POOL * self.batch_size * self.world_size)
        order = order[np.lexsort((self._lengths[order], pool))]
        return epoch, order, generator.permutation(len(self))

    def build(self, plan: tuple[int, np.ndarray, np.ndarray], index: int) -> ElementBatch:
        epoch, order, batches = plan
        number = batches[index]
        mine = order[self._cuts[number] : self._cuts[number + 1]][self.rank :: self.world_size]  # (B,)
        lengths = self._lengths[mine]
        width = self.sequences[0].shape[1]
        elements = np.zeros((len(mine), int(lengths.max()), width), dtype=np.float32)
        wholes = np.asarray([self._pieces[piece][0] for piece in mine], dtype=np.int64)
        for row, piece in enumerate(mine):
            whole, start, stop = self._pieces[piece]
            values = self.sequences[whole]
            if self.augment is not None:
                values = self.augment(values, np.random.default_rng((self.seed, epoch, int(whole))))
            elements[row, : stop - start] = values[start:stop]
        return ElementBatch(
            elements=torch.from_numpy(elements),
            lengths=torch.from_numpy(lengths.copy()),
            labels=None if self.labels is None else torch.from_numpy(self.labels[wholes]),
            indices=torch.from_numpy(wholes),
            num_elements=int(lengths.sum()),
        )

    def _cut(self, number: int, length: int) -> list[tuple[int, int, int]]:
        """The pieces of a sequence: its number, first element, and element after the last."""
        count = 1 if self.max_length is None else max(1, -(-length // self.max_length))
        borders = [length * k // count for k in range(count + 1)]
        return [(number, start, stop) for start, stop in itertools.pairwise(borders)]
