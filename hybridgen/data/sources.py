"""Where text comes from, divided into ``train``, ``valid`` and ``test``: lists of documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybridgen.closest import name_the_closest
from hybridgen.data.download import locate
from hybridgen.data.embedded import embedded_documents
from hybridgen.data.errors import DataError, check_fraction
from hybridgen.data.public_sets import TEXT_SETS
from hybridgen.data.reading import Document, FileDocument

PARTS = ("train", "valid", "test")
_LONGEST_SEARCH = 1 << 20  # bytes in which a line's end is looked for


def find_source(
    source: str | Path, *, pattern: str = "*.txt", valid_fraction: float = 0.05, test_fraction: float = 0.05
) -> dict[str, list[Document]]:
    """Find text by name or path and divide it.

    - ``"embedded"``: English text from the standard library, divided by topic.
    - ``"ptb"``, ``"wikitext-2"``, ``"tinyshakespeare"``: public sets with their own division, found in
      ``$HYBRIDGEN_DATA`` or where ``hybridgen data`` put them.
    - A folder with ``train.txt`` (and ``valid.txt``, ``test.txt``): divided already.
    - Another folder: each file that matches ``pattern`` is a document, in the order of their paths; the last
      documents are for ``test``, those before them for ``valid``.
    - A file: its last bytes are for ``test``, those before them for ``valid``, both from the start of a line (of
      a word, where there is no other line).

    Args:
        source: The name or path.
        pattern: Which files of a folder are text, such as ``"*.txt"``, or ``"**/*.md"`` for folders within.
        valid_fraction: Of the bytes of a file, or of the documents of a folder. 0 leaves the part out.
        test_fraction: Likewise.

    Returns:
        Documents by part; a part with none is left out.

    Raises:
        DataError: There is no such text, or none in it, or too few documents to divide.
    """
    path = Path(source).expanduser()
    if str(source) == "embedded":
        return dict(embedded_documents())
    if str(source) in TEXT_SETS:
        return _public_parts(str(source))
    check_fraction(valid_fraction, "valid_fraction")
    check_fraction(test_fraction, "test_fraction")
    if valid_fraction + test_fraction >= 1:
        raise DataError(
            f"valid_fraction={valid_fraction} and test_fraction={test_fraction} leave nothing to train on: "
            "lower them to less than 1 together"
        )
    if path.is_dir():
        if (path / "train.txt").is_file():
            paths = {part: path / f"{part}.txt" for part in PARTS}
            return find_parts(**{part: file for part, file in paths.items() if file.exists()})
        return _divide_documents(_documents_in(path, pattern), path, valid_fraction, test_fraction)
    if path.exists():
        return _divide_file(_checked_file(path), valid_fraction, test_fraction)
    known = ["embedded", *TEXT_SETS]
    raise DataError(f"there is no file or folder {path} and no source of that name: {name_the_closest(source, known)}")


def find_parts(
    *,
    train: str | Path | None = None,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    pattern: str = "*.txt",
) -> dict[str, list[Document]]:
    """Take each part from its own file, or its own folder of files that match ``pattern``.

    Returns:
        Documents by part; a part that is None is left out.

    Raises:
        DataError: A path is missing, or there is no text in it.
    """
    parts: dict[str, list[Document]] = {}
    for part, given in zip(PARTS, (train, valid, test), strict=True):
        if given is not None:
            path = Path(given).expanduser()
            parts[part] = list(_documents_in(path, pattern)) if path.is_dir() else [FileDocument(_checked_file(path))]
    return parts


def _checked_file(path: Path) -> Path:
    size, _ = FileDocument(path).fingerprint()
    if size == 0 and path.is_file():
        raise DataError(f"the file {path} is empty: give a file with text in it")
    return path


def _documents_in(folder: Path, pattern: str) -> list[FileDocument]:
    try:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"the folder {folder} cannot be searched for pattern={pattern!r} ({error})") from None
    if not found:
        raise DataError(f"the folder {folder} has no file that matches pattern={pattern!r}: set pattern, or add text")
    documents = [FileDocument(path) for path in found if path.stat().st_size]
    if not documents:
        raise DataError(f"all {len(found)} files that match pattern={pattern!r} in the folder {folder} are empty")
    return documents


def _divide_documents(
    documents: Sequence[FileDocument], folder: Path, valid_fraction: float, test_fraction: float
) -> dict[str, list[Document]]:
    """Give the last documents to test and those before them to valid, at least one to each that is wanted."""
    total = len(documents)
    valid = max(1, round(valid_fraction * total)) if valid_fraction else 0
    test = max(1, round(test_fraction * total)) if test_fraction else 0
    train = total - valid - test
    if train < 1:
        raise DataError(
            f"the folder {folder} has {total} documents, too few to divide into train, valid and test: add files, "
            "name the parts by train, valid and test, or set valid_fraction and test_fraction to 0"
        )
    parts = {"train": documents[:train], "valid": documents[train : train + valid], "test": documents[train + valid :]}
    return {part: list(chosen) for part, chosen in parts.items() if chosen}


def _divide_file(path: Path, valid_fraction: float, test_fraction: float) -> dict[str, list[Document]]:
    size = path.stat().st_size
    valid_start = _next_line(path, round(size * (1 - valid_fraction - test_fraction)))
    test_start = _next_line(path, round(size * (1 - test_fraction)))
    bounds = {"train": (0, valid_start), "valid": (valid_start, test_start), "test": (test_start, size)}
    wanted = {"train": 1.0, "valid": valid_fraction, "test": test_fraction}
    for part, (start, stop) in bounds.items():
        if wanted[part] and start == stop:
            raise DataError(
                f"the file {path} of {size} bytes is too short to divide: nothing is left for {part}; give more text, "
                "name the parts by train, valid and test, or set valid_fraction and test_fraction to 0"
            )
    return {part: [FileDocument(path, *bounds[part])] for part in PARTS if wanted[part]}


def _next_line(path: Path, offset: int) -> int:
    """Return the offset of the first line that starts at or after ``offset``, else of a word, of a character."""
    size = path.stat().st_size
    if offset == 0 or offset >= size:
        return min(offset, size)
    with path.open("rb") as handle:
        handle.seek(offset - 1)
        block = handle.read(_LONGEST_SEARCH)
    for border in (b"\n", b" "):
        found = offset + block.find(border)
        if offset <= found < size:
            return found
    return _next_character(path, offset)


def _next_character(path: Path, offset: int) -> int:
    """Return the offset of the first UTF-8 character that starts at or after ``offset``."""
    with path.open("rb") as handle:
        handle.seek(offset)
        continuing = 0
        for byte in handle.read(3):
            if byte & 0xC0 != 0x80:
                break
            continuing += 1
    return offset + continuing


def _public_parts(name: str) -> dict[str, list[Document]]:
    public_set = TEXT_SETS[name]
    paths = locate(public_set)
    if public_set.train_fraction is None:
        return {Path(file.name).stem: [FileDocument(path)] for file, path in zip(public_set.files, paths, strict=True)}
    # As in the published preparations: at a character, int(fraction * length), not at a line.
    cut = _next_character(paths[0], int(public_set.train_fraction * paths[0].stat().st_size))
    held_out: list[Document] = [FileDocument(paths[0], cut, None)]
    return {"train": [FileDocument(paths[0], 0, cut)], "valid": held_out, "test": list(held_out)}
