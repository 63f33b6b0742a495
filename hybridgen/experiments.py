"""The configurations that come with the toolkit, by name.

They lie in ``experiments/`` of a source checkout, and travel in an installed package as ``hybridgen/_experiments``.
"""

import re
from pathlib import Path

from hybridgen.closest import did_you_mean

_PACKAGE = Path(__file__).parent
#: The folder of experiments that holds what to try, not what to train.
SPACES = "tuning"
#: Where a sentence ends: not at "et al."
_SENTENCE = re.compile(r"(?<!\bal)\. ")


def experiments_folder() -> Path:
    """Where the configurations, ``results/`` and ``published.json`` are.

    Raises:
        FileNotFoundError: if the installation has lost them.
    """
    for folder in (_PACKAGE / "_experiments", _PACKAGE.parent / "experiments"):
        if (folder / "published.json").is_file():
            return folder
    raise FileNotFoundError(f"the experiments are missing from {_PACKAGE}: install hybridgen again")


def names() -> list[str]:
    """``FAMILY/NAME`` of every configuration, sorted."""
    folder = experiments_folder()
    found = (path.relative_to(folder) for path in folder.glob("*/**/*.yaml"))
    return sorted(path.with_suffix("").as_posix() for path in found if path.parts[0] != SPACES)


def find_space(wanted: str) -> Path:
    """The space file of `hybridgen tune`: an existing file of that name, else one of ``experiments/tuning``.

    Raises:
        ValueError: if there is none.
    """
    if Path(wanted).is_file():
        return Path(wanted)
    known = {path.stem: path for path in (experiments_folder() / SPACES).glob("*.yaml")}
    name = Path(wanted).stem
    if name not in known:
        hint = did_you_mean(name, known, f"there is {', '.join(sorted(known))}")
        raise ValueError(f"--space: there is no file {wanted} and no space of that name: {hint}")
    return known[name]


def find(wanted: str, *, option: str = "--config") -> Path:
    """The file of a configuration: an existing file of that name, else the experiment so called.

    Args:
        wanted: a path, ``FAMILY/NAME`` or ``NAME``; ``experiments/FAMILY/NAME.yaml`` works from any folder.
        option: what the user gave it to, for messages.

    Raises:
        ValueError: if there is none, or several; the message names the nearest or the candidates.
    """
    if Path(wanted).is_file():
        return Path(wanted)
    name = wanted.removesuffix(".yaml").removesuffix(".yml").removeprefix("./").removeprefix("experiments/")
    known = names()
    candidates = [each for each in known if name in (each, each.partition("/")[2], each.rpartition("/")[2])]
    if name in candidates:
        candidates = [name]
    if len(candidates) > 1:
        raise ValueError(f"{option}: {wanted!r} is the name of {', '.join(candidates)}: say which one")
    if not candidates and Path(wanted).is_dir():  # a folder of an experiment's name may hold the data for it
        raise ValueError(f"{option}: {wanted} is a folder: give a YAML file, or a name of `hybridgen config ls`")
    if not candidates:
        nearest = _nearest(name, known)
        raise ValueError(f"{option}: there is no file {wanted} and no experiment of that name: {nearest}")
    return experiments_folder() / f"{candidates[0]}.yaml"


def description(name: str) -> str:
    """What the comment at the top of a configuration says first, in one sentence; empty without a comment."""
    words = []
    for line in (experiments_folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# ").strip())
    text = " ".join(words)
    end = _SENTENCE.search(text)
    return text if end is None else text[: end.start() + 1]


def _nearest(name: str, known: list[str]) -> str:
    """The nearest whole name, or the nearest last part of one."""
    otherwise = "`hybridgen config ls` lists them"
    if "/" in name:
        hint = did_you_mean(name, known, "")
        if hint:
            return hint
    last = {each.rpartition("/")[2] for each in known}
    return did_you_mean(name.rpartition("/")[2], last, otherwise)
