"""What is wrong with a command line or a configuration, in one sentence that names the nearest right one."""

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytorch_lightning as pl
import yaml

from hybridgen import experiments
from hybridgen.closest import did_you_mean
from hybridgen.commands.options import one_sentence

_UNKNOWN = re.compile(
    r"[Oo]ption '([\w.]+)' is not accepted|does not accept option '([\w.]+)'|[Uu]nrecognized arguments: --([\w.]+)"
)
_CLASS = re.compile(r"Problem with given class_path '([\w.]+)'")

_KEY = re.compile(r'Parser key "([\w.]+)"')
_VALUE = re.compile(r"(?:Given value|Got value): (.*)")
_EXPECTED = re.compile(r"Expected an? <class '(\w+)'>")
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "dict": "a mapping"}


def explain(message: str, parser: argparse.ArgumentParser) -> str:
    """The sentence for a message of jsonargparse."""
    text = one_sentence(message) or "the options do not fit"
    unknown, misnamed = _UNKNOWN.search(text), _CLASS.search(message)
    if unknown:
        return _unknown(next(filter(None, unknown.groups())), parser)
    if misnamed:
        return _misnamed(misnamed.group(1)) or text
    key, value, expected = _KEY.match(message), _VALUE.search(message), _EXPECTED.findall(message)
    if key and value and expected and text.startswith("Expected a"):
        kinds = " or ".join(dict.fromkeys(_KINDS.get(kind, kind) for kind in expected if kind != "NoneType"))
        return f"{key.group(1)} is {value.group(1).strip()}: give {kinds}"
    return text if key is None or key.group(1).rpartition(".")[2] in text else f"{key.group(1)}: {text}"


def _unknown(name: str, parser: argparse.ArgumentParser) -> str:
    """An option that there is not: the whole name may be near another, or one word of it is wrong."""
    known = {action.dest for each in _parsers(parser) for action in each._actions}
    known |= {*_class_options(), "class_path", "init_args", "dict_kwargs"}
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


def _class_options() -> list[str]:
    """Options of the models and data modules that configurations name by class."""
    from hybridgen import data, models

    offered = [getattr(room, name) for room in (models, data) for name in room.__all__]
    classes = [c for c in offered if inspect.isclass(c) and issubclass(c, pl.LightningModule | pl.LightningDataModule)]
    return [option for cls in classes for option in inspect.signature(cls).parameters]


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
