"""Sequences of features, of series or of sounds, as batches in a saved order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybridgen.data.batching import BatchLoader
from hybridgen.data.errors import DataError, check_count


class SeriesBatch(NamedTuple):
    """A batch of sequences: B rows, T steps, F features. Give ``batch_size=`` to ``self.log``.

    What would say nothing is None.

    Attributes:
        values: `(B, T, F)` float32, as the codec made them; 0 beyond a row's end.
        mask: `(B, T, F)` bool, where ``values`` says something: False where a cell was missing (``values`` then holds
            the codec's ``neutral``) and beyond a row's end. None where nothing was missing; see ``lengths`` too.
        lengths: `(B,)` int64 in ``1 .. T``, the steps of each row; None where all have T.
        labels: `(B,)` int64, the class of each row; None without labels.
        attributes: `(B, A)` float32, what holds for the whole row; None without attributes.
        conditions: `(B, T, C)` float32, what is given at each step; None without conditions.
        indices: `(B,)` int64, the number of each row in its part of the data.
    """

    values: Tensor
    mask: Tensor | None
    lengths: Tensor | None
    labels: Tensor | None
    attributes: Tensor | None
    conditions: Tensor | None
    indices: Tensor


@dataclass(frozen=True)
class Sequences:
    """S sequences that lie in one long array; windows share its rows.

    Attributes:
        values: `(N, F)` float32.
        starts: `(S,)` int64, the first row of each sequence.
        lengths: `(S,)` int64, how many rows each has.
        mask: `(N, F)` bool, where ``values`` says something, or None where everywhere.
        labels: `(S,)` int64, or None.
        attributes: `(S, A)` float32, or None.
        conditions: `(N, C)` float32, or None.
    """

    values: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    mask: np.ndarray | None = None
    labels: np.ndarray | None = None
    attributes: np.ndarray | None = None
    conditions: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def num_features(self) -> int:
        """F."""
        return self.values.shape[1]

    @property
    def max_length(self) -> int:
        """The rows of the longest sequence."""
        return int(self.lengths.max())

    def batch(self, indices: np.ndarray | None = None) -> SeriesBatch:
        """Return these sequences, by default all, as one batch.

        Args:
            indices: `(B,)`, at least one.
        """
        indices = np.arange(len(self)) if indices is None else np.asarray(indices, dtype=np.int64)
        starts, lengths = self.starts[indices], self.lengths[indices]
        steps = np.arange(int(lengths.max()))  # (T,)
        ragged = int(lengths.min()) < len(steps)
        rows = starts[:, None] + np.minimum(steps, lengths[:, None] - 1)  # (B, T)
        beyond = steps >= lengths[:, None] if ragged else None  # (B, T)

        def take(array: np.ndarray) -> Tensor:
            taken = array[rows]  # (B, T, ...), a copy
            if beyond is not None:
                taken[beyond] = 0
            return torch.from_numpy(taken)

        def pick(array: np.ndarray | None) -> Tensor | None:
            return None if array is None else torch.from_numpy(array[indices])

        return SeriesBatch(
            values=take(self.values),
            mask=None if self.mask is None else take(self.mask),
            lengths=torch.from_numpy(lengths.astype(np.int64)) if ragged else None,
            labels=pick(self.labels),
            attributes=pick(self.attributes),
            conditions=None if self.conditions is None else take(self.conditions),
            indices=torch.from_numpy(indices),
        )


class SequenceLoader(BatchLoader):
    """Batches of whole sequences; each sequence is in exactly one batch of an epoch.

    With ``shuffle`` the order is random and another in each epoch, from ``seed`` and the epoch alone. The sequences are
    cut into as many batches as they fill, of sizes that differ by at most one over all ranks; each rank takes every
    ``world_size``-th sequence of a batch, so that ranks have equal numbers of batches and none is empty. With
    ``batch_size`` 1 and several processes that can take a batch with one sequence more.

    Args:
        sequences: What is batched.
        batch_size: Sequences in a batch of each process, at most.
        rank: Which process this is.
        world_size: How many processes share the sequences.
        shuffle: Whether the order is random.
        seed: Of the order.

    Raises:
        DataError: An option is not as described, or there are fewer sequences than processes.
    """

    def __init__(
        self,
        sequences: Sequences,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(None, rank=rank, world_size=world_size)  # type: ignore[arg-type]  # there are no tokens
        self.sequences = sequences
        self.batch_size = check_count(batch_size, "batch_size")
        self.shuffle = shuffle
        self.seed = check_count(seed, "seed", 0)
        number = len(sequences)
        if number < world_size:
            raise DataError(f"there are {number} sequences, fewer than {world_size} processes: give more data")
        # The second only counts with batch_size 1: no rank can have a batch with nothing in it.
        batches = min(-(-number // (batch_size * world_size)), number // world_size)
        self._cuts = np.arange(batches + 1) * number // batches

    def __len__(self) -> int:
        return len(self._cuts) - 1

    def layout(self) -> dict[str, Any]:
        return {
            "batching": "sequences",
            "sequences": len(self.sequences),
            "rows": self.batch_size * self.world_size,
            "seed": self.seed if self.shuffle else None,
        }

    def plan(self, epoch: int) -> np.ndarray:
        """Return the order of the sequences, `(S,)`."""
        number = len(self.sequences)
        return np.random.default_rng((self.seed, epoch)).permutation(number) if self.shuffle else np.arange(number)

    def build(self, plan: np.ndarray, index: int) -> SeriesBatch:  # type: ignore[override]  # a batch of its own
        return self.sequences.batch(plan[self._cuts[index] : self._cuts[index + 1]][self.rank :: self.world_size])
