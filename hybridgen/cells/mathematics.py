"""Which fast way still computes what a cell's class says."""

import functools
from typing import Any

#: The methods that say what a cell computes.
MATHEMATICS = ("project", "project_step", "project_sequence", "advance", "coefficients", "emit")


def defines_mathematics(cell: Any, way: str) -> bool:
    """:func:`speaks_for` of a cell's class."""
    return speaks_for(type(cell), way)


@functools.cache
def speaks_for(kind: type, way: str) -> bool:
    """Whether the attribute behind a fast way speaks for the class.

    It does not where a subclass overrides the mathematics below the class that defines the fast way: then only the
    ways that call the overridden methods are right.
    """
    for cls in kind.__mro__:
        if way in cls.__dict__:
            return True
        if any(name in cls.__dict__ for name in MATHEMATICS):
            return False
    return False
