"""Series, sounds, piano rolls, images and sketches on the page: something to see, to hear, and to take along."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hybridgen.codecs.decoding import decoded_things
from hybridgen.commands.sequence_files import write_things
from hybridgen.data.sketch_files import write_svg
from hybridgen.report.sounds import play_midi
from hybridgen.tracking.pictures import series_figure, series_numbers, spectrogram_figure

#: Sliders of the latent.
SLIDERS = 4
#: How far apart the two latents are that a dimension's effect is measured by: likely values under the prior.
_APART = 1.5
#: Samples at a time, at most: what can be told apart by eye, and by ear.
_MOST = {"series": 6, "pianoroll": 4, "image_rows": 20, "sketch": 20}
_MOST_SOUNDS = 4
#: Samples of a waveform that has a spectrum.
_SHORTEST = 16
#: Steps that the effect of a dimension is measured on.
_MEASURED = 64


class Controls(NamedTuple):
    """What a person can set for a model.

    Attributes:
        labels: names of the classes; empty for a model without.
        length: whether it makes sequences of any length.
        temperature: whether it draws from a distribution at every step.
        dimensions: those of the latent that have sliders, most telling first; empty where there is no latent of a
            whole sequence.
        most: samples at a time.
        sounds: whether there is something to hear.
    """

    labels: list[str]
    length: bool
    temperature: bool
    dimensions: list[int]
    most: int
    sounds: bool


class Made(NamedTuple):
    """What a model made, in files.

    Attributes:
        picture: of all samples, a png; None where there is nothing to draw.
        sounds: wav files to play; piano rolls without a note have none.
        files: for the person to keep: csv, wav, mid, png or svg.
    """

    picture: Path | None
    sounds: list[Path]
    files: list[Path]


def controls_of(model: Any) -> Controls:
    """What can be set for a model of sequences."""
    codec = model.codec
    taken = inspect.signature(model.generate).parameters
    is_sound = hasattr(codec, "sample_rate")
    return Controls(
        labels=list(codec.labels),
        length=is_sound or codec.name in ("series", "pianoroll"),
        temperature="temperature" in taken,
        dimensions=leading_dimensions(model) if "latents" in taken else [],
        most=_MOST_SOUNDS if is_sound else _MOST[codec.name],
        sounds=is_sound or codec.name == "pianoroll",
    )


@torch.no_grad()
def leading_dimensions(model: Any, number: int = SLIDERS) -> list[int]:
    """The dimensions of the latent that change the output most, most telling first.

    Where a model decodes without drawing (a variational one, at temperature 0) each dimension is moved from -1.5 to
    1.5 with all others at 0. A GAN's noise has no such order: its first dimensions are taken.

    Args:
        model: one whose ``generate_features`` takes latents.
        number: of dimensions, at most.
    """
    size = model.latent_size
    if "temperature" not in inspect.signature(model.generate_features).parameters:
        return list(range(min(number, size)))
    low_high = torch.cat([torch.eye(size), -torch.eye(size)]) * _APART  # (2D, D)
    labels = torch.zeros(2 * size, dtype=torch.long) if model.codec.labels else None
    length = min(model.max_length, _MEASURED)
    made = model.generate_features(2 * size, latents=low_high, labels=labels, length=length, temperature=0.0)
    high, low = made.values.float().chunk(2)
    effect = (high - low).square().mean((1, 2))  # (D,)
    return effect.argsort(descending=True, stable=True)[:number].tolist()


def make(
    model: Any,
    folder: Path,
    *,
    num_samples: int = 1,
    label: str = "",
    length: int | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    latents: Mapping[int, float] | None = None,
) -> Made:
    """Generate as ``hybridgen sample`` does, and write what there is to see and to hear.

    Args:
        model: of sequences.
        folder: where the files go; made, and must not hold others.
        num_samples: how many.
        label: class of all samples; empty for the model's own choice.
        length: steps of each; None for the model's own.
        seed: of the random draws.
        temperature: of the draws of each step, for a model that makes such.
        latents: values by dimension, for all samples; what is not given is drawn from the prior by the seed.

    Raises:
        ValueError: if an option does not fit the model.
    """
    given: dict[str, Any] = {"seed": seed}
    if label:
        given["labels"] = [label] * num_samples
    if length is not None:
        given["length"] = length
    if "temperature" in inspect.signature(model.generate).parameters:
        given["temperature"] = temperature
    if latents is not None:
        given["latents"] = chosen_latents(num_samples, model.latent_size, latents, seed)
    codec = model.codec
    things = decoded_things(model.generate(num_samples, **given), codec)
    folder.mkdir(parents=True)
    files = write_things(folder, things, codec, labels=given.get("labels"))
    if codec.name == "series":
        return Made(_series_picture(things, folder), [], files)
    if codec.name == "sketch":
        write_svg(things, folder / "samples.svg", codec)
        drawings = [path for path in files if path.suffix == ".svg"]
        return Made(folder / "samples.png", [], [folder / "samples.svg", *drawings])
    if codec.name == "image_rows":
        return Made(folder / "samples.png", [], files)
    if codec.name == "pianoroll":
        notes = [path for path in files if path.suffix == ".mid"]
        return Made(folder / "samples.png", _played(notes), notes)
    return Made(_spectra(things, codec.sample_rate, folder), files, files)


def chosen_latents(num_samples: int, size: int, chosen: Mapping[int, float], seed: int) -> torch.Tensor:
    """Latents ``(num_samples, size)``: the chosen dimensions as they are given, the others standard normal by the seed.

    Raises:
        ValueError: if there is no such dimension.
    """
    wrong = next((dimension for dimension in chosen if not 0 <= dimension < size), None)
    if wrong is not None:
        raise ValueError(f"the latent has no dimension {wrong}: it has {size}, from 0")
    latents = torch.randn(num_samples, size, generator=torch.Generator().manual_seed(seed))
    for dimension, value in chosen.items():
        latents[:, dimension] = value
    return latents


def _series_picture(series: list[Any], folder: Path) -> Path | None:
    if not series_numbers(series):
        return None  # categories alone: the table has them
    path = folder / "samples.png"
    series_figure(series).savefig(path, dpi=110)
    return path


def _spectra(waves: list[Any], rate: int, folder: Path) -> Path | None:
    heard = [wave.float().cpu().numpy() for wave in waves if len(wave) >= _SHORTEST]
    if not heard:
        return None
    path = folder / "samples.png"
    spectrogram_figure(heard, rate).savefig(path, dpi=90)
    return path


def _played(files: list[Path]) -> list[Path]:
    """MIDI files as wav files beside them, but for those without a note."""
    played = []
    for path in files:
        try:
            sound = play_midi(path)
        except ValueError:  # a roll in which no key sounds is a roll all the same: it can be seen
            continue
        path.with_suffix(".wav").write_bytes(sound)
        played.append(path.with_suffix(".wav"))
    return played
