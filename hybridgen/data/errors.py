"""The one error of this room, and the checks that every option passes through. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hybridgen.closest import name_the_closest

#: Numbers that data which need no file have at most: with the copies that are made of them, some gigabytes.
MOST_DRAWN = 200_000_000


class DataError(ValueError):
    """Data, or an option about data, that cannot be used.

    The message is one sentence for the person at the keyboard: what was given, what is wrong with it, what
    to do.
    """


class MissingDataError(DataError):
    """A public set that is not on this machine, and nothing else is wrong."""


def check_choice(value: object, option: str, valid: Iterable[str]) -> None:
    """Check that ``value`` is one of ``valid``.

    Raises:
        DataError: It is not; the message names the closest.
    """
    valid = list(valid)
    if value not in valid:
        raise DataError(f"{option}={value!r} is unknown: {name_the_closest(value, valid)}")


def check_count(value: object, option: str, minimum: int = 1) -> int:
    """Return ``value`` if it is a whole number of at least ``minimum``.

    Raises:
        DataError: It is not.
    """
    if type(value) is not int or value < minimum:  # type(): True is not a count
        raise DataError(f"{option}={value!r} must be a whole number of at least {minimum}")
    return value


def check_drawn(option: str, *sizes: int | float) -> None:
    """Check that data that are drawn, of so many numbers as the product of ``sizes``, fit into a machine.

    Raises:
        DataError: They do not.
    """
    if math.prod(sizes) > MOST_DRAWN:
        raise DataError(f"{option} would draw {math.prod(sizes):.3g} numbers, more than {MOST_DRAWN:,}: give less")


def check_fraction(value: object, option: str) -> float:
    """Return ``value`` if it is a number of at least 0 and below 1.

    Raises:
        DataError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise DataError(f"{option}={value!r} must be a fraction of at least 0 and below 1, such as 0.05")
    return float(value)
