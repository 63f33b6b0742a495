"""hybridgen: recurrent generative models on one shared cell library."""

from typing import Any

#: The one place of the version: pyproject.toml reads it here.
__version__ = "0.1.0"

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `hybridgen --help` must not wait for it.
    if name == "load":
        from hybridgen.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
