"""Where data lies on this machine, and writing files so that nobody ever sees half of one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_UMASK = os.umask(0)  # the only way to ask for it is to set it
os.umask(_UMASK)


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/hybridgen``, by default ``~/.cache/hybridgen``; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybridgen"


def data_folders() -> list[Path]:
    """Return where public sets are looked for, in order: ``$HYBRIDGEN_DATA`` if set, then the cache."""
    chosen = os.environ.get("HYBRIDGEN_DATA")
    return ([Path(chosen)] if chosen else []) + [cache_folder() / "data"]


@contextmanager
def whole_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Write a file under a temporary name beside ``path``; it becomes ``path`` only if the block ends well.

    The temporary file is in the same folder and so on the same disk: giving it its name is one step. What is no file (a
    device, a pipe) is written into, not replaced; a link stays, and what it leads to is replaced.

    Yields:
        The open file, and its temporary path.

    Raises:
        OSError: It cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    special = is_special(path)
    if path.is_symlink() and not special:
        path = Path(os.path.realpath(path))
    folder = tempfile.gettempdir() if special else path.parent
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=folder)
    partial = Path(temporary)
    try:
        with os.fdopen(descriptor, "wb", buffering=1 << 20) as handle:
            yield handle, partial
            handle.flush()
            os.fsync(handle.fileno())
        if special:
            with partial.open("rb") as made, path.open("wb") as into:
                shutil.copyfileobj(made, into)
        else:
            partial.chmod(0o666 & ~_UMASK)  # mkstemp made it private
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Whether something is there that must be written into and never replaced: a device, a pipe, ``/dev/stdout``."""
    return path.exists() and (not path.is_file() or path.parts[:2] in (("/", "dev"), ("/", "proc")))


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole; line ends are as they are in the text.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    with whole_file(path) as (handle, _):
        handle.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole.

    Raises:
        OSError: It cannot be written.
    """
    write_text(path, json.dumps(value))


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None if there is no such file or no object in it."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
