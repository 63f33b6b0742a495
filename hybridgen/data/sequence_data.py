"""What the data modules of series and of sounds share: their loaders."""

from __future__ import annotations

from collections.abc import Iterable

from pytorch_lightning import LightningDataModule

from hybridgen.data.series_batches import SequenceLoader, Sequences

#: What the trainer does where a part is all that it was started for.
_STAGES = {"valid": "validate", "test": "test"}


def must_be_there(data: LightningDataModule, part: str) -> bool:
    """Whether the trainer was started to validate or test on a part; fit goes on without those that there are not."""
    return data.trainer is not None and data.trainer.state.fn == _STAGES[part]


class SequenceDataModule(LightningDataModule):
    """Batches of the sequences of each part.

    A subclass has ``batch_size``, ``evaluation_batch_size`` and ``seed``, and writes :meth:`sequences` and
    :attr:`parts`.
    """

    batch_size: int
    evaluation_batch_size: int
    seed: int

    @property
    def parts(self) -> Iterable[str]:
        """Which of ``train``, ``valid`` and ``test`` there are."""
        raise NotImplementedError(f"{type(self).__name__} must define parts")

    def sequences(self, part: str) -> Sequences:
        """Return a part as features.

        Raises:
            DataError: There is no such part; the message says how to get one.
        """
        raise NotImplementedError(f"{type(self).__name__} must define sequences()")

    def prepare_data(self) -> None:
        """Read the data once, so that what is wrong with them shows before training starts."""
        for part in self.parts:
            self.sequences(part)

    def train_dataloader(self) -> SequenceLoader:
        """Return this process's batches of the training part."""
        return self._loader("train", self.batch_size, shuffle=True)

    def val_dataloader(self) -> list[SequenceLoader]:
        """Return this process's batches of the validation part, or nothing if there is none.

        Raises:
            DataError: There is none, and to validate is what the trainer was started for.
        """
        return self._evaluation("valid")

    def test_dataloader(self) -> list[SequenceLoader]:
        """Return this process's batches of the test part, or nothing if there is none.

        Raises:
            DataError: There is none, and to test is what the trainer was started for.
        """
        return self._evaluation("test")

    def _evaluation(self, part: str) -> list[SequenceLoader]:
        if part not in self.parts and not must_be_there(self, part):
            return []
        return [self._loader(part, self.evaluation_batch_size, shuffle=False)]

    def _loader(self, part: str, batch_size: int, *, shuffle: bool) -> SequenceLoader:
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        return SequenceLoader(
            self.sequences(part),
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            shuffle=shuffle,
            seed=self.seed,
        )
