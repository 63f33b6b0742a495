"""What people leave empty, or write without quotes, in a configuration, read as they mean it."""

from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

#: Where nothing is no value: all below it commented out, it is as if it were not there.
_NEVER_EMPTY = ("model", "data", "trainer", "runs", "wandb", "predictions", "resume")
#: Options that are text, whatever it looks like: YAML has 2024 for a number and off for false.
_TEXTS = (
    *("name", "runs", "monitor", "predictions", "resume"),
    *("wandb", "wandb_project", "wandb_group"),
)


def read_as_meant() -> None:
    """Have the parsers of this process read configurations by :func:`as_meant`."""
    read = get_loader("yaml")
    if getattr(read, "as_meant", False):
        return

    def load(text: str) -> Any:
        return as_meant(read(text), text)

    load.as_meant = True
    set_loader("yaml", load, exceptions=(yaml.YAMLError,))


def as_meant(options: Any, text: str = "") -> Any:
    """Options without what is empty, and with text where text is wanted.

    Args:
        options: what was read; anything but a mapping comes back as it is.
        text: what it was read from, for the words that YAML makes numbers of.
    """
    if not isinstance(options, dict):
        return options
    odd = [name for name in _TEXTS if isinstance(options.get(name), bool | int | float)]
    words = _words(text) if odd else {}
    for name in odd:
        # 007 and 1.10 keep their zeros; for the dashboard, false has a word.
        no = name == "wandb" and options[name] is False
        options[name] = "off" if no else words.get(name, str(options[name]))
    for section in ("model", "data"):
        if isinstance(options.get(section), dict) and options[section].get("init_args", "") is None:
            del options[section]["init_args"]
            options[section] = options[section] or None
    options = {name: value for name, value in options.items() if value is not None or name not in _NEVER_EMPTY}
    return _with_arguments(options)


def _with_arguments(value: Any) -> Any:
    """The same without ``init_args`` that are empty, of callbacks too."""
    if isinstance(value, list):
        return [_with_arguments(each) for each in value]
    if not isinstance(value, dict):
        return value
    empty = "class_path" in value and value.get("init_args", "") is None
    return {name: _with_arguments(each) for name, each in value.items() if not (empty and name == "init_args")}


def _words(text: str) -> dict[str, str]:
    """What stands in a mapping of YAML, letter by letter."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: value.value for key, value in node.value if isinstance(value, yaml.ScalarNode)}
