"""Encoding a text once: the token file is built in one pass at constant memory, and found again the next time.

A token file is three files in the cache folder. Their names carry what was encoded and how; the index, a small
JSON file, is written last and names the other two, so that a run that stops half way leaves no index, and two
runs that build the same file at once end with the same content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from hybridgen import codecs
from hybridgen.codecs import CodecError, TextCodec
from hybridgen.data.errors import DataError
from hybridgen.data.files import read_json, whole_file, write_json
from hybridgen.data.reading import Document, Errors, lines, pieces
from hybridgen.data.tokens import TokenCounts, TokenFile, token_dtype

Unit = Literal["document", "line"]
_BLOCK = 1 << 16  # ids written together
_FORMAT = 1  # rises when the same index would mean another file


def encode_documents(
    documents: Sequence[Document],
    codec: TextCodec,
    *,
    cache_dir: Path,
    unit: Unit = "document",
    errors: Errors = "strict",
) -> TokenFile:
    """Encode documents into a token file, or find the one that was made of them before.

    It is made anew when a document changed (path, size, time of change; text in memory by its content), when the
    codec is another, or when the files are damaged.

    Args:
        documents: In the order in which they are to stand.
        codec: Turns them into tokens.
        cache_dir: Folder for token files; made if missing.
        unit: What is separated by ``<eos>`` and has a fresh state: each document, or each line.
        errors: What to do with bytes that are not UTF-8: ``"strict"`` or ``"replace"``.

    Raises:
        DataError: A document cannot be read, is not UTF-8, or has what the codec cannot encode; there is no text
            at all; or the cache folder cannot be written.
    """
    codec_hash = _hash(codec.to_config())
    key = _hash([_FORMAT, codec_hash, unit, errors, [document.identity() for document in documents]])
    fingerprint = _hash([document.fingerprint() for document in documents])
    index_path = cache_dir / f"{key}.json"
    index = read_json(index_path)
    if index is None or index.get("fingerprint") != fingerprint or not _is_whole(index, cache_dir):
        dtype = token_dtype(codec.vocab_size)
        index = {
            "format": _FORMAT,
            "codec": codec_hash,
            "fingerprint": fingerprint,
            "source": documents[0].name if documents else "",
            "unit": unit,
            "errors": errors,
            "dtype": dtype,
            "tokens_file": f"{key}.{fingerprint}.tokens",
            "starts_file": f"{key}.{fingerprint}.starts",
        }
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            with (
                whole_file(cache_dir / index["tokens_file"]) as (tokens_file, _),
                whole_file(cache_dir / index["starts_file"]) as (starts_file, _),
            ):
                stream = _Stream(codec, dtype, tokens_file)
                counts = _encode(documents, codec, unit, errors, stream, starts_file)
                index["length"] = stream.length
            index["counts"] = counts._asdict()
            write_json(index_path, index)
        except OSError as error:
            raise _unwritable(cache_dir, error) from None
        for stale in cache_dir.glob(f"{key}.*"):
            if stale.name not in (index_path.name, index["tokens_file"], index["starts_file"]):
                with suppress(OSError):  # another run may still read it, or remove it too
                    stale.unlink()
    return TokenFile(
        cache_dir / index["tokens_file"],
        cache_dir / index["starts_file"],
        dtype=index["dtype"],
        has_eos=codec.eos_id is not None,
        counts=TokenCounts(**index["counts"]),
        start_id=codec.eos_id if codec.bos_id is None else codec.bos_id,
    )


def build_codec(
    name: str,
    documents: Sequence[Document],
    *,
    cache_dir: Path,
    options: Mapping[str, Any],
    errors: Errors = "strict",
) -> TextCodec:
    """Build a codec on documents, or find the one that was built on them before.

    Args:
        name: Of the codec, as ``codecs.make`` knows it.
        documents: The text that its vocabulary is built on.
        cache_dir: Folder for built codecs; made if missing.
        options: Of that codec.
        errors: What to do with bytes that are not UTF-8.

    Raises:
        CodecError: There is no such codec or option.
        DataError: A document cannot be read, or the cache folder cannot be written.
    """
    key = _hash([_FORMAT, name, dict(options), errors, [document.identity() for document in documents]])
    fingerprint = _hash([document.fingerprint() for document in documents])
    path = cache_dir / f"{key}.codec.json"
    saved = read_json(path)
    if saved is not None and saved.get("fingerprint") == fingerprint:
        with suppress(CodecError):  # written by another version: built anew
            return codecs.from_config(saved["config"])
    texts = (piece for document in documents for piece in pieces(document, errors))
    codec = codecs.make(name, texts, **options)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, {"fingerprint": fingerprint, "config": codec.to_config()})
    except OSError as error:
        raise _unwritable(cache_dir, error) from None
    return codec


class _Stream:
    """Writes ids to a token file in blocks, counting the bytes that they stand for."""

    def __init__(self, codec: TextCodec, dtype: str, file: BinaryIO) -> None:
        self.length = 0
        self.bytes = 0
        self.last: int | None = None
        self._codec = codec
        self._dtype = dtype
        self._file = file
        self._block: list[np.ndarray] = []
        self._block_length = 0
        self._counted = np.zeros(0, dtype=np.int64)  # the last id of what is counted, or nothing yet

    def write(self, ids: np.ndarray) -> None:
        self._block.append(ids)
        self._block_length += ids.size
        self.length += ids.size
        self.last = int(ids[-1])
        if self._block_length >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        if self._block:
            ids = np.concatenate([self._counted, *self._block])
            # What a word writes depends on whether a line starts before it, so the id before goes along.
            self.bytes += self._codec.count_bytes(ids) - self._codec.count_bytes(self._counted)
            self._file.write(ids[len(self._counted) :].astype(self._dtype).tobytes())
            self._counted = ids[-1:]
            self._block, self._block_length = [], 0


def _encode(
    documents: Sequence[Document],
    codec: TextCodec,
    unit: Unit,
    errors: Errors,
    stream: _Stream,
    starts_file: BinaryIO,
) -> TokenCounts:
    has_eos = codec.eos_id is not None
    eos = np.array([codec.eos_id] if has_eos else [], dtype=np.int64)
    text_bytes = text_characters = units = 0
    first = eos  # the one element that is no target
    if has_eos:
        stream.write(eos)
    for name, parts in _units(documents, unit, errors):
        begun = stream.length
        read = 0  # characters of this unit
        for text in parts:
            try:
                ids = codec.encode(text).numpy()
            except CodecError as error:
                where = f", after the first {read} characters" if read else ""
                raise DataError(f"{name} cannot be encoded{where}: {error}") from None
            read += len(text)
            text_bytes += len(text) if text.isascii() else len(text.encode("utf-8"))
            if ids.size:
                first = first if first.size else ids[:1]
                stream.write(ids)
        text_characters += read
        if stream.length > begun:
            if has_eos and stream.last != codec.eos_id:
                stream.write(eos)
            starts_file.write((begun - has_eos).to_bytes(8, "little"))
            units += 1
    if units == 0:
        name = documents[0].name if documents else "the list of documents"
        raise DataError(f"there is no text to encode in {name}: it is empty or blank")
    stream.flush()
    return TokenCounts(
        tokens=stream.length - has_eos,
        targets=stream.length - 1,
        target_bytes=stream.bytes - codec.count_bytes(first),
        text_bytes=text_bytes,
        text_characters=text_characters,
        units=units,
    )


def _units(documents: Sequence[Document], unit: Unit, errors: Errors) -> Iterator[tuple[str, Iterable[str]]]:
    """Yield the name and the pieces of text of each unit."""
    for document in documents:
        if unit == "document":
            yield document.name, pieces(document, errors)
        else:
            for number, line in enumerate(lines(document, errors), start=1):
                yield f"line {number} (not counting blank ones) of {document.name}", [line]


def _is_whole(index: Mapping[str, Any], cache_dir: Path) -> bool:
    try:
        sizes = [(cache_dir / index[name]).stat().st_size for name in ("tokens_file", "starts_file")]
        width = np.dtype(index["dtype"]).itemsize
        return sizes == [index["length"] * width, index["counts"]["units"] * 8]
    except (OSError, KeyError, TypeError):
        return False


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(f"the cache folder {folder} cannot be written ({error.strerror or error}): set cache_dir")
