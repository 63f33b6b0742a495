"""Whether a configuration fits: everything is built, nothing is trained, and no data are read."""

import logging
import warnings
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from hybridgen.commands.options import one_sentence
from hybridgen.commands.trainer_fit import check_trainer
from hybridgen.commands.training import DEFAULT_CLIP, ShortErrors, TrainingCLI, training_cli
from hybridgen.data.errors import MissingDataError


class _Raising(ShortErrors):
    """The same parser, whose errors can be caught."""

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValueError(self.sentence(message))


class _Checking(TrainingCLI):
    """Builds model, data module and trainer as `fit` does, and stops there."""

    missing: str | None = None
    _made: tuple[Any, ...] | None = None  # what takes seconds to make, and serves every file

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only `fit`."""
        return {"fit": TrainingCLI.subcommands()["fit"]}

    def setup_parser(self, *arguments: Any) -> None:
        """Make the parser, once for all files."""
        if _Checking._made is None:
            super().setup_parser(*arguments)
            _Checking._made = self.parser, self._subcommand_parsers, self._subcommand_method_arguments
        self.parser, self._subcommand_parsers, self._subcommand_method_arguments = _Checking._made

    def instantiate_classes(self) -> None:
        """Build all; the rest, where the data are not on this machine."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            missing = _cause(error)
            if missing is None:
                raise
            self.missing = str(missing)
            self.config[self.subcommand].data = None
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        # What it is to run on is a matter of the machine that trains, not of this one.
        here = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": None}
        trainer = self.config[self.subcommand].trainer.clone()
        for option, value in here.items():
            trainer[option] = value
        data = self.datamodule if self.missing is None else self.missing
        check_trainer(trainer, self.model, data, default_clip=DEFAULT_CLIP, training=True)
        return LightningCLI.instantiate_trainer(self, **kwargs, **here, logger=False, enable_model_summary=False)

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing runs."""


def _cause(error: BaseException | None) -> MissingDataError | None:
    """What jsonargparse wrapped, if that is all that was wrong."""
    while error is not None and not isinstance(error, MissingDataError):
        error = error.__cause__
    return error


def check(path: Path) -> str | None:
    """Build what a configuration says, as `fit` would.

    Returns:
        What could not be looked at, in one sentence: data that are not on this machine. Usually None.

    Raises:
        ValueError: if a key, a value or their combination does not fit; the message is one sentence.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of the trainer, about this machine
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return training_cli(["fit", "--config", str(path)], cli=_Checking, parser=_Raising).missing
    except (MisconfigurationException, ValueError) as error:
        raise ValueError(one_sentence(str(error))) from error
    finally:
        logging.disable(before)
