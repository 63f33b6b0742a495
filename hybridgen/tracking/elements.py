"""Samples while a model of vectors trains: what it generates after validations, as files that people use."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from hybridgen.codecs import ImageRowsCodec, PianoRollCodec, SketchCodec
from hybridgen.data import image_files, sketch_files
from hybridgen.data.pianoroll_files import write_midi, write_picture

#: Images or sketches of a picture.
_PICTURES = 20


class SampleElements(pl.Callback):
    """After validations, generates sequences and keeps them in ``samples/`` of the run folder.

    Piano rolls become a picture and a MIDI file for each epoch, images and sketches a picture of many; pictures go to
    Weights & Biases, too. Series and sounds are left to their own callbacks. The same seed every time: samples of two
    epochs differ by what was learned.

    Args:
        folder: the run folder.
        num_samples: rolls of a picture; the first of them is written as MIDI, too.
        length: frames of each.
        every: do so after every so many epochs.
        seed: of the random draws.
    """

    def __init__(self, folder: Path, *, num_samples: int = 4, length: int = 64, every: int = 25, seed: int = 0) -> None:
        self.folder = Path(folder)
        self.num_samples, self.length, self.every, self.seed = num_samples, length, every, seed

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Generate and write, in the first process."""
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        due = last or trainer.current_epoch % self.every == 0
        if trainer.sanity_checking or trainer.global_rank or not due:
            return
        codec = pl_module.codec
        if not isinstance(codec, PianoRollCodec | ImageRowsCodec | SketchCodec):
            return
        folder = self.folder / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"epoch-{trainer.current_epoch:04d}"
        if isinstance(codec, PianoRollCodec):
            rolls = pl_module.generate(self.num_samples, length=self.length, seed=self.seed)
            write_midi(rolls[0], folder / f"{name}.mid", codec)
            write_picture(rolls, folder / f"{name}.png", codec)
        else:
            write = image_files.write_images if isinstance(codec, ImageRowsCodec) else sketch_files.write_sketches
            write(pl_module.generate(_PICTURES, seed=self.seed), folder / f"{name}.png", codec)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(key="samples", images=[str(folder / f"{name}.png")])
