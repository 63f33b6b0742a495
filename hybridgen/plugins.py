"""Cells, heads, codecs and models of your own in the command `hybridgen`: modules that register them when imported."""

import importlib
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

#: Names of modules or paths of Python files, separated by commas.
VARIABLE = "HYBRIDGEN_PLUGINS"
#: What an installed package gives its module under.
GROUP = "hybridgen.plugins"


def load_plugins() -> None:
    """Import what HYBRIDGEN_PLUGINS names, and what installed packages offer.

    A checkpoint never names a module to import: only the environment of the person at the keyboard does.

    Raises:
        ValueError: if a module cannot be imported.
    """
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:  # whatever somebody's module does wrong
            raise ValueError(
                f"the installed plug-in {entry.name} cannot be loaded ({error}): mend or remove it"
            ) from error
    for name in filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(","))):
        _import(name)


def _import(name: str) -> None:
    path = Path(name)
    module = path.stem if name.endswith(".py") else name
    # Not the toolkit's place: where the user stands, or where the file is.
    folder = str(path.resolve().parent if name.endswith(".py") else Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever somebody's module does wrong
        raise ValueError(f"{VARIABLE}: {name} cannot be imported ({error}): give a module or a .py file") from error
    if name.endswith(".py") and Path(getattr(found, "__file__", None) or "").resolve() != path.resolve():
        raise ValueError(f"{VARIABLE}: {name} has the name of another module, {module}: rename it")
