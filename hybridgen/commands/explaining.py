"""What is wrong with a command line or a configuration, in one sentence that names the nearest right one."""

import argparse
import difflib
import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml

from hybridgen import experiments
from hybridgen.closest import did_you_mean
from hybridgen.commands.options import one_sentence

_UNKNOWN = re.compile(
    r"[Oo]ption '([\w.]+)' is not accepted|does not accept option '([\w.]+)'|[Uu]nrecognized arguments: --([\w.]+)"
)
_SHORT = re.compile(r"Expected a dot import path string: ([\w-]+)")
_REQUIRED = re.compile(r"arguments are required: (?:\w+\.)?(model|data)\b")
_CLASS = re.compile(r"Problem with given class_path '([\w.]+)'")

#: What a section with a class consists of.
_BESIDE = ("class_path", "init_args", "dict_kwargs")

_KEY = re.compile(r'Parser key "([\w.]+)"')
_VALUE = re.compile(r"(?:Given value|Got value): (.*)")
_EXPECTED = re.compile(r"Expected an? <class '(\w+)'>")
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "dict": "a mapping"}


def explain(message: str, parser: argparse.ArgumentParser) -> str:
    """The sentence for a message of jsonargparse."""
    text = one_sentence(message) or "the options do not fit"
    unknown, misnamed = _UNKNOWN.search(text), _CLASS.search(message)
    short, required = _SHORT.search(message), _REQUIRED.search(text)
    if unknown:
        return _unknown(next(filter(None, unknown.groups())), parser)
    if misnamed:
        wrong = _misnamed(misnamed.group(1))
        return wrong or text.removeprefix(f"{misnamed.group(0)}: ")
    if required:
        section = required.group(1)
        return f"there is no {section}: give a configuration with {section}, or --{section} and the path of a class"
    key, value, expected = _KEY.match(message), _VALUE.search(message), _EXPECTED.findall(message)
    if short:
        place = key.group(1) if key else "class_path"
        return f"{place} is {short.group(1)}: {_whole_path(place, short.group(1))}"
    if key and text.endswith("(implicit class_path)"):
        return f"{key.group(1)}: give class_path, and the options of the class below init_args"
    kinds = " or ".join(dict.fromkeys(_KINDS.get(kind, kind) for kind in expected if kind != "NoneType"))
    if key and value and kinds and text.startswith("Expected a"):
        return f"{key.group(1)} is {value.group(1).strip()}: give {kinds}"
    return text if key is None or key.group(1).rpartition(".")[2] in text else f"{key.group(1)}: {text}"


def _unknown(name: str, parser: argparse.ArgumentParser) -> str:
    """An option that there is not: the whole name may be near another, or one word of it is wrong."""
    if name == "class_path":  # taken for an option of the class, since it is not alone
        return "an option stands beside class_path: put it below init_args"
    known = {action.dest for each in _parsers(parser) for action in each._actions}
    known |= {*_class_options(), *_BESIDE}
    hint = did_you_mean(name, [each for each in known if each.count(".") == name.count(".")], "")
    words = {word for option in known for word in option.split(".")}
    if not hint:
        given = name.split(".")
        place = next((i for i, word in enumerate(given) if word not in words), len(given) - 1)
        here = {option.split(".")[place] for option in known if option.count(".") > place}  # say model, data, trainer
        hint = did_you_mean(given[place], here if len(given) > 1 else (), "") or did_you_mean(given[place], words, "")
    return f"there is no option {name!r}" + (f": {hint}" if hint else "")


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from (each for each in action.choices.values() if isinstance(each, argparse.ArgumentParser))


def _misnamed(path: str) -> str | None:
    """A class that there is not; None where something else is wrong with it."""
    from hybridgen import data, models

    module, _, name = path.rpartition(".")
    try:
        room = importlib.import_module(module)
    except (ImportError, ValueError):
        known = [*models.__all__, *data.__all__]
        return f"there is no module {module!r} for class_path {path}: {did_you_mean(name, known, 'check the path')}"
    if hasattr(room, name):
        return None
    classes = [each for each in dir(room) if inspect.isclass(getattr(room, each, None))]
    return f"{module} has no class {name!r}: {did_you_mean(name, classes, 'check class_path')}"


def _whole_path(place: str, name: str) -> str:
    """What to give for a class that is named without its module, at a place of the configuration."""
    module = {"model": "hybridgen.models", "data": "hybridgen.data"}.get(place.partition(".")[0])
    known = {cls.__name__: f"{room}.{cls.__name__}" for room, cls in _classes() if room == module}
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"give {known[close[0]]}"
    return f"give {' or '.join(known.values())}" if known else "give the whole path of the class, with its module"


def _classes() -> list[tuple[str, type]]:
    """The models and data modules that configurations name by class, each with its module's name."""
    from hybridgen import data, models

    offered = [(room.__name__, getattr(room, name)) for room in (models, data) for name in room.__all__]
    kinds = pl.LightningModule | pl.LightningDataModule
    return [(room, cls) for room, cls in offered if inspect.isclass(cls) and issubclass(cls, kinds)]


def _class_options() -> list[str]:
    """Their options."""
    return [option for _, cls in _classes() for option in inspect.signature(cls).parameters]


def with_named_configs(arguments: Sequence[str]) -> list[str]:
    """A command line whose every ``--config NAME`` names a file that holds a configuration.

    Raises:
        ValueError: if one cannot be found (see :func:`hybridgen.experiments.find`) or is not YAML.
    """
    found: list[str] = []
    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if place and arguments[place - 1] in ("--config", "-c"):
            found.append(_file(argument))
        elif equals and option in ("--config", "-c"):
            found.append(f"{option}={_file(value)}")
        else:
            found.append(argument)
    return found


def _file(value: str) -> str:
    if value.lstrip().startswith("{") or "\n" in value:
        return value  # a configuration on the command line itself
    path = experiments.find(value)
    check_mapping(path)
    return str(path)


def check_mapping(path: Path, *, option: str = "--config") -> None:
    """Refuse a file that holds no mapping of options.

    Raises:
        ValueError: saying what it is instead, and where.
    """
    try:
        holds = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{option}: {path} is not UTF-8 at byte {error.start}: give a YAML file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or "it cannot be read"
        raise ValueError(f"{option}: {path} is not YAML{where}: {what}") from None
    except OSError as error:
        raise ValueError(f"{option}: {path} cannot be read ({error.strerror})") from None
    if not isinstance(holds, dict):
        kind = "is empty" if holds is None else f"holds a {type(holds).__name__}, not options"
        raise ValueError(f"{option}: {path} {kind}: give a configuration with model and data")
    for section in ("model", "data", "trainer"):
        _check_section(section, holds.get(section), f"{option}: {path}")


def _check_section(section: str, holds: Any, where: str) -> None:
    """Refuse what a parser takes for something else, or takes only after it has taken another file."""
    is_path = isinstance(holds, str) and (section != "trainer" or "." in holds)  # of a class, or a file of options
    if holds is not None and not isinstance(holds, dict) and not is_path:
        parts = "options below it" if section == "trainer" else "class_path and init_args below it"
        raise ValueError(f"{where}: {section} is {holds}: give {parts}")
    name = holds.get("class_path") if isinstance(holds, dict) else holds
    if isinstance(name, str) and "." not in name and any(cls.__name__ == name for _, cls in _classes()):
        place = section if name is holds else f"{section}.class_path"
        raise ValueError(f"{where}: {place} is {name}: {_whole_path(section, name)}")
    if not isinstance(holds, dict) or "class_path" not in holds:
        return
    for beside in holds:
        if beside not in _BESIDE and not str(beside).startswith(("_", "$")):
            instead = did_you_mean(beside, _BESIDE, f"put {beside} below init_args")
            raise ValueError(f"{where}: {section} has {beside} beside class_path: {instead}")
