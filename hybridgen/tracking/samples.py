"""Samples while a language model trains: what it writes after each epoch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from hybridgen.data.files import write_text
from hybridgen.generation import DecodingOptions
from hybridgen.tracking.lenient import training_goes_on


class SampleText(pl.Callback):
    """After every validation, continues prompts and keeps the texts.

    They are written to `samples/epoch-NUMBER.txt` in the run folder, and to Weights & Biases as a table. The same seed
    every time: samples of two epochs differ by what was learned. A text that cannot be made is a warning.

    Args:
        folder: the run folder.
        prompts: texts to continue; the beginning of the validation text when omitted.
        max_new_tokens: length of each continuation.
        seed: of the random draws.
    """

    def __init__(
        self, folder: Path, *, prompts: tuple[str, ...] | None = None, max_new_tokens: int = 200, seed: int = 0
    ) -> None:
        self.folder = Path(folder)
        self.prompts = prompts
        self.options = DecodingOptions(max_new_tokens=max_new_tokens, seed=seed)
        self.rows: list[list[Any]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking or trainer.global_rank:
            return
        if self.prompts is None:
            self.prompts = (self._beginning(trainer.datamodule),)
        path = self.folder / "samples" / f"epoch-{trainer.current_epoch:03d}.txt"
        texts: list[str] | None = None
        was_training = pl_module.training
        with training_goes_on(path):
            texts = pl_module.generate(self.prompts, self.options).texts
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, "\n\n".join(p + t for p, t in zip(self.prompts, texts, strict=True)) + "\n")
        pl_module.train(was_training)
        if texts is None:
            return
        self.rows += [[trainer.current_epoch, p, t] for p, t in zip(self.prompts, texts, strict=True)]
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_text(key="samples", columns=["epoch", "prompt", "text"], data=self.rows)

    @staticmethod
    def _beginning(data: Any, tokens: int = 16) -> str:
        text = data.tokens("valid" if "valid" in data.counts else "train")
        return data.codec.decode(text.take(np.arange(min(tokens, text.counts.tokens))))
