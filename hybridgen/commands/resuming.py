"""``hybridgen fit --resume auto | PATH | never``: where a training goes on, and what is different from before."""

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

from hybridgen.reliability.fitting import differences
from hybridgen.reliability.run_choice import Choice, automatic, by_path, saved_config
from hybridgen.reliability.verify import CheckpointError, read
from hybridgen.tracking.processes import chosen_by_first

_CHOSEN = "HYBRIDGEN_RESUME"
_CLASS = "class_path"  # by which jsonargparse knows that something is to be built
#: Options that say where and how to write, not what is trained.
_ABOUT_THE_RUN = ("config", "ckpt_path", "weights_only", "runs", "name", "wandb", "predictions", "resume", "monitor")

HELP = (
    "never: a new run folder. auto: go on with the newest run of this name that is not finished, in its folder, from "
    "its newest whole checkpoint; a new run where there is none. PATH: go on with that run folder or checkpoint; its "
    "config.yaml is read where no --config is given. Options that differ from those of the run are told, and hold from "
    "here on"
)


def add_options(parser: Any) -> None:
    """Add the options of resuming and saving."""
    from hybridgen.reliability.saving import MINUTES

    parser.add_argument("--resume", type=str, default="never", metavar="auto|PATH|never", help=HELP)
    parser.add_argument(
        "--save_every_minutes",
        type=float,
        default=MINUTES,
        help="minutes between two saves of checkpoints/last.ckpt within an epoch; 0: only after epochs",
    )
    parser.add_argument(
        "--save_every_batches", type=int, default=0, help="likewise, batches between two saves; 0: by the clock alone"
    )


def with_saved_config(arguments: list[str]) -> list[str]:
    """A command line that resumes a run by its path, with the configuration that lies there where none is given."""
    if not arguments or arguments[0] != "fit":
        return arguments
    given = [argument.partition("=")[0] for argument in arguments]
    if any(name in ("--config", "-c", "--model") for name in given) or "--resume" not in given:
        return arguments
    place = given.index("--resume")
    value = arguments[place].partition("=")[2] or (arguments[place + 1] if place + 1 < len(arguments) else "")
    path = Path(value)
    if value in ("", "auto", "never") or not path.exists():
        return arguments
    folder = path if path.is_dir() and path.name != "checkpoints" else path.parent
    folder = folder.parent if folder.name == "checkpoints" else folder
    config = folder / "config.yaml"
    return ["fit", "--config", str(config), *arguments[1:]] if config.is_file() else arguments


def choose(config: Any, name: str) -> Choice | None:
    """Where this training goes on, the same in all its processes; None for a new run.

    Args:
        config: the options of ``hybridgen fit``; those that resume are ``resume`` and ``ckpt_path``.
        name: of the run.

    Raises:
        ValueError: if there is no such place, or nothing whole in it.
    """
    if config.resume == "never" and not config.ckpt_path:
        return None
    chosen = os.environ.get(_CHOSEN)
    if chosen is None or int(os.environ.get("LOCAL_RANK", 0)) == 0:
        chosen = chosen_by_first("resume", lambda: _decide(config, name), Path(config.runs) / name)
        os.environ[_CHOSEN] = chosen  # for the processes that Lightning starts
    found = json.loads(chosen)
    if found is None:
        return None
    return Choice(
        None if found["folder"] is None else Path(found["folder"]),
        Path(found["checkpoint"]),
        found["rows_before"],
        found["warnings"],
        {Path(path) for path in found["damaged"]},
        found["branches"],
    )


def _decide(config: Any, name: str) -> str:
    if config.resume != "never" and config.ckpt_path:
        raise ValueError("--resume and --ckpt_path are both given: --resume PATH takes a checkpoint, too")
    if config.ckpt_path:
        check_path(config.ckpt_path)
        read(config.ckpt_path)
        choice = Choice(None, Path(config.ckpt_path))
        print(f"starting a new run from {config.ckpt_path}", file=sys.stderr)
    elif config.resume == "auto":
        trainer = config.trainer
        limits = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps, "max_time": trainer.max_time}
        choice, why = automatic(config.runs, name, limits)
        print(f"--resume auto: {why}", file=sys.stderr)
    else:
        choice = by_path(config.resume)
        where = choice.folder or "a new run folder"
        print(f"--resume: going on from {choice.checkpoint} in {where}", file=sys.stderr)
        if choice.branches:
            print("what the run did after it is kept as checkpoints/last-N.ckpt and metrics-N.csv", file=sys.stderr)
    if choice is None:
        return "null"
    for warning in choice.warnings:
        print(f"hybridgen: warning: {warning}", file=sys.stderr)
    return json.dumps(
        {
            "folder": None if choice.folder is None else _near(choice.folder),
            "checkpoint": _near(choice.checkpoint),
            "rows_before": choice.rows_before,
            "warnings": choice.warnings,
            "damaged": [str(path) for path in choice.damaged],
            "branches": choice.branches,
        }
    )


def _near(path: Path) -> str:
    """From the folder that the command runs in, as it was named, where it lies below."""
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path.absolute())


def check_path(path: Any) -> None:
    """Check that ``--ckpt_path`` is a local file, not a word that Lightning knows or an address that it fetches.

    Raises:
        CheckpointError: if it is such a word or address.
    """
    if str(path) in ("best", "last", "hpc", "registry") and not Path(path).is_file():
        raise CheckpointError(f"--ckpt_path is {path!r}: give the path of a .ckpt file, or go on with --resume auto")
    if "://" in str(path):
        raise CheckpointError(f"--ckpt_path is {path!r}: give a local file, checkpoints are not read from the network")


def tell_differences(choice: Choice, now: dict[str, Any]) -> None:
    """Print what is different from when the run stopped.

    Args:
        choice: where training goes on.
        now: the options of the command line, as they would be saved.
    """
    folder = choice.folder or choice.checkpoint.absolute().parent.parent
    then = saved_config(folder)
    if then:
        found = differences(_trained(then), _trained(now))
    else:
        options = read(choice.checkpoint).get("options") or {}
        given = ((now.get("model") or {}).get("init_args")) or {}
        changed = differences({k: v for k, v in options.items() if k in given}, given)
        found = {f"model.init_args.{name}": pair for name, pair in changed.items()}
    if not found:
        return
    print("different from when the run stopped, and holding from here on:", file=sys.stderr)
    for name, (old, new) in found.items():
        print(f"  {name.replace('.init_args', '')}: {_shown(old)} -> {_shown(new)}", file=sys.stderr)


def _trained(config: dict[str, Any]) -> dict[str, Any]:
    ours = ("save_every_minutes", "save_every_batches")
    return {name: value for name, value in config.items() if name not in (*_ABOUT_THE_RUN, *ours)}


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)


def model_of(path: Any, given: Any, chosen: dict[tuple[str, ...], Any] | None = None) -> dict[str, Any]:
    """The model of a checkpoint that is evaluated, as the command line would name it: with its options and its codec.

    Args:
        path: of the checkpoint.
        given: class path of the model of the command line, or None.
        chosen: options that hold in place of those of the checkpoint, as :func:`chosen_options` finds them.

    Raises:
        CheckpointError: if there is no such checkpoint, its model is none of this toolkit or the command line, or its
            options name a class to be built, which a parser would do.
    """
    from hybridgen import models

    check_path(path)
    checkpoint = read(path)
    name = checkpoint["hybridgen_model"]
    hyper_parameters = dict(checkpoint.get("hyper_parameters") or {})
    for about in ("_instantiator", "_class_path"):  # what builds the model is not for a file to say
        hyper_parameters.pop(about, None)
    parts = {"options": checkpoint["options"], "codec": checkpoint["codec"], "hyper_parameters": hyper_parameters}
    for part, value in parts.items():
        if names_a_class(value):
            raise CheckpointError(f"{path}: its {part} names a class to build: no checkpoint of this toolkit does")
    if name in models.__all__:
        options = _replaced(checkpoint["options"], chosen) | {"codec": checkpoint["codec"]}
        return {"class_path": f"hybridgen.models.{name}", "init_args": options}
    if given is None or str(given).rpartition(".")[2] != name:
        raise CheckpointError(f"{path} holds a {name}, which is no model of hybridgen or this command line")
    return {"class_path": given, "dict_kwargs": _replaced(hyper_parameters, chosen)}


def chosen_options(arguments: list[str], model: Any) -> dict[tuple[str, ...], Any]:
    """The model's options that the command line itself gives: what is typed holds, whatever a checkpoint says.

    Args:
        arguments: of the command line.
        model: what was parsed of them and of the configuration, or None.

    Returns:
        Values by the names that lead to them: ``("iwae_samples",)``, ``("stack", "dropout")``.
    """
    found: dict[tuple[str, ...], Any] = {}
    for argument in arguments:
        option = argument.partition("=")[0]
        if model is None or not option.startswith("--model."):
            continue
        names = tuple(option.rstrip("+").split(".")[1:])
        names = names[1:] if names[0] in ("init_args", "dict_kwargs") else names
        if not names or names == ("class_path",):
            continue
        for part in ("init_args", "dict_kwargs"):
            value: Any = model.get(part)
            try:
                for name in names:
                    value = value[name]
            except (KeyError, TypeError):
                continue
            found[names] = value
            break
    return found


def _replaced(options: dict[str, Any], chosen: dict[tuple[str, ...], Any] | None) -> dict[str, Any]:
    """Options, some of them with other values."""
    options = copy.deepcopy(options)
    for names, value in (chosen or {}).items():
        place = options
        for name in names[:-1]:
            if not isinstance(place.get(name), dict):
                place[name] = {}
            place = place[name]
        place[names[-1]] = value
    return options


def names_a_class(value: Any, _seen: set[int] | None = None) -> bool:
    """Whether plain values, or text in them that is JSON or YAML, name a class for jsonargparse to build."""
    seen = set() if _seen is None else _seen
    if isinstance(value, str):
        if ":" not in value and "?" not in value:  # without either no YAML is a mapping
            return False
        import yaml

        try:
            inside = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            return _CLASS in value
        return not isinstance(inside, str) and names_a_class(inside, seen)
    if not isinstance(value, dict | list | tuple | set) or id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, dict):
        return _CLASS in value or any(names_a_class(part, seen) for pair in value.items() for part in pair)
    return any(names_a_class(part, seen) for part in value)
