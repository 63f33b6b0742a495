"""Writing a checkpoint so that whatever happens, a whole one is there: the new one or the one before."""

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from hybridgen.reliability.verify import CheckpointError, manifest_line, manifest_of, read_manifest, sha256

_SPARE = 1 << 20  # bytes beside the tensors: names, the archive's directory
_PARTIAL = ".partial"
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class _Hashing:
    """A file that is written to and a checksum of what is written, in one pass over the bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def size_of(value: Any, seen: set[int] | None = None) -> int:
    """Bytes of the tensors in nested dicts, lists and tuples, those that share their memory counted once."""
    seen = set() if seen is None else seen
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        if storage.data_ptr() in seen:
            return 0
        seen.add(storage.data_ptr())
        return storage.nbytes()
    if isinstance(value, dict):
        return sum(size_of(part, seen) for part in value.values())
    if isinstance(value, list | tuple):
        return sum(size_of(part, seen) for part in value)
    return 0


def save(checkpoint: dict[str, Any], path: Path, *, rotate: bool = False) -> str:
    """Write a checkpoint and its manifest.

    It is written beside its place, forced to the disk, and put there in one step, so that a process that is killed or
    a disk that is full leaves what was there before.

    Args:
        checkpoint: plain values and tensors.
        path: where to.
        rotate: keep the file that was there as ``previous.ckpt``.

    Returns:
        The checksum (SHA-256).

    Raises:
        CheckpointError: if it cannot be written; the message says why, and what was there is untouched.
    """
    folder = path.parent
    kept = f"{path} is kept as it was" if path.exists() else "nothing was written"
    partial = folder / f".{path.name}.{os.getpid()}{_PARTIAL}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        needed, free = size_of(checkpoint) + _SPARE, shutil.disk_usage(folder).free
        if free < needed:
            raise CheckpointError(
                f"the checkpoint {path} was not saved: it needs {_megabytes(needed)} but {folder} has "
                f"{_megabytes(free)} left; {kept}: free some space"
            )
        with partial.open("wb") as file:
            writer = _Hashing(file)
            torch.save(checkpoint, writer)
            _to_disk(file)
        digest = writer.digest.hexdigest()
        if rotate and path.exists():
            _keep(path, folder / PREVIOUS)
        _publish(partial, path, digest)
    except (OSError, RuntimeError) as error:
        # Torch tells of a write that failed by a RuntimeError, whose cause is the OSError of the file.
        found = error if isinstance(error, OSError) else _os_error(error)
        if found is None:
            raise
        raise CheckpointError(f"the checkpoint {path} was not saved: {_why(found, folder)}; {kept}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return digest


def _os_error(error: BaseException) -> OSError | None:
    """The operating system's complaint behind an error."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError):
            return behind
        behind = behind.__cause__ or behind.__context__
    return None


def _why(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"there is no space left in {folder} ({error.strerror}): free some"
    return f"{folder} cannot be written to ({error.strerror or error}): give another place by --runs"


def _megabytes(number: int) -> str:
    return f"{number / 1e6:.1f} MB"


def _to_disk(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _folder_to_disk(folder: Path) -> None:
    """So that the new name is on the disk too; not every system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _write_manifest(path: Path, digests: list[str]) -> None:
    partial = path.parent / f".{manifest_of(path).name}.{os.getpid()}{_PARTIAL}"
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(manifest_line(digest, path) for digest in digests)
            _to_disk(file)
        os.replace(partial, manifest_of(path))
    finally:
        partial.unlink(missing_ok=True)


def _publish(partial: Path, path: Path, digest: str) -> None:
    """Put a whole file in its place; at every moment the manifest has the checksum of what is there."""
    try:
        before = read_manifest(path) if path.exists() else None
    except CheckpointError:
        before = None
    if path.exists() and before is None:
        before = [sha256(path)]  # somebody else's file
    _write_manifest(path, [digest, *(before or [])])
    os.replace(partial, path)
    _write_manifest(path, [digest])
    _folder_to_disk(path.parent)


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name, under which it stays when another takes its place."""
    digests = read_manifest(path) or [sha256(path)]
    second = path.parent / f".{previous.name}.{os.getpid()}{_PARTIAL}"
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
    except OSError:  # a file system without links: a copy is slower and as good
        shutil.copyfile(path, second)
    try:
        for number, digest in enumerate(digests):
            if len(digests) == 1 or sha256(second) == digest:
                _publish(second, previous, digests[number])
                return
    finally:
        second.unlink(missing_ok=True)


def free_number(path: Path) -> Path:
    """The first of ``NAME-0.EXT``, ``NAME-1.EXT``... beside a file that is not there."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count())
    return next(other for other in numbered if not os.path.lexists(other))


def set_aside(path: Path, *, damaged: bool) -> Path:
    """Take a checkpoint out of the way under another name.

    Args:
        path: of it.
        damaged: whether it is broken, and must neither be used nor take a good one's place; else it is one that
            another branch of the training has, and stays a checkpoint.

    Returns:
        Where it is now: ``NAME.ckpt.damaged``, or ``NAME-0.ckpt``, ``NAME-1.ckpt``...
    """
    if damaged:
        aside = path.with_name(path.name + ".damaged")
        os.replace(path, aside)
        manifest_of(path).unlink(missing_ok=True)
        return aside
    aside = free_number(path)
    digests = read_manifest(path)
    if digests is not None:
        _write_manifest(aside, digests)
    os.replace(path, aside)
    manifest_of(path).unlink(missing_ok=True)
    return aside


def remove_leftovers(folder: Path) -> list[Path]:
    """Delete what saves that were killed have left in a folder; returns what was there."""
    found = sorted(path for path in folder.glob(f".*{_PARTIAL}") if path.is_file()) if folder.is_dir() else []
    for path in found:
        path.unlink(missing_ok=True)
    return found


def remove(path: Path) -> None:
    """Delete a checkpoint and its manifest."""
    for file in (path, manifest_of(path)):
        file.unlink(missing_ok=True)
