"""The one error of this room, and the phrase that helps a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CodecError(ValueError):
    """A codec was given text, ids, options or a saved config that it cannot take.

    The message is one sentence for the person at the keyboard: what was given, what is wrong with it, what
    to do.
    """


def name_the_closest(name: object, valid: Iterable[str]) -> str:
    """Phrase the choice a person has: ``"use 'words'"`` for a near miss, otherwise every valid name.

    Args:
        name: What was given, of any type.
        valid: The names that would have been right.

    Returns:
        A clause without a full stop, to stand after a colon.
    """
    valid = list(valid)
    near = difflib.get_close_matches(name, valid, n=1) if isinstance(name, str) else []
    if near:
        return f"use {near[0]!r}"
    return "use one of " + ", ".join(map(repr, valid)) if valid else "leave it out"
