"""`hybridgen tune`: try options of a configuration and tell which are best."""

import inspect
import signal
import sys
from pathlib import Path
from typing import Any

from hybridgen.closest import did_you_mean
from hybridgen.commands.options import Parser, check_out_folder

DESCRIPTION = """
Try options of a configuration. A space file names them, each with a list of values or {low, high, log, step}; every
trial is a run like any other, in a folder of its own, and hopeless ones are stopped early. The study is kept in a
database: the same command goes on after an interruption, and several of them, on several machines with one --storage,
share the work. Results: trials.csv, pictures of the value against each option and of their importance, best.yaml.
"""


def run(arguments: list[str]) -> int:
    """Run trials until there are enough, then write the results.

    Raises:
        ValueError: if the space, the configuration or an option does not fit; the message is for the user.
    """
    parser = Parser(prog="hybridgen tune", description=DESCRIPTION)
    parser.add_argument("--space", required=True, metavar="FILE", help="what to try, such as tuning/hidden_size")
    parser.add_argument("--config", metavar="FILE", help="configuration to start from (default: the space file's)")
    parser.add_argument(
        "--trials", type=int, metavar="N", help="finished trials in all (default 50; a grid: all of it)"
    )
    parser.add_argument("--out", metavar="FOLDER", help="where everything goes (default: runs/tune-NAME)")
    parser.add_argument("--monitor", metavar="NAME", help="logged value to make small (default: the model's choice)")
    parser.add_argument("--storage", metavar="URL", help="the study's database (default: sqlite in the folder)")
    parser.add_argument("--name", metavar="NAME", help="of the study (default: the space file's name)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler (default 0)")
    options = parser.parse_args(arguments)
    if options.trials is not None and options.trials < 1:
        raise ValueError(f"--trials is {options.trials}: give at least 1")
    if not 0 <= options.seed < 2**32:
        raise ValueError(f"--seed is {options.seed}: give a whole number from 0 to {2**32 - 1}")
    check_out_folder(options.out)

    from hybridgen import experiments
    from hybridgen.tuning import Study, read_space, write_results
    from hybridgen.tuning.results import rows_of

    path = experiments.find_space(options.space)
    space = read_space(path)
    given = options.config or space.config
    if given is None:
        raise ValueError(f"--config: {path} names no configuration to start from: give one")
    config = read_config(experiments.find(given))
    name = options.name or path.stem
    trials = options.trials or (space.size() if space.sampler == "grid" else 50)
    study = Study(
        config,
        space,
        Path(options.out or f"runs/tune-{name}"),
        monitor=options.monitor or monitor_of(config),
        storage=options.storage,
        name=name,
        seed=options.seed,
    )
    # A trial is a process of its own, which must not outlive this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if study.finished:
        print(f"going on after {len(study.finished)} finished trials", file=sys.stderr)
    study.run(trials, lambda line: print(line, file=sys.stderr, flush=True))
    written = write_results(study)
    _print_table(rows_of(study), study.monitor, list(space.options))
    for what, place in written.items():
        print(f"{what}: {place}", file=sys.stderr)
    return 0


def read_config(path: Path) -> dict[str, Any]:
    """A configuration as plain values.

    Raises:
        ValueError: if it is none.
    """
    import yaml

    from hybridgen.commands.as_meant import as_meant
    from hybridgen.tuning.space import check_plain

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise ValueError(f"--config: {path} is no configuration of `hybridgen fit`: it has no model")
    check_plain(config, f"--config: {path}")
    return as_meant(config)


def monitor_of(config: dict[str, Any]) -> str:
    """The value that the configuration's model wants small.

    Raises:
        ValueError: if it depends on the model's options, and they do not fit.
    """
    from hybridgen import models

    name = str(config["model"].get("class_path", "")).rpartition(".")[2]
    cls = models.find(name)
    monitor = getattr(cls, "monitor", None)
    if isinstance(monitor, property):  # it depends on the options
        monitor = cls(**_options_of(cls, config["model"].get("init_args") or {})).monitor
    return monitor or "val/loss"


def _options_of(cls: Any, given: Any) -> dict[str, Any]:
    """A model's options, all of which it has."""
    if not isinstance(given, dict):
        raise ValueError(f"--config: model.init_args is {given!r}: give options with their values")
    known = inspect.signature(cls).parameters
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known, "see `hybridgen fit --help`")
            raise ValueError(f"--config: {cls.__name__} has no option {name!r}: {hint}")
    return given


def _print_table(rows: list[dict[str, Any]], monitor: str, names: list[str]) -> None:
    columns = ["trial", monitor, "state", "seconds", *names]
    cells = [[_shown(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
