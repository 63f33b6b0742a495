"""The one error of this room, and the phrase that helps a misspelt name."""

from __future__ import annotations

from collections.abc import Iterable

from hybridgen.closest import did_you_mean


class CodecError(ValueError):
    """A codec was given text, ids, options or a saved config that it cannot take.

    The message is one sentence for the person at the keyboard: what was given, what is wrong with it, what
    to do.
    """


def name_the_closest(name: object, valid: Iterable[str]) -> str:
    """Phrase the choice a person has: ``"did you mean 'words'?"`` for a near miss, otherwise every valid name.

    Args:
        name: What was given, of any type.
        valid: The names that would have been right.

    Returns:
        A clause to stand after a colon.
    """
    valid = list(valid)
    return did_you_mean(name, valid, "use one of " + ", ".join(map(repr, valid)) if valid else "leave it out")
