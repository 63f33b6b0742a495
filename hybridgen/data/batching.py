"""What every way of batching a text shares: the batch, and a loader whose position can be saved.

A loader is a plain iterable over batches that are already whole. It is no ``torch.utils.data.DataLoader`` on
purpose: Lightning gives those a sampler of its own under several processes, which shuffles a training text and so
breaks the state that is carried from one batch to the next. Each loader takes its share by rank itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybridgen.data.errors import DataError, check_count
from hybridgen.data.tokens import TokenFile

#: What decides the batches, in the words of the options.
_MEANINGS = {
    "lanes": "data.batch_size times the number of processes",
    "rows": "data.batch_size times the number of processes",
    "tokens": "the length of the training text",
    "sequences": "the number of training sequences",
    "elements": "the length of all training sequences",
    "batching": "data.layout",
    **{name: f"data.{name}" for name in ("bptt", "max_bptt", "seed", "max_length")},
}
IGNORED = -100  # what torch.nn.functional.cross_entropy ignores


class TextBatch(NamedTuple):
    """A batch of text: B rows, T steps. Give ``batch_size=`` to ``self.log``: not every field has a batch.

    ``lengths`` and ``resets`` are None where they would say nothing, which is nearly always: the cells' fast ways
    need neither, and asking a tensor would make a GPU wait.

    Attributes:
        inputs: `(B, T)` int64, what is read; 0 beyond a row's end.
        targets: `(B, T)` int64, what is to be predicted at each step; :data:`IGNORED` beyond a row's end.
        lengths: `(B,)` int64 in ``1 .. T``, the steps of each row; None where all have T.
        resets: `(B, T)` bool, where the state is fresh before the step; None where nowhere.
        positions: `(B,)` int64, the place of each row's first input in the token stream.
        num_targets: How many targets the batch has: the denominator of its mean loss.
        first: Whether no state is carried into this batch: at an epoch's start, for lines, for cold windows.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None
    resets: Tensor | None
    positions: Tensor
    num_targets: int
    first: bool

    @property
    def row_targets(self) -> Tensor:
        """How many targets each row has: ``(B,)`` int64."""
        rows, steps = self.targets.shape
        return torch.full((rows,), steps, device=self.targets.device) if self.lengths is None else self.lengths


class BatchLoader(ABC):
    """Batches in a fixed order for each epoch, with a position that is saved and restored exactly.

    ``len`` is the number of batches in an epoch, the same for every epoch and every rank. Iterating goes on at
    the position: after :meth:`load_state_dict`, where it was saved; after a whole epoch, with the next one; after an
    epoch that was left early, with the next one too. Lightning saves the position with each checkpoint and tells the
    epoch through ``batch_sampler.sampler.set_epoch``.

    Args:
        tokens: The encoded text.
        rank: Which process this is.
        world_size: How many processes share the text.

    Attributes:
        epoch: The epoch of the next batch, from 0.
        batch: The number of the next batch in it, from 0.

    Raises:
        DataError: ``rank`` is not one of ``world_size``.
    """

    def __init__(self, tokens: TokenFile, *, rank: int, world_size: int) -> None:
        check_count(world_size, "world_size")
        if not 0 <= rank < world_size:
            raise DataError(f"rank={rank!r} must be one of the {world_size} processes: 0 to {world_size - 1}")
        self.tokens = tokens
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.batch = 0
        self._continues = False
        self.batch_sampler = SimpleNamespace(sampler=self)

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches in an epoch."""

    @abstractmethod
    def layout(self) -> dict[str, Any]:
        """Return what decides the batches, as plain values: a position means nothing under another layout."""

    @abstractmethod
    def plan(self, epoch: int) -> Any:
        """Return whatever :meth:`build` needs for an epoch, from the layout and the epoch alone."""

    @abstractmethod
    def build(self, plan: Any, index: int) -> TextBatch:
        """Return this rank's share of a batch of the epoch that ``plan`` is of.

        The fields of the batch are ``(B, T)`` or, of a whole row, ``(B,)``.
        """

    def __iter__(self) -> Iterator[TextBatch]:
        # A generator: nothing of this happens before the first batch is asked for. Lightning restores the position
        # before it makes the iterator, but tells the epoch after.
        if self.batch and not self._continues:
            self.epoch += 1
            self.batch = 0
        self._continues = False
        plan = self.plan(self.epoch)
        for index in range(self.batch, len(self)):
            batch = self.build(plan, index)
            # Moved on before the batch is handed out: Lightning saves while it holds the batch, and does not ask
            # for one more at the epoch's end.
            if index + 1 < len(self):
                self.batch = index + 1
            else:
                self.epoch, self.batch = self.epoch + 1, 0
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, unless the position is in it."""
        if epoch != self.epoch:
            self.epoch, self.batch, self._continues = epoch, 0, False

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the next batch and the layout that it belongs to, as plain values."""
        return {"epoch": self.epoch, "batch": self.batch, "layout": self.layout()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a saved position.

        Raises:
            DataError: The position is inside an epoch and the batches are divided differently now, or it is no
                position in a text.
        """
        if not state.keys() >= {"epoch", "batch", "layout"}:
            raise DataError(
                f"the checkpoint's data position has {', '.join(map(repr, state)) or 'nothing'} in it, not an epoch "
                "and a batch of text: resume with the data that it was trained on"
            )
        if state["batch"]:
            saved, here = state["layout"], self.layout()
            for name in sorted(saved.keys() | here.keys()):
                if saved.get(name) != here.get(name):
                    what = f" ({_MEANINGS[name]})" if name in _MEANINGS else ""
                    raise DataError(
                        f"the checkpoint is from the middle of an epoch with {name}={saved.get(name)!r} but now "
                        f"{name}={here.get(name)!r}{what}: set it as it was, or go on from the end of an epoch "
                        "(--resume RUN/checkpoints/best.ckpt is mostly one)"
                    )
        self.epoch = int(state["epoch"])
        self.batch = int(state["batch"])
        self._continues = True


def cut_rows(
    tokens: TokenFile, starts: np.ndarray, lengths: np.ndarray, *, first: bool, reset_documents: bool
) -> TextBatch:
    """Cut rows out of the token stream.

    Args:
        tokens: The stream.
        starts: `(B,)`, the place of each row's first input; its first target is the element after.
        lengths: `(B,)`, how many targets each row has, at least 1.
        first: Whether no state is carried into the rows.
        reset_documents: Whether the state is fresh where a document starts inside a row.
    """
    longest = int(lengths.max())
    offsets = np.arange(longest + 1)  # (T + 1,)
    ends = starts + lengths  # (B,)
    window = tokens.take(np.minimum(starts[:, None] + offsets, ends[:, None]))  # (B, T + 1)
    inputs, targets = window[:, :-1].copy(), window[:, 1:].copy()  # (B, T)
    ragged = int(lengths.min()) < longest
    if ragged:
        beyond = offsets[:-1] >= lengths[:, None]  # (B, T)
        inputs[beyond] = 0
        targets[beyond] = IGNORED
    resets = _find_resets(tokens.starts, starts, ends, first) if reset_documents else None
    return TextBatch(
        inputs=torch.from_numpy(inputs),
        targets=torch.from_numpy(targets),
        lengths=torch.from_numpy(lengths.astype(np.int64)) if ragged else None,
        resets=None if resets is None else torch.from_numpy(resets),
        positions=torch.from_numpy(starts.astype(np.int64)),
        num_targets=int(lengths.sum()),
        first=first,
    )


def _find_resets(borders: np.ndarray, starts: np.ndarray, ends: np.ndarray, first: bool) -> np.ndarray | None:
    """Mark the inputs before which a document starts, `(B, T)`, or return None if there are none."""
    # A row that starts from nothing needs no mark at its start.
    from_border = np.searchsorted(borders, starts, side="right" if first else "left")  # (B,)
    to_border = np.searchsorted(borders, ends)  # (B,)
    if np.array_equal(from_border, to_border):
        return None
    resets = np.zeros((len(starts), int((ends - starts).max())), dtype=bool)
    for row, (low, high) in enumerate(zip(from_border, to_border, strict=True)):
        resets[row, borders[low:high] - starts[row]] = True
    return resets
