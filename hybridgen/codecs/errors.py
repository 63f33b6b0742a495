"""The one error of this room."""

from __future__ import annotations


class CodecError(ValueError):
    """A codec was given text, ids, options or a saved config that it cannot take.

    The message is one sentence for the person at the keyboard: what was given, what is wrong with it, what
    to do.
    """
