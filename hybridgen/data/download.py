"""Bringing a public set onto this machine: downloaded, or copied from a folder, but never half of a file.

A file is written under a temporary name in the folder where it will lie, checked, and only then given its
name, in one step. Whatever goes wrong before that leaves nothing behind and nothing overwritten.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from hybridgen.data.download_folder import fetch_folder
from hybridgen.data.errors import DataError, MissingDataError
from hybridgen.data.files import cache_folder, data_folders, whole_file
from hybridgen.data.public_sets import PublicFile, PublicSet, find_public_set

_BLOCK = 1 << 20  # bytes copied at once
_PATIENCE = 30.0  # seconds without an answer


class Fetched(NamedTuple):
    """What became of one file.

    Attributes:
        path: Where it lies.
        verified: Whether its content is known to be the public one; False where no checksum is known.
        sha256: Of the file as it lies there, in hexadecimal.
        was_there: Whether the right file lay there already.
    """

    path: Path
    verified: bool
    sha256: str
    was_there: bool


def fetch(
    name: str,
    *,
    copy_from: str | Path | None = None,
    to: str | Path | None = None,
    report: Callable[[str], None] = print,
) -> list[Fetched]:
    """Bring a public set onto this machine: the command ``hybridgen data NAME [--from DIR] [--to DIR]``.

    Args:
        name: Of the set, such as ``"ptb"``.
        copy_from: A folder that holds the files (or a folder NAME with them), to copy instead of
            downloading. Default: download.
        to: The folder in which a folder NAME is made. Default: the cache, where ``TextData`` looks by
            itself; for another folder, set ``HYBRIDGEN_DATA`` to it.
        report: Takes lines for the person who waits.

    Returns:
        One entry for each file, and one for a folder of many.

    Raises:
        DataError: No such set; no network; a file is missing, cut short or not the public one; or the
            folder cannot be written.
    """
    public_set = find_public_set(name)
    local = None if copy_from is None else _expanded(copy_from, "--from")
    folder = (cache_folder() / "data" if to is None else _expanded(to, "--to")) / public_set.name
    report(f"{public_set.title}\nlicence: {public_set.licence}")
    with _no_empty_folder(folder):
        return _fetch_into(folder, public_set, local, report)


def locate(public_set: PublicSet) -> list[Path]:
    """Return the files of a set on this machine, in the order of ``public_set.files``.

    Raises:
        DataError: They are not there, or a size shows that one is another file.
    """
    for folder in data_folders():
        paths = [folder / public_set.name / file.name for file in public_set.files]
        if all(path.is_file() for path in paths):
            for path, file in zip(paths, public_set.files, strict=True):
                _check_size(path, path.stat().st_size, file, f"remove it and run `hybridgen data {public_set.name}`")
            return paths
    raise MissingDataError(
        f"the set {public_set.name!r} is not on this machine: run `hybridgen data {public_set.name}`, "
        f"or set HYBRIDGEN_DATA to the folder that holds {public_set.name}/{public_set.files[0].name}"
    )


def _expanded(folder: str | Path, option: str) -> Path:
    """Return a folder with ``~`` as the home folder, which shells leave as it is after ``=``."""
    try:
        return Path(folder).expanduser()
    except RuntimeError:
        raise DataError(f"{option}={folder}: there is no such user's home folder: write the folder in full") from None


@contextmanager
def _no_empty_folder(folder: Path) -> Iterator[None]:
    """If the block fails, remove the folder and those above it that it made and left empty."""
    made = [place for place in (folder, *folder.parents) if not os.path.exists(place)]  # raises nothing
    try:
        yield
    except BaseException:
        for place in made:  # innermost first
            with suppress(OSError):  # it is not empty, or was never made
                place.rmdir()
        raise


def _fetch_into(
    folder: Path, public_set: PublicSet, local: Path | None, report: Callable[[str], None]
) -> list[Fetched]:
    results = []
    for file in public_set.files:
        result = _fetch_file(public_set, file, folder, local)
        state = "verified" if result.verified else f"NOT verified, no checksum is known; its SHA-256 is {result.sha256}"
        report(f"{result.path}: {'was there already' if result.was_there else 'done'}, {state}")
        results.append(result)
    if public_set.folder is not None:
        try:
            path, was_there = fetch_folder(public_set, folder, local, blocks_from)
        except OSError as error:
            raise DataError(
                f"{folder} cannot be written ({error.strerror or error}): choose a folder with --to"
            ) from None
        report(f"{path}: {'was there already' if was_there else 'done'}, verified")
        results.append(Fetched(path, True, public_set.folder.listing_sha256, was_there))
    return results


def _fetch_file(public_set: PublicSet, file: PublicFile, folder: Path, copy_from: Path | None) -> Fetched:
    path = folder / file.name
    if path.is_file() and (file.sha256 or file.git_blob) and _is_public(path, file):
        return Fetched(path, True, _digest(path), True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as (handle, partial):
            if copy_from is not None:
                told = str(_find_local(public_set, file, copy_from))
                blocks = _blocks_of(Path(told))
            else:
                told = file.address
                blocks = blocks_from(told, public_set.name)
            for block in blocks:
                handle.write(block)
            handle.flush()
            _check_size(told, partial.stat().st_size, file, "get another copy")
            if (file.sha256 or file.git_blob) and not _is_public(partial, file):
                expected = f"SHA-256 {file.sha256}" if file.sha256 else f"git blob {file.git_blob}"
                raise DataError(f"{told} is not the public file (its checksum is not {expected}): get another copy")
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}): choose a folder with --to") from None
    return Fetched(path, bool(file.sha256 or file.git_blob), _digest(path), False)


def blocks_from(address: str, name: str) -> Iterator[bytes]:
    """Yield the content behind an address, and raise if it ends before its announced length.

    Raises:
        DataError: There is no answer, or it breaks off.
    """
    remedy = f"copy the files to this machine by other means and run `hybridgen data {name} --from DIR`"
    request = urllib.request.Request(address, headers={"User-Agent": "hybridgen"})
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            announced = response.headers.get("Content-Length")
            received = 0
            while block := response.read(_BLOCK):
                received += len(block)
                yield block
    except urllib.error.HTTPError as error:
        raise DataError(f"{address} answers {error.code} {error.reason}: {remedy}") from None
    except urllib.error.URLError as error:
        raise DataError(f"{address} cannot be reached ({error.reason}): check the network, or {remedy}") from None
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{address} broke off ({error or type(error).__name__}): try again, or {remedy}") from None
    # A connection that ends early looks to read() like the end of the file.
    if announced is not None and received != int(announced):
        raise DataError(f"{address} broke off after {received} of {announced} bytes: try again, or {remedy}")


def _blocks_of(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as handle:
            while block := handle.read(_BLOCK):
                yield block
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None


def _find_local(public_set: PublicSet, file: PublicFile, folder: Path) -> Path:
    for place in (folder, folder / public_set.name):
        for name in (file.name, *file.aliases):
            if (place / name).is_file():
                return place / name
    names = " or ".join((file.name, *file.aliases))
    raise DataError(f"the folder {folder} has no file {names}: give with --from the folder that holds it")


def _check_size(what: str | Path, size: int, file: PublicFile, remedy: str) -> None:
    if file.size is not None and size != file.size:
        raise DataError(f"{what} has {size} bytes but the public file has {file.size}: {remedy}")


def _is_public(path: Path, file: PublicFile) -> bool:
    if file.sha256:
        return _digest(path) == file.sha256
    return _digest(path, "sha1", b"blob %d\0" % path.stat().st_size) == file.git_blob


def _digest(path: Path, algorithm: str = "sha256", prefix: bytes = b"") -> str:
    digest = hashlib.new(algorithm, prefix, usedforsecurity=False)
    for block in _blocks_of(path):
        digest.update(block)
    return digest.hexdigest()
