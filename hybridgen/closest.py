"""The name a person probably meant."""

import difflib
from collections.abc import Iterable


def did_you_mean(asked: object, known: Iterable[str], otherwise: str) -> str:
    """``"did you mean 'lstm'?"`` where a known name is close to the one asked for, else ``otherwise``."""
    close = difflib.get_close_matches(asked, list(known), 1) if isinstance(asked, str) else []
    return f"did you mean {close[0]!r}?" if close else otherwise
