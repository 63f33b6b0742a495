"""Documents: where text lies, read as a stream of pieces so that it may be larger than memory.

A piece never ends inside a word (so that words can be counted and looked up piece by piece), and where lines
allow it ends with a line that is followed by a line which does not start with whitespace: there every usual
way of splitting text into tokens has a border too, so that encoding the pieces is encoding the whole.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from hybridgen.data.errors import DataError

Errors = Literal["strict", "replace"]

READ_SIZE = 1 << 20  # bytes read at once
_LONGEST_WORD = 1 << 24  # characters: text with no space at all is cut there
_LINE_START = re.compile(r"(?<=\n)(?=\S)")
_BEFORE_A_WORD = re.compile(r"(?<=\S)(?=[^\S\r\n])")


@dataclass(frozen=True)
class FileDocument:
    """A file of UTF-8 text, or the part of it between two byte offsets.

    Attributes:
        path: Of the file.
        start: Offset of the first byte.
        stop: Offset after the last byte, or None for the end of the file.
    """

    path: Path
    start: int = 0
    stop: int | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    def identity(self) -> list[str | int | None]:
        """Return what tells the document from others, as plain values."""
        return [str(self.path.absolute()), self.start, self.stop]

    def fingerprint(self) -> list[str | int | None]:
        """Return what changes when the content does, as plain values: size in bytes and time of change.

        Raises:
            DataError: The file cannot be read.
        """
        try:
            status = self.path.stat()
        except OSError as error:
            raise _unreadable(self.path, error) from None
        return [status.st_size, status.st_mtime_ns]

    def chunks(self, errors: Errors) -> Iterator[str]:
        """Yield the text in chunks of some :data:`READ_SIZE` bytes, cut between any two characters.

        A byte-order mark at the start of the file is not part of the text; ends of lines stay as they are.

        Args:
            errors: What to do with bytes that are not UTF-8: ``"strict"`` raises, ``"replace"`` reads them
                as U+FFFD.

        Raises:
            DataError: The file cannot be read, or is not UTF-8.
        """
        try:
            with self.path.open("rb") as handle:
                handle.seek(self.start)
                yield from self._decode(handle, errors)
        except OSError as error:
            raise _unreadable(self.path, error) from None

    def _decode(self, handle: BinaryIO, errors: Errors) -> Iterator[str]:
        offset = self.start  # of the first byte of `pending`
        pending = b""
        final = False
        while not final:
            read_until = offset + len(pending)
            wanted = READ_SIZE if self.stop is None else min(READ_SIZE, self.stop - read_until)
            block = handle.read(wanted)
            final = not block
            pending += block
            try:
                text, consumed = codecs.utf_8_decode(pending, errors, final)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self.path} is not UTF-8 text: byte 0x{pending[error.start]:02X} at offset "
                    f"{offset + error.start} ({error.reason}); convert the file, or read such bytes as "
                    "U+FFFD with errors='replace' (--data.errors replace)"
                ) from None
            if offset == 0:
                text = text.removeprefix("\ufeff")
            pending = pending[consumed:]
            offset += consumed
            if text:
                yield text


@dataclass(frozen=True)
class TextDocument:
    """Text in memory.

    Attributes:
        name: What messages call it.
        text: The text.
    """

    name: str
    text: str

    def identity(self) -> list[str | int | None]:
        """Return what tells the document from others; see :meth:`FileDocument.identity`."""
        return [self.name]

    def fingerprint(self) -> list[str | int | None]:
        """Return what changes when the content does: its SHA-256."""
        return [hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()]

    def chunks(self, errors: Errors) -> Iterator[str]:
        """Yield the text; see :meth:`FileDocument.chunks`."""
        del errors
        for start in range(0, len(self.text), READ_SIZE):
            yield self.text[start : start + READ_SIZE]


Document = FileDocument | TextDocument


def pieces(document: Document, errors: Errors = "strict") -> Iterator[str]:
    """Yield a document in pieces that can be encoded one by one; none is empty.

    Raises:
        DataError: The document cannot be read, or is not UTF-8.
    """
    pending = ""
    for chunk in document.chunks(errors):
        cut = _last_cut(pending)
        if cut:
            yield pending[:cut]
            pending = pending[cut:]
        pending += chunk
    if pending:
        yield pending


def lines(document: Document, errors: Errors = "strict") -> Iterator[str]:
    r"""Yield the lines of a document without their ends, ``"\n"`` or ``"\r\n"``; blank lines are left out.

    Raises:
        DataError: The document cannot be read, or is not UTF-8.
    """
    pending = ""
    for chunk in document.chunks(errors):
        *whole, pending = (pending + chunk).split("\n")
        for line in whole:
            if line and not line.isspace():
                yield line.removesuffix("\r")
    if pending and not pending.isspace():
        yield pending.removesuffix("\r")


def _last_cut(text: str) -> int:
    """Return the last place where ``text`` may be cut, or 0 to wait for more of it."""
    # From the end, in growing windows: the place is nearly always in the last lines.
    for border in (_LINE_START, _BEFORE_A_WORD):
        size = 1 << 12
        while True:
            start = max(0, len(text) - size)
            places = [match.start() for match in border.finditer(text, start) if match.start() > 0]
            if places:
                return places[-1]
            if start == 0:
                break
            size *= 8
    return len(text) if len(text) >= _LONGEST_WORD else 0


def _unreadable(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"there is no file {path}: check the path")
    return DataError(f"{path} cannot be read ({error.strerror or error}): check that it is a file that you may read")
