"""Parts of models from plain values, as configurations hold them."""

import difflib
import inspect
from typing import Any

from hybridgen.cells import Stack


def build_stack(options: dict[str, Any], input_size: int) -> Stack:
    """A stack from a mapping of its arguments.

    Args:
        options: arguments of :class:`hybridgen.cells.Stack` without ``input_size``.
        input_size: width of an input element.

    Raises:
        ValueError: if there is no such argument (the message names the closest), or a value does not fit.
    """
    known = [name for name in inspect.signature(Stack).parameters if name != "input_size"]
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
            raise ValueError(f"stack has no option {name!r}: {hint}")
    return Stack(input_size=input_size, **options)
