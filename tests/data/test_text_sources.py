"""Where text comes from: the embedded text, files, folders, public sets, and everything that is not there."""

import os
from pathlib import Path

import pytest

from hybridgen.data import DataError
from hybridgen.data.embedded import embedded_documents
from hybridgen.data.reading import pieces
from hybridgen.data.sources import find_parts, find_source

needs_public_data = pytest.mark.skipif(
    not os.environ.get("HYBRIDGEN_DATA"), reason="HYBRIDGEN_DATA names no folder with the public sets"
)


def texts(documents):
    return ["".join(pieces(document)) for document in documents]


def test_embedded_text_is_large_and_always_the_same():
    parts = embedded_documents()
    sizes = {part: sum(len(document.text.encode()) for document in documents) for part, documents in parts.items()}
    assert sum(sizes.values()) >= 400_000
    assert all(sizes[part] > 25_000 for part in ("valid", "test"))
    assert embedded_documents() == parts == find_source("embedded")
    names = [document.name for documents in parts.values() for document in documents]
    assert len(set(names)) == len(names) > 70
    for documents in parts.values():
        assert documents == sorted(documents, key=lambda document: document.name)


def test_embedded_parts_share_no_paragraph_and_no_unknown_character():
    paragraphs = {
        part: {
            " ".join(paragraph.split())
            for document in documents
            for paragraph in document.text.split("\n\n")
            if len(" ".join(paragraph.split())) >= 60
        }
        for part, documents in embedded_documents().items()
    }
    assert len(paragraphs["train"]) > 1000
    assert not paragraphs["train"] & paragraphs["valid"]
    assert not paragraphs["train"] & paragraphs["test"]
    assert not paragraphs["valid"] & paragraphs["test"]
    characters = {part: set("".join(texts(documents))) for part, documents in embedded_documents().items()}
    assert characters["valid"] | characters["test"] <= characters["train"]


def test_a_file_is_divided_at_lines_with_nothing_lost(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"line {number} é\n" for number in range(100)), encoding="utf-8")
    parts = {part: "".join(texts(documents)) for part, documents in find_source(path).items()}
    assert "".join(parts[part] for part in ("train", "valid", "test")) == path.read_text(encoding="utf-8")
    assert all(text.startswith("line") and text.endswith("\n") for text in parts.values())
    assert 4 <= parts["valid"].count("\n") <= 6
    assert 4 <= parts["test"].count("\n") <= 6
    assert list(find_source(path, valid_fraction=0, test_fraction=0)) == ["train"]
    assert list(find_source(path, test_fraction=0.2, valid_fraction=0)) == ["train", "test"]


@pytest.mark.parametrize("text", ["word " * 50, "é" * 100])
def test_a_file_without_lines_is_divided_at_words_or_characters(tmp_path, text):
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    parts = {part: "".join(texts(documents)) for part, documents in find_source(path).items()}
    assert "".join(parts[part] for part in ("train", "valid", "test")) == text
    assert (
        "".join(parts.values()).split() == [word for part in parts.values() for word in part.split()] or " " not in text
    )


def test_a_folder_is_divided_by_document_in_order(tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text(f"document {number}")
    (tmp_path / "notes.md").write_text("not text")
    (tmp_path / "blank.txt").write_text("")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "10.txt").write_text("document 10")
    parts = {part: texts(documents) for part, documents in find_source(tmp_path, valid_fraction=0.2).items()}
    assert parts["train"] == [f"document {number}" for number in range(7)]
    assert parts["valid"] == ["document 7", "document 8"]
    assert parts["test"] == ["document 9"]
    everything = find_source(tmp_path, pattern="**/*.txt", valid_fraction=0, test_fraction=0)
    assert len(everything["train"]) == 11


def test_a_folder_with_train_txt_is_divided_already(tmp_path):
    (tmp_path / "train.txt").write_text("a")
    (tmp_path / "test.txt").write_text("b")
    assert {part: texts(documents) for part, documents in find_source(tmp_path).items()} == {
        "train": ["a"],
        "test": ["b"],
    }
    assert texts(find_parts(valid=tmp_path / "test.txt", train=tmp_path)["train"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.txt", r"there is no file or folder .*missing\.txt"),
        ("ptbb", r"there is no file or folder .*ptbb.*did you mean 'ptb'"),
        ("wikitext2", r"did you mean 'wikitext-2'"),
        ("empty.txt", r"the file .*empty\.txt is empty"),
        ("short.txt", r"short\.txt of 1 bytes is too short to divide"),
        ("folder", r"the folder .*folder has no file that matches pattern='\*\.txt'"),
        ("two", r"the folder .*two has 2 documents, too few to divide"),
        ("blank", r"all 1 files that match pattern='\*\.txt' in the folder .*blank are empty"),
        ("ptb", r"the set 'ptb' is not on this machine: run `hybridgen data ptb`, or set HYBRIDGEN_DATA"),
    ],
)
def test_text_that_is_not_there_is_one_sentence(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYBRIDGEN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for folder in ("folder", "two", "blank"):
        Path(folder).mkdir()
    for path, text in {
        "empty.txt": "",
        "short.txt": "x",
        "two/1.txt": "a",
        "two/2.txt": "b",
        "blank/1.txt": "",
    }.items():
        Path(path).write_text(text)
    with pytest.raises(DataError, match=message) as error:
        find_source(source)
    assert "\n" not in str(error.value)


def test_parts_and_fractions_that_cannot_be(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("a\n" * 100)
    with pytest.raises(DataError, match=r"there is no file .*valid\.txt"):
        find_parts(train=path, valid=tmp_path / "valid.txt")
    with pytest.raises(DataError, match=r"valid_fraction=1\.5 must be a fraction"):
        find_source(path, valid_fraction=1.5)
    with pytest.raises(DataError, match="leave nothing to train on"):
        find_source(path, valid_fraction=0.5, test_fraction=0.5)


def test_a_public_set_of_the_wrong_size_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDGEN_DATA", str(tmp_path))
    (tmp_path / "ptb").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "ptb" / f"{part}.txt").write_text("not the Penn Treebank\n")
    with pytest.raises(DataError, match=r"train\.txt has 22 bytes but the public file has 5101618"):
        find_source("ptb")


@needs_public_data
def test_tinyshakespeare_is_cut_where_the_published_numbers_cut_it():
    parts = {part: "".join(texts(documents)) for part, documents in find_source("tinyshakespeare").items()}
    assert len(parts["train"]) == int(0.9 * 1_115_394) == 1_003_854
    assert len(parts["valid"]) == 111_540
    assert parts["test"] == parts["valid"]
    assert len(set(parts["train"] + parts["valid"])) == 65
