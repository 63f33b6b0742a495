"""Samples while a model of vectors trains: what it generates after validations, as files that people use."""

import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import WandbLogger

from hybridgen.codecs import ImageRowsCodec, PianoRollCodec, SeriesCodec, SketchCodec
from hybridgen.codecs.audio import AudioCodec
from hybridgen.codecs.decoding import decoded_things
from hybridgen.data import image_files, sketch_files
from hybridgen.data.audio_writing import write_audio
from hybridgen.data.files import whole_file
from hybridgen.data.pianoroll_files import write_midi, write_picture
from hybridgen.data.series_writing import write_series
from hybridgen.tracking.lenient import training_goes_on
from hybridgen.tracking.pictures import series_figure, series_numbers, spectrogram_figure

#: Images or sketches of a picture.
_PICTURES = 20
#: Classes that there is a sound of.
_CLASSES = 10
_KNOWN = (PianoRollCodec, ImageRowsCodec, SketchCodec, AudioCodec, SeriesCodec)


class SampleElements(pl.Callback):
    """After validations, generates sequences and keeps them in ``samples/`` of the run folder.

    Piano rolls become a picture and a MIDI file, images and sketches a picture of many, sounds a folder of wav files
    and a picture of their spectra, series a table and (where there is a column of numbers) a picture; sounds and
    pictures go to Weights & Biases, too. A model that must be given columns generates nothing here. The same seed every
    time: samples of two validations differ by what was learned. Nothing here touches the random numbers of training,
    and a sample that cannot be made is a warning.

    Args:
        folder: the run folder.
        num_samples: rolls, sounds or series; the first of the rolls is written as MIDI, too.
        length: frames of each roll.
        every: do so when so many epochs have passed, and at the end; files are called by their epoch. 0 does so after
            every validation, and files are called by their step.
        seed: of the random draws.
    """

    def __init__(self, folder: Path, *, num_samples: int = 4, length: int = 64, every: int = 25, seed: int = 0) -> None:
        self.folder = Path(folder)
        self.num_samples, self.length, self.every, self.seed = num_samples, length, every, seed
        self.last: int | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Generate and write, in the first process."""
        if trainer.sanity_checking or trainer.global_rank or not self._due(trainer):
            return
        self.last = trainer.current_epoch
        layout = getattr(pl_module, "layout", None)
        if not isinstance(pl_module.codec, _KNOWN) or getattr(layout, "num_conditions", 0):
            return
        name = f"epoch-{trainer.current_epoch:04d}" if self.every else f"step-{trainer.global_step:08d}"
        picture, sounds = self.folder / "samples" / f"{name}.png", []
        was_training = pl_module.training
        pl_module.eval()
        try:
            with (
                training_goes_on(picture.with_suffix("")),
                torch.no_grad(),
                torch.random.fork_rng(devices=[pl_module.device] if pl_module.on_gpu else []),
            ):
                sounds = self._write(pl_module, name)
        finally:
            pl_module.train(was_training)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                if picture.is_file():
                    logger.log_image(key="samples", images=[str(picture)])
                if sounds:
                    rates = [pl_module.codec.sample_rate] * len(sounds)
                    logger.log_audio(key="sounds", audios=list(map(str, sounds)), sample_rate=rates)

    def _due(self, trainer: pl.Trainer) -> bool:
        ends = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        ends = ends or 0 < trainer.max_steps <= trainer.global_step
        return ends or self.last is None or trainer.current_epoch - self.last >= self.every

    def _write(self, model: Any, name: str) -> list[Path]:
        """Generate, write the files, and return those that are to be heard."""
        codec, folder = model.codec, self.folder / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        picture = folder / f"{name}.png"
        picture.unlink(missing_ok=True)  # of a training that was cut short, and goes on from before
        if isinstance(codec, PianoRollCodec):
            rolls = model.generate(self.num_samples, length=self.length, seed=self.seed)
            write_midi(rolls[0], folder / f"{name}.mid", codec)
            write_picture(rolls, picture, codec)
        elif isinstance(codec, AudioCodec):
            return self._write_sounds(model, folder / name, picture)
        elif isinstance(codec, SeriesCodec):
            series = decoded_things(model.generate(self.num_samples, seed=self.seed), codec)
            write_series(folder / f"{name}.csv", series, codec)
            if series_numbers(series):
                _draw(series_figure(series), picture, dpi=110)
        else:
            write = image_files.write_images if isinstance(codec, ImageRowsCodec) else sketch_files.write_sketches
            write(model.generate(_PICTURES, seed=self.seed), picture, codec)
        return []

    def _write_sounds(self, model: Any, folder: Path, picture: Path) -> list[Path]:
        """Sounds of all classes in turn, where the model knows classes."""
        known = list(model.codec.labels)
        number = max(self.num_samples, min(len(known), _CLASSES))
        labels = [known[i % len(known)] for i in range(number)] if known else None
        given = {} if labels is None else {"labels": labels}
        waves = decoded_things(model.generate(number, seed=self.seed, **given), model.codec)
        shutil.rmtree(folder, ignore_errors=True)  # of a training that was cut short, and goes on from before
        paths = write_audio(folder, waves, sample_rate=model.codec.sample_rate, labels=labels)
        heard = [wave.float().cpu().numpy() for wave in waves if len(wave) >= 16]
        if heard:
            _draw(spectrogram_figure(heard, model.codec.sample_rate), picture, dpi=90)
        return paths

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last = state_dict["last"]


def _draw(figure: Figure, path: Path, *, dpi: int) -> None:
    """Write a picture, whole or not at all."""
    with whole_file(path) as (handle, _):
        figure.savefig(handle, format="png", dpi=dpi)
