"""Parts of models from plain values, as configurations hold them."""

import inspect
from typing import Any

from hybridgen.cells import Stack
from hybridgen.closest import did_you_mean


def build_stack(options: dict[str, Any], input_size: int) -> Stack:
    """A stack from a mapping of its arguments.

    Args:
        options: arguments of :class:`hybridgen.cells.Stack` without ``input_size``.
        input_size: width of an input element.

    Raises:
        ValueError: if there is no such argument (the message names the closest), or a value does not fit.
    """
    known = [name for name in inspect.signature(Stack).parameters if name != "input_size"]
    otherwise = f"it has {', '.join(known)}"
    for name in options:
        if name not in known:
            raise ValueError(f"stack has no option {name!r}: {did_you_mean(name, known, otherwise)}")
    return Stack(input_size=input_size, **options)


def check_codec(codec: Any, data: Any, give: str = "the model's codec") -> None:
    """Refuse data whose codec is not the one that a model was trained with.

    Args:
        codec: the model's.
        data: the data module; None is fine.
        give: what the data should be given.

    Raises:
        ValueError: if it is another.
    """
    if data is not None and data.codec.to_config() != codec.to_config():
        raise ValueError(f"the data's codec is not the one this model was trained with: give the data {give}")


#: What to give text.
SAME_TEXT_CODEC = "the model's codec (the same codec options and training text, or the saved codec itself)"
