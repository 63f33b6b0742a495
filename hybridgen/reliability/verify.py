"""Is a file a whole checkpoint of this toolkit? Asked before anything of it is used; nothing in it is ever executed."""

import hashlib
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

_BLOCK = 1 << 20
#: What makes a model: its class, its options, how its data are encoded, its weights.
_PARTS = {"hybridgen_model", "options", "codec", "state_dict"}
_DIGEST = re.compile(r"[0-9a-f]{64}")


class CheckpointError(ValueError):
    """A file that is no checkpoint of this toolkit, or a damaged one, or one that cannot be written."""


def manifest_of(path: Path) -> Path:
    """The file beside a checkpoint that has its checksum, as ``sha256sum -c`` reads it."""
    return path.with_name(path.name + ".sha256")


def manifest_line(digest: str, path: Path) -> str:
    """A line of a manifest."""
    return f"{digest}  {path.name}\n"


def read_manifest(path: Path) -> list[str] | None:
    """The checksums that a checkpoint may have, or None where there is no manifest.

    There are two while a new file takes the place of an old one, so that a process that is killed between the two
    leaves no file without its checksum.

    Raises:
        CheckpointError: if the manifest is no such file.
    """
    manifest = manifest_of(path)
    if not manifest.is_file():
        return None
    digests = _DIGEST.findall(manifest.read_text(encoding="utf-8", errors="replace"))
    if not digests:
        raise CheckpointError(f"{manifest} holds no checksum: delete it if {path} is known to be good")
    return digests


def sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def verify(path: str | Path) -> str:
    """Find out whether a file is whole.

    By its manifest where it has one, which finds any changed byte. By the checksums inside the archive where it has
    none (a checkpoint that was copied alone), which torch itself does not look at.

    Args:
        path: of a checkpoint.

    Returns:
        By what it was found whole: ``sha256`` or ``crc32``.

    Raises:
        CheckpointError: if there is no such file, it is damaged, or it is something else; the message says which.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise CheckpointError(f"there is no checkpoint at {path}: give the path of a .ckpt file")
        size = path.stat().st_size
        if size == 0:
            raise CheckpointError(f"{path} is no checkpoint, it is empty: {_other(path)}")
        digests = read_manifest(path)
        if digests is not None:
            if sha256(path) not in digests:
                found = f"its {size} bytes fail the checksum in {manifest_of(path).name}"
                raise CheckpointError(f"{path} is damaged ({found}): {_other(path)}")
            return "sha256"
        with path.open("rb") as file:  # by its path, is_zipfile would take one that cannot be read for another kind
            if not zipfile.is_zipfile(file):
                raise CheckpointError(f"{path} is no checkpoint, or it was cut short: {_other(path)}")
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except OSError as error:
        what = f"{path} cannot be read ({error.strerror or error})"
        raise CheckpointError(f"{what}: check the path and its permissions, or give another file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged (it is no whole archive): {_other(path)}") from None
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged ({damaged} fails its checksum): {_other(path)}")
    return "crc32"


def read(path: str | Path, *, complete: bool = True) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU.

    Args:
        path: of a checkpoint.
        complete: whether it must have all that makes a model; false for weights that processes hand over by a file.

    Raises:
        CheckpointError: if it is not whole (:func:`verify`), asks for code to be run, or is of something else.
    """
    path = Path(path)
    verify(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Torch's own message advises to read the file in a way that runs what is in it.
        raise CheckpointError(f"{path} {refused(error)}") from None
    if not isinstance(checkpoint, dict) or (complete and not checkpoint.keys() >= _PARTS):
        raise CheckpointError(f"{path} is no checkpoint of a hybridgen model: give a file that hybridgen fit wrote")
    if complete:
        _check_parts(path, checkpoint)
    return checkpoint


def _check_parts(path: Path, checkpoint: dict[str, Any]) -> None:
    """Refuse a file whose parts have the right names alone.

    Raises:
        CheckpointError: naming the first that is something else.
    """
    kinds = {"hybridgen_model": str, "options": dict, "codec": dict | None, "state_dict": dict}
    kinds["hybridgen_resume"] = dict
    for name, kind in kinds.items():
        value = checkpoint.get(name, {})  # older ones have nothing to resume by
        if not isinstance(value, kind):
            raise CheckpointError(
                f"{path} is no checkpoint of a hybridgen model, its {name} is a {type(value).__name__}: give a file "
                "that hybridgen fit wrote"
            )


def refused(error: Exception) -> str:
    """Why torch does not read a file without running what is in it, without its advice to do so."""
    wanted = re.search(r"GLOBAL ([\w.]+)|with type ([\w.]+)|function ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and wanted:
        name = next(group for group in wanted.groups() if group)
        return f"holds something that no checkpoint of this toolkit does: it asks for {name} to be run"
    return "holds something that no checkpoint of this toolkit does: give a file that hybridgen fit wrote"


def candidates(folder: Path) -> list[Path]:
    """The checkpoints of a folder in the order in which training would go on from them: the latest first."""
    order = {"last.ckpt": 0, "previous.ckpt": 1}
    files = [path for path in folder.glob("*.ckpt") if path.is_file()]
    return sorted(files, key=lambda path: (order.get(path.name, 2), -path.stat().st_mtime, path.name))


def newest_valid(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest whole checkpoint of a folder.

    Args:
        folder: with checkpoints; need not exist.

    Returns:
        Its path, or None where there is none, and what is wrong with each newer one.
    """
    damaged: dict[Path, str] = {}
    for path in candidates(folder):
        try:
            verify(path)
        except CheckpointError as error:
            damaged[path] = str(error)
        else:
            return path, damaged
    return None, damaged


def _other(path: Path) -> str:
    """What to do instead of using a damaged file."""
    for other in candidates(path.parent):
        if other.name != path.name and other.name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
            return f"use another checkpoint of the run, such as {other}"
    return "give a file that hybridgen fit wrote"
