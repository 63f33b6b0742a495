"""The name a person probably meant."""

import difflib
from collections.abc import Iterable


def did_you_mean(asked: object, known: Iterable[str], otherwise: str) -> str:
    """``"did you mean 'lstm'?"`` where a known name is close to the one asked for, else ``otherwise``."""
    close = difflib.get_close_matches(asked, list(known), 1) if isinstance(asked, str) else []
    return f"did you mean {close[0]!r}?" if close else otherwise


def name_the_closest(name: object, valid: Iterable[str]) -> str:
    """Phrase the choice a person has: ``"did you mean 'ptb'?"`` for a near miss, otherwise every valid name.

    Args:
        name: What was given, of any type.
        valid: The names that would have been right.

    Returns:
        A clause to stand after a colon.
    """
    valid = list(valid)
    return did_you_mean(name, valid, "choose one of " + ", ".join(map(repr, valid)) if valid else "leave it out")
