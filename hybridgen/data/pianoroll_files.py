"""Piano rolls in files: the public ``.mat`` sets, MIDI, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hybridgen.data.errors import DataError, MissingDataError
from hybridgen.data.files import data_folders, whole_file
from hybridgen.data.sample_folders import sample_paths

if TYPE_CHECKING:
    from torch import Tensor

    from hybridgen.codecs import PianoRollCodec

PARTS = ("train", "valid", "test")
#: The sets of Boulanger-Lewandowski et al. 2012, arXiv:1206.6392, by name, as files that are the same everywhere.
PUBLIC_ROLLS = {
    "jsb": "JSB_Chorales.mat",
    "nottingham": "Nottingham.mat",
    "piano_midi": "Piano_midi.mat",
    "musedata": "MuseData.mat",
}
#: The folder in which they lie.
PUBLIC_FOLDER = "polymusic"
MIDI_SUFFIXES = (".mid", ".midi")
_KEYS = {"train": "traindata", "valid": "validdata", "test": "testdata"}


def locate_public(name: str) -> Path:
    """Return where a public set lies on this machine.

    Raises:
        DataError: It is not there.
    """
    file = PUBLIC_ROLLS[name]
    for folder in data_folders():
        path = folder / PUBLIC_FOLDER / file
        if path.is_file():
            return path
    raise MissingDataError(
        f"the set {name!r} is not on this machine: run `hybridgen data {PUBLIC_FOLDER}`, or set HYBRIDGEN_DATA to the "
        f"folder that holds {PUBLIC_FOLDER}/{file}"
    )


def read_mat(path: Path, num_keys: int) -> dict[str, list[np.ndarray]]:
    """Read a set in the format of the public ones: cell arrays ``traindata``, ``validdata`` and ``testdata``.

    Args:
        path: The ``.mat`` file.
        num_keys: How wide its frames must be.

    Returns:
        For train, valid and test the rolls `(T, num_keys)` uint8.

    Raises:
        DataError: The file is no such set, or damaged; the message says what is wrong.
    """
    from scipy.io import loadmat

    try:
        contents = loadmat(path, variable_names=list(_KEYS.values()))
    except Exception as error:  # a damaged file makes scipy raise nearly anything
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path} is no .mat file, or damaged ({reason}): get another copy") from None
    parts = {}
    for part, key in _KEYS.items():
        if key not in contents:
            raise DataError(f"{path} has no {key!r}: a set of piano rolls has traindata, validdata and testdata")
        cells = np.asarray(contents[key], dtype=object).ravel()
        if not len(cells):
            raise DataError(f"{path} has no sequence in {key!r}: use a set that has some in each part")
        parts[part] = [
            _checked(roll, f"sequence {number} of {key!r} in {path}", num_keys) for number, roll in enumerate(cells)
        ]
    return parts


def _checked(roll: object, name: str, num_keys: int) -> np.ndarray:
    array = np.asarray(roll)
    if array.ndim != 2 or array.shape[1] != num_keys or not len(array) or array.dtype.kind not in "biuf":
        raise DataError(f"{name} has the shape {array.shape}, not (frames, {num_keys}): use another file or num_keys")
    if not np.isin(array, (0, 1)).all():
        raise DataError(f"{name} holds values other than 0 and 1: a roll says only where a key sounds")
    return array.astype(np.uint8)


def find_midi(folder: Path) -> list[Path]:
    """Return the MIDI files in a folder and the folders within, in the order of their paths.

    Raises:
        DataError: There are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MIDI_SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"the folder {folder} has no MIDI files (.mid or .midi): give one that has")
    return found


def write_midi(roll: Tensor | np.ndarray, path: str | Path, codec: PianoRollCodec) -> None:
    """Write a roll as a MIDI file, whole or not at all.

    Args:
        roll: `(T, num_keys)`.
        path: Of the file.
        codec: Knows the keys, the resolution and the tempo.

    Raises:
        DataError: The file cannot be written.
        CodecError: The shape does not fit.
    """
    midi = codec.decode(roll)
    path = Path(path)
    try:
        with whole_file(path) as (handle, _):
            midi.save(file=handle)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}): choose another folder") from None


def write_picture(
    rolls: Sequence[Tensor | np.ndarray],
    path: str | Path,
    codec: PianoRollCodec,
    *,
    titles: Sequence[str] | None = None,
) -> None:
    """Draw rolls below each other, time to the right and pitch upwards, as a ``.png`` (or ``.svg``, ``.pdf``).

    Args:
        rolls: `(T, num_keys)` each.
        path: Of the file; its suffix says the format.
        codec: Knows the keys and the resolution.
        titles: One for each roll.

    Raises:
        DataError: There is no roll, or the file cannot be written.
        CodecError: A shape does not fit.
    """
    from matplotlib.figure import Figure

    arrays = [codec.check(roll) for roll in rolls]
    if not arrays:
        raise DataError("there is no roll to draw: give at least one")
    sounding = np.flatnonzero(np.concatenate(arrays).any(0))
    low, high = (int(sounding[0]), int(sounding[-1])) if len(sounding) else (0, codec.num_keys - 1)
    low, high = max(0, low - 2), min(codec.num_keys - 1, high + 2)
    longest = max(len(array) for array in arrays)
    figure = Figure(figsize=(min(24.0, 2 + 0.12 * longest), 0.6 + 2.4 * len(arrays)), layout="constrained")
    axes = figure.subplots(len(arrays), 1, squeeze=False)[:, 0]
    octaves = [key for key in range(low, high + 1) if (key + codec.lowest_key) % 12 == 0]
    for number, (axis, array) in enumerate(zip(axes, arrays, strict=True)):
        extent = (0, len(array) / codec.frames_per_beat, low - 0.5, high + 0.5)
        picture = array[:, low : high + 1].T
        axis.imshow(picture, origin="lower", aspect="auto", interpolation="nearest", cmap="Greys", extent=extent)
        axis.set_yticks(octaves, [f"C{(key + codec.lowest_key) // 12 - 1}" for key in octaves])
        axis.set_xlim(0, longest / codec.frames_per_beat)
        if titles is not None:
            axis.set_title(titles[number], loc="left", fontsize=9)
    axes[-1].set_xlabel("beats")
    path = Path(path)
    try:
        with whole_file(path) as (handle, _):
            figure.savefig(handle, format=path.suffix.lstrip(".") or "png", dpi=110)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be written ({error}): choose another folder, or the suffix .png") from None


def write_rolls(rolls: Sequence[Tensor | np.ndarray], out: str | Path, codec: PianoRollCodec) -> list[Path]:
    """Write rolls for people: what ``hybridgen sample`` does with the samples of a model of piano rolls.

    Args:
        rolls: `(T, num_keys)` each.
        out: ``NAME.mid`` (one roll), ``NAME.png`` (all rolls in a picture), or a folder, which gets
            ``sample-0.mid``... and ``samples.png``.
        codec: Knows the keys, the resolution and the tempo.

    Returns:
        The files that were written.

    Raises:
        DataError: A file cannot be written, the folder holds other samples, or several rolls are to go into one MIDI
            file.
    """
    out = Path(out).expanduser()
    suffix = out.suffix.lower()
    if suffix in MIDI_SUFFIXES:
        if len(rolls) != 1:
            raise DataError(f"{out} can hold one sample but there are {len(rolls)}: give a folder")
        write_midi(rolls[0], out, codec)
        return [out]
    if suffix in (".png", ".svg", ".pdf"):
        write_picture(rolls, out, codec)
        return [out]
    if suffix:
        raise DataError(f"{out} has the suffix {suffix!r}: rolls are written to .mid, .png, .svg, .pdf or a folder")
    paths = sample_paths(out, len(rolls), ".mid")
    for roll, path in zip(rolls, paths, strict=True):
        write_midi(roll, path, codec)
    write_picture(rolls, out / "samples.png", codec, titles=[path.stem for path in paths])
    return [*paths, out / "samples.png"]
