"""Cold windows: evaluation with a fresh state every n tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from hybridgen.data.batching import BatchLoader, TextBatch, cut_rows
from hybridgen.data.errors import DataError, check_count
from hybridgen.data.tokens import TokenFile


class ColdWindows(BatchLoader):
    """Cuts a text into windows that are predicted each from nothing, as models with a fixed context are evaluated.

    Window k predicts targets ``k * window`` to ``(k + 1) * window - 1`` of the text from a fresh state that reads the
    element before the first of them; the last window can be shorter. Every target is in exactly one window.

    Args:
        tokens: The encoded text.
        window: Targets in a window.
        batch_size: Windows in a batch of each process.
        rank: Which process this is.
        world_size: How many processes share the text. The windows are dealt in turn, and each rank has equally
            many batches; with ``batch_size`` 1 that can take a batch with one window more.
        reset_documents: Whether the state is fresh where a document starts inside a window.

    Raises:
        DataError: An option is not as described, or there are fewer windows than processes.
    """

    def __init__(
        self,
        tokens: TokenFile,
        *,
        window: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        reset_documents: bool = True,
    ) -> None:
        super().__init__(tokens, rank=rank, world_size=world_size)
        self.window = check_count(window, "window")
        self.batch_size = check_count(batch_size, "batch_size")
        self.reset_documents = reset_documents
        self._targets = tokens.counts.targets
        windows = -(-self._targets // window)
        if windows < world_size:
            raise DataError(
                f"the text has {windows} windows of {window} tokens, fewer than the {world_size} processes: "
                "evaluate with fewer processes"
            )
        self._mine = len(range(rank, windows, world_size))
        # The second only counts with batch_size 1: no rank can have a batch with nothing in it.
        self._len = min(-(-windows // (batch_size * world_size)), windows // world_size)

    def __len__(self) -> int:
        return self._len

    def layout(self) -> dict[str, Any]:
        return {"batching": "windows", "tokens": len(self.tokens), "window": self.window, "rows": self.batch_size}

    def plan(self, epoch: int) -> None:
        return None

    def build(self, plan: None, index: int) -> TextBatch:
        first, last = index * self._mine // self._len, (index + 1) * self._mine // self._len
        windows = self.rank + self.world_size * np.arange(first, last)  # (B,)
        starts = windows * self.window
        lengths = np.minimum(starts + self.window, self._targets) - starts
        return cut_rows(self.tokens, starts, lengths, first=True, reset_documents=self.reset_documents)
