"""What a run left for eyes and ears: texts, pictures and sounds of the stages of its training."""

import json
import re
from base64 import b64encode
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hybridgen.report import sounds

PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
SOUNDS = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
#: Larger files are named, not embedded: a page of many megabytes opens nowhere.
MOST_BYTES = 4_000_000
#: Characters of a text that are shown.
MOST_TEXT = 20_000

_STAGE = re.compile(r"^(?:(?P<group>.+?)-)?(?P<unit>epoch|step)-(?P<number>\d+)$")
_WANDB = re.compile(r"^(?P<key>.+)_(?P<number>\d+)_[0-9a-f]{8,}$")
#: What W&B is given, too: keys whose files lie in the run folder already.
_TWICE = ("samples", "latent/", "gradient_flow")


@dataclass
class Table:
    """Rows of texts under a title."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass
class Sound:
    """Something to play: a data URI, and a picture of it."""

    name: str
    uri: str
    picture: str | None


@dataclass
class Stage:
    """What there is of one moment of training.

    Attributes:
        label: ``epoch 3`` or ``step 400``.
        number: of it.
        texts: as they were written.
        tables: texts that have columns.
        pictures: data URIs by file name.
        sounds: to play.
        left_out: names of files that are too large.
    """

    label: str
    number: int
    texts: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass
class Gallery:
    """The stages of one kind of thing, in order.

    Attributes:
        title: what it is.
        stages: those that are shown.
        total: how many there are.
    """

    title: str
    stages: list[Stage]
    total: int


#: Titles of groups of files.
_TITLES = {"": "Samples", "kl": "KL per dimension", "gradient_flow": "Gradient flow", "evaluation": "Beside real ones"}


def galleries(folder: Path, most: int) -> list[Gallery]:
    """Everything in ``samples/`` and ``gradient_flow/`` of a run, and what Weights & Biases kept beside it.

    Args:
        folder: the run folder.
        most: stages of each kind, at most; the first, the last, and some between.
    """
    groups: dict[str, dict[tuple[int, str], list[Path]]] = defaultdict(lambda: defaultdict(list))
    for part in ("samples", "gradient_flow"):
        for path in _files(folder / part):
            found = _STAGE.match(path.stem)
            group = part if part != "samples" else (found and found["group"]) or ""
            if found:
                groups[group][int(found["number"]), found["unit"]].append(path)
            elif part == "samples" and path.parent != folder / part and (inside := _STAGE.match(path.parent.name)):
                groups[inside["group"] or ""][int(inside["number"]), inside["unit"]].append(path)
            else:
                groups["others"][0, "all"].append(path)
    for path in _files(folder / "wandb"):
        key = path.relative_to(folder / "wandb").as_posix().partition("/files/media/")[2].partition("/")[2]
        found = _WANDB.match(key.removesuffix(".json").rpartition(".")[0]) if key else None
        if found and not found["key"].startswith(_TWICE):
            groups[found["key"]][int(found["number"]), "step"].append(path)
    for report in folder.glob("*/evaluation.json"):  # what `hybridgen evaluate --out RUN/NAME` drew
        groups["evaluation"][0, "all"] += [path for path in sorted(report.parent.iterdir()) if path.suffix in PICTURES]
    made = []
    for group in sorted(groups, key=lambda name: (name != "", name)):
        moments = sorted(groups[group])
        title = _TITLES.get(group, group.replace("_", " ").replace("/", ": ").capitalize())
        stages = [_stage(moment, groups[group][moment]) for moment in _spread(moments, most)]
        stages = [each for each in stages if each.texts or each.tables or each.pictures or each.sounds or each.left_out]
        if stages:
            made.append(Gallery(title, stages, len(moments)))
    return made


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    known = {*PICTURES, *SOUNDS, ".txt", ".mid", ".midi", ".json"}
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in known and path.is_file()]


def _spread(moments: Sequence[tuple[int, str]], most: int) -> list[tuple[int, str]]:
    """At most so many, evenly, with the first and the last."""
    if len(moments) <= most:
        return list(moments)
    if most == 1:
        return [moments[-1]]
    return [moments[round(i * (len(moments) - 1) / (most - 1))] for i in range(most)]


def _stage(moment: tuple[int, str], paths: list[Path]) -> Stage:
    number, unit = moment
    stage = Stage("" if unit == "all" else f"{unit} {number}", number)
    for path in paths:
        try:
            _add(stage, path)
        except (OSError, ValueError):  # a file that is being written, or is not what its name says
            stage.left_out.append(f"{path.name} cannot be read")
    if any(sound.picture for sound in stage.sounds):  # a picture of all of them together says the same again
        stage.pictures = [picture for picture in stage.pictures if not _STAGE.match(picture[0])]
    return stage


def _add(stage: Stage, path: Path) -> None:
    suffix = path.suffix.lower()
    size = path.stat().st_size
    if suffix == ".txt":
        text = path.read_text(encoding="utf-8", errors="replace")
        tables = _latent_tables(text)
        if tables:
            stage.tables += tables
        else:
            stage.texts.append(text[:MOST_TEXT] + ("\n…" if len(text) > MOST_TEXT else ""))
    elif size > MOST_BYTES:
        stage.left_out.append(f"{path.name} ({size / 1e6:.1f} MB)")
    elif not size:
        raise ValueError("an empty file")
    elif suffix in PICTURES:
        stage.pictures.append((path.stem, data_uri(path.read_bytes(), PICTURES[suffix])))
    elif suffix in SOUNDS:
        stage.sounds.append(Sound(path.name, data_uri(path.read_bytes(), SOUNDS[suffix]), spectrogram_uri(path)))
    elif suffix in (".mid", ".midi"):
        stage.sounds.append(Sound(path.name, data_uri(sounds.play_midi(path), "audio/wav"), None))
    elif path.name.endswith(".table.json"):
        stage.tables.append(_wandb_table(path))


def data_uri(content: bytes, kind: str) -> str:
    """A file inside the page."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def spectrogram_uri(path: Path) -> str | None:
    """A picture of a sound, or None where it cannot be read."""
    try:
        return data_uri(sounds.spectrogram(path), "image/png")
    except (ValueError, RuntimeError, OSError):
        return None


def _latent_tables(text: str) -> list[Table]:
    """The tables that :class:`hybridgen.tracking.latent.TrackLatent` writes into one text; empty for another text."""
    tables: dict[str, Table] = {}
    now: Table | None = None
    for line in text.splitlines():
        if line == "# samples from the prior":
            now = tables["samples"] = Table("From the prior", ["sentence"], [])
        elif line == "# reconstructions" and tables:
            now = tables["reconstructions"] = Table("Reconstructions", ["sentence", "reconstruction"], [])
        elif line.startswith("# interpolations: ") and tables:
            now = tables["interpolations"] = Table("Interpolations", ["path", "at", "sentence"], [])
        elif now is None:
            return []
        elif line and now.title == "From the prior":
            now.rows.append([line])
        elif line.startswith("< "):
            now.rows.append([line[2:], ""])
        elif line.startswith("> ") and now.rows:
            now.rows[-1][-1] = line[2:]
        elif line and now.title == "Interpolations":
            now.rows.append([*line.split("  ", 2), "", ""][:3])
    return list(tables.values())


def _wandb_table(path: Path) -> Table:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        raise ValueError("not a table")
    key = _WANDB.match(path.name.removesuffix(".table.json"))
    rows = [[str(cell)[:MOST_TEXT] for cell in row] for row in found["data"][-200:] if isinstance(row, list)]
    return Table(key["key"] if key else path.stem, [str(each) for each in found.get("columns", [])], rows)
