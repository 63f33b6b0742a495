"""Where sounds come from: folders, public sets by the layout that torchaudio gives them, synthetic notes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hybridgen.closest import name_the_closest
from hybridgen.data.audio_files import SUFFIXES
from hybridgen.data.errors import DataError, MissingDataError
from hybridgen.data.files import data_folders
from hybridgen.data.synthetic_notes import Note

PARTS = ("train", "valid", "test")
#: How the names of Free Spoken Digit files are read: the digit, the speaker, the number of the recording.
_FSDD = re.compile(r"(?P<label>\d)_(?P<speaker>[a-z]+)_(?P<index>\d+)")
_FSDD_TEST = 5  # recordings 0 to 4 of each speaker and digit are the official test part


@dataclass(frozen=True)
class Sound:
    """Where one sound is.

    Attributes:
        place: The file, or the note.
        label: Its class, or None.
        part: ``train``, ``valid`` or ``test`` where its set says so, otherwise None.
    """

    place: Path | Note
    label: str | None
    part: str | None = None


#: Public sets by name: the folders in which each may lie, below HYBRIDGEN_DATA or the cache.
LAYOUTS = {
    "fsdd": ("fsdd/recordings", "free-spoken-digit-dataset/recordings"),
    "speechcommands": (
        "speechcommands",
        "SpeechCommands/speech_commands_v0.02",
        "SpeechCommands/speech_commands_v0.01",
        "speech_commands_v0.02",
    ),
    "yesno": ("waves_yesno", "yesno/waves_yesno", "yesno"),
    "ljspeech": ("LJSpeech-1.1/wavs", "ljspeech/LJSpeech-1.1/wavs", "ljspeech/wavs"),
}


def find_sounds(
    source: str, *, pattern: str | None = None, label_pattern: str | None = None, labelled: bool = True
) -> list[Sound]:
    """Return the sounds of a public set or a folder, in the order of their paths.

    Args:
        source: A name in :data:`LAYOUTS`, or a folder. Below a folder, ``train``, ``valid`` and ``test`` are parts.
        pattern: Which files of the folder are sounds. Default: all wav and flac files in it and below.
        label_pattern: A regular expression that finds the label in a file's name without its ending, as its group
            ``label``. Default: the label is the name of the folder below ``source`` in which the file lies.
        labelled: Whether sounds have labels.

    Raises:
        DataError: There is no such source, no sound in it, or a file whose label cannot be told.
    """
    if source in LAYOUTS:
        folder = _locate(source)
        if source == "fsdd":
            return _find_digits(folder)
        if source == "speechcommands":
            return _find_commands(folder)
        return [Sound(path, None) for path in _files(folder, pattern)]
    folder = Path(source).expanduser()
    if folder.is_file():
        raise DataError(f"{folder} is a file: give the folder that holds the sounds")
    if not folder.is_dir():
        known = ["notes", *LAYOUTS]
        raise DataError(f"there is no folder {folder} and no source of that name: {name_the_closest(source, known)}")
    expression = _compile(label_pattern)
    sounds = []
    for path in _files(folder, pattern):
        above = path.relative_to(folder).parts[:-1]
        part = above[0] if above and above[0] in PARTS else None
        above = above[1:] if part else above
        label = None
        if expression is not None:
            found = expression.search(path.stem)
            if found is None or not found.group("label"):
                raise DataError(
                    f"{path}: label_pattern={label_pattern!r} finds no label in the name: correct one of them"
                )
            label = found.group("label")
        elif above:
            label = above[0]
        sounds.append(Sound(path, label if labelled else None, part))
    without = [sound for sound in sounds if sound.label is None]
    if without and len(without) < len(sounds):
        raise DataError(
            f"{without[0].place} has no label, for it is in no folder of its own as others are: move it, give "
            "label_pattern, or set labelled to false"
        )
    return sounds


def choose_labels(sounds: Sequence[Sound], chosen: Sequence[str] | None, source: str) -> list[Sound]:
    """Return the sounds of the chosen classes, by default all.

    Raises:
        DataError: There is no such class.
    """
    if chosen is None:
        return list(sounds)
    known = sorted({sound.label for sound in sounds if sound.label is not None})
    for label in map(str, chosen):
        if label not in known:
            there = name_the_closest(label, known) if known else "its sounds have no labels"
            raise DataError(f"{source} has no label {label!r}: {there}")
    return [sound for sound in sounds if sound.label in set(map(str, chosen))]


def _locate(source: str) -> Path:
    for folder in data_folders():
        for layout in LAYOUTS[source]:
            if (folder / layout).is_dir():
                return folder / layout
    remedy = f"run `hybridgen data {source}`, or " if source == "fsdd" else ""
    raise MissingDataError(
        f"the set {source!r} is not on this machine: {remedy}set HYBRIDGEN_DATA to the folder that holds "
        f"{' or '.join(LAYOUTS[source])}"
    )


def _find_digits(folder: Path) -> list[Sound]:
    sounds = []
    for path in _files(folder, "*.wav"):
        found = _FSDD.fullmatch(path.stem)
        if found is None:
            raise DataError(
                f"{path} is not named DIGIT_SPEAKER_NUMBER.wav, as the files of fsdd are: move it elsewhere"
            )
        sounds.append(Sound(path, found["label"], "test" if int(found["index"]) < _FSDD_TEST else None))
    return sounds


def _find_commands(folder: Path) -> list[Sound]:
    """Return Speech Commands, with the official lists of what is for validation and testing."""
    listed = {}
    for part, name in (("valid", "validation_list.txt"), ("test", "testing_list.txt")):
        if (folder / name).is_file():
            listed.update(dict.fromkeys((folder / name).read_text(encoding="utf-8").split(), part))
    sounds = []
    for path in _files(folder, "*/*.wav"):
        if not path.parent.name.startswith("_"):  # _background_noise_ is no word
            name = f"{path.parent.name}/{path.name}"
            sounds.append(Sound(path, path.parent.name, listed.get(name, "train" if listed else None)))
    return sounds


def _files(folder: Path, pattern: str | None) -> list[Path]:
    try:
        found = sorted(path for path in folder.glob(pattern or "**/*") if path.is_file())
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"the folder {folder} cannot be searched for pattern={pattern!r} ({error})") from None
    if pattern is None:
        found = [path for path in found if path.suffix.lower() in SUFFIXES]
    if not found:
        what = "wav or flac file" if pattern is None else f"file that matches pattern={pattern!r}"
        raise DataError(f"the folder {folder} has no {what}: give the folder that holds the sounds")
    return found


def _compile(label_pattern: str | None) -> re.Pattern[str] | None:
    if label_pattern is None:
        return None
    try:
        expression = re.compile(label_pattern)
    except re.error as error:
        raise DataError(f"label_pattern={label_pattern!r} is no regular expression ({error}): correct it") from None
    if "label" not in expression.groupindex:
        raise DataError(f"label_pattern={label_pattern!r} has no group 'label': write such as '(?P<label>[a-z]+)_'")
    return expression
