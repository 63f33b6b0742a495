"""Bringing a public folder of many files onto this machine: whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from hybridgen.data.errors import DataError
from hybridgen.data.public_sets import PublicFolder, PublicSet

Blocks = Callable[[str, str], Iterator[bytes]]


def fetch_folder(public_set: PublicSet, folder: Path, copy_from: Path | None, blocks_from: Blocks) -> tuple[Path, bool]:
    """Bring the folder of a set below ``folder``.

    The files come into a temporary folder beside it, are compared with the checksum of their list, and only then get
    the folder's name, in one step.

    Args:
        public_set: A set with a ``folder``.
        folder: Where it will lie.
        copy_from: A folder that holds the files (in a folder of the set's or the folder's name, or both), to copy
            instead of downloading.
        blocks_from: Yields the content behind an address, given the set's name too.

    Returns:
        Its path, and whether it was there already.

    Raises:
        DataError: It cannot be had or written, or is not the public one.
        OSError: It cannot be written.
    """
    wanted = public_set.folder
    assert wanted is not None
    target = folder / wanted.name
    if target.is_dir():
        if listing_sha256(target, wanted.suffix) == wanted.listing_sha256:
            return target, True
        raise DataError(
            f"the files in {target} are not the public ones: remove the folder, or choose another with --to"
        )
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{wanted.name}.", suffix=".partial", dir=folder))
    try:
        if copy_from is not None:
            told = _find_local(public_set, wanted, copy_from)
            for path in told.iterdir():
                if path.name.endswith(wanted.suffix) and path.is_file():
                    shutil.copyfile(path, partial / path.name)
        else:
            told = wanted.archive
            _unpack(wanted, blocks_from(wanted.archive, public_set.name), partial)
        number = len(list(partial.iterdir()))
        if number != wanted.number:
            raise DataError(
                f"{told} has {number} files {wanted.suffix} but the public set {wanted.number}: get another copy"
            )
        if listing_sha256(partial, wanted.suffix) != wanted.listing_sha256:
            raise DataError(f"the files of {told} are not the public ones (their checksum differs): get another copy")
        partial.chmod(0o755)  # mkdtemp made it private
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target, False


def listing_sha256(folder: Path, suffix: str) -> str:
    """Return the SHA-256 of the lines ``"SHA256  NAME\\n"`` of the files in a folder, sorted by name."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir(), key=lambda path: path.name.encode()):
        if path.name.endswith(suffix):
            digest.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n".encode())
    return digest.hexdigest()


def _find_local(public_set: PublicSet, wanted: PublicFolder, folder: Path) -> Path:
    for place in (folder / public_set.name / wanted.name, folder / wanted.name, folder / public_set.name, folder):
        if place.is_dir() and any(path.name.endswith(wanted.suffix) for path in place.iterdir()):
            return place
    raise DataError(f"the folder {folder} has no files {wanted.suffix}: give with --from the folder that holds them")


def _unpack(wanted: PublicFolder, blocks: Iterator[bytes], partial: Path) -> None:
    """Write the wanted files of an archive, by their names alone: nothing can be written anywhere else."""
    with tempfile.TemporaryFile() as archive:
        for block in blocks:
            archive.write(block)
        archive.seek(0)
        try:
            with tarfile.open(fileobj=archive, mode="r:gz") as members:
                for member in members:
                    path = PurePosixPath(member.name)
                    if member.isfile() and str(path.parent) == wanted.inside and path.name.endswith(wanted.suffix):
                        content = members.extractfile(member)
                        assert content is not None
                        with content, (partial / path.name).open("wb") as file:
                            shutil.copyfileobj(content, file)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{wanted.archive} is no archive that can be unpacked ({error}): try again") from None
