"""For the site alone: references of docstrings, written for Sphinx, as what Markdown shows."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|obj|exc):`(~?)([^`]+)`")


def plain(text: str) -> str:
    """``:func:`~a.b.c``` as ```c```, and without the tilde as it stands."""
    return ROLE.sub(lambda found: f"`{found[2].rpartition('.')[2] if found[1] else found[2]}`", text)


class Roles(griffe.Extension):
    """Rewrites every docstring that is rendered."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each object once it is read."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
