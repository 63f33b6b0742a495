"""How the trainer writes and reads checkpoints: whole or not at all."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO

from hybridgen.reliability import atomic
from hybridgen.reliability.verify import CheckpointError, read, refused

#: The file by which a process that Lightning spawned gives the trained weights to the one that spawned it.
_HANDED_OVER = ".temp.ckpt"


class SafeCheckpointIO(CheckpointIO):
    """Lightning's plugin for checkpoint files: atomic, with checksums, the one before kept, nothing ever executed.

    ``last.ckpt`` is rotated: the file that it replaces stays as ``previous.ckpt``.

    Args:
        inspect: is given every checkpoint that is read before it is used; raises if it does not fit.

    Attributes:
        damaged: files known to be broken: the first save in their place moves them aside instead of keeping them.
        others: files of another branch of the training, newer than where it went on: likewise, but they stay usable.
        failure: why the last save within :meth:`tolerant` failed, or None.
        proven: whether a checkpoint of this training has been read again.
        useless: whether it was found that none can be.
    """

    def __init__(self, inspect: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.inspect = inspect
        self.damaged: set[Path] = set()
        self.others: set[Path] = set()
        self.failure: str | None = None
        self.proven, self.useless = False, False
        self._tolerant = False

    @contextmanager
    def tolerant(self) -> Iterator[None]:
        """Within it a save that fails is noted in ``failure`` instead of raised.

        Several processes wait for each other after a save: the one that writes must not leave alone.
        """
        self.failure, self._tolerant = None, True
        try:
            yield
        finally:
            self._tolerant = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; see :func:`hybridgen.reliability.atomic.save`.

        Raises:
            CheckpointError: if it cannot be written, which leaves the file before it as it was.
            TypeError: if there are storage options.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are written to local files, which have no storage_options")
        target = Path(os.path.abspath(path))
        try:
            if target in self.damaged | self.others and target.exists():
                atomic.set_aside(target, damaged=target in self.damaged)
            self.damaged.discard(target)
            self.others.discard(target)
            atomic.save(checkpoint, target, rotate=target.name == atomic.LAST)
            self._prove(target)
        except CheckpointError as error:
            if not self._tolerant:
                raise
            self.failure = str(error)

    def _prove(self, path: Path) -> None:
        """Find out at the first save, not when it is needed, that all of it can be read again."""
        if not self.proven:
            try:
                torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except Exception as error:
                self.useless = True
                raise CheckpointError(
                    f"the checkpoint {path} was written but cannot be used: it {refused(error)}; have the model, the "
                    "data and the callbacks save numbers, strings, lists, dicts and tensors only"
                ) from None
            self.proven = True

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint to the CPU; what ``map_location`` and ``weights_only`` say is not needed.

        Raises:
            CheckpointError: if it is not whole, or not one of this toolkit's.
            ValueError: if it does not fit.
        """
        if Path(path).name == _HANDED_OVER:
            return read(path, complete=False)
        checkpoint = read(path)
        if self.inspect is not None:
            self.inspect(checkpoint)
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint and its manifest."""
        atomic.remove(Path(path))


def safe_io(trainer: Any) -> SafeCheckpointIO | None:
    """The plugin of a trainer, where it has this one."""
    found = getattr(trainer.strategy, "_checkpoint_io", None)
    return found if isinstance(found, SafeCheckpointIO) else None


def save_or_warn(trainer: Any, path: Path, weights_only: bool = False) -> str | None:
    """Save a checkpoint during training, which a full disk does not end.

    Args:
        trainer: in whose processes all must call.
        path: where to.
        weights_only: leave out what training would go on with.

    Returns:
        Why it failed, the same in every process, or None.

    Raises:
        CheckpointError: if no checkpoint of this training can be used, which no later one would mend.
    """
    plugin = safe_io(trainer)
    if plugin is None:
        trainer.save_checkpoint(path, weights_only)
        return None
    with plugin.tolerant():
        trainer.save_checkpoint(path, weights_only)
    failure, useless = trainer.strategy.broadcast((plugin.failure, plugin.useless))
    if useless:
        raise CheckpointError(failure)
    if failure and trainer.is_global_zero:
        warnings.warn(f"{failure}; training goes on and tries again at the next save", stacklevel=2)
    return failure
