"""Documents as streams of pieces: nothing lost, nothing cut where it matters, and every bad byte found."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen import codecs
from hybridgen.data import DataError, reading
from hybridgen.data.reading import FileDocument, TextDocument, lines, pieces

texts = st.lists(
    st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), st.sampled_from(" \n\t\r")), max_size=40
).map("".join)
ENGLISH = "The fox can't jump\nover 13 lazy  dogs,\n\n  naïve café and 日本語 😀!\r\nagain.\nNo end " * 7


@pytest.fixture
def small_reads(monkeypatch):
    monkeypatch.setattr(reading, "READ_SIZE", 7)


def write(folder, content):
    path = folder / "text.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return FileDocument(path)


@settings(deadline=None, max_examples=150)
@given(text=texts)
def test_pieces_are_the_text_and_cut_no_word(tmp_path_factory, text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "READ_SIZE", 7)
        document = write(tmp_path_factory.mktemp("text"), text)
        text = text.removeprefix("\ufeff")
        for parts in (list(pieces(document)), list(pieces(TextDocument("memory", text)))):
            assert "".join(parts) == text
            assert all(parts)
            assert [word for part in parts for word in part.split()] == text.split()
        expected = [line.removesuffix("\r") for line in text.split("\n") if line and not line.isspace()]
        assert list(lines(document)) == expected


@pytest.mark.parametrize("kind", ["characters", "bytes", "words", "bpe"])
def test_encoding_the_pieces_is_encoding_the_whole(tmp_path, small_reads, kind):
    codec = codecs.make(kind, [ENGLISH], **({"vocab_size": 320} if kind == "bpe" else {}))
    parts = list(pieces(write(tmp_path, ENGLISH)))
    assert len(parts) > 20
    assert [id for part in parts for id in codec.encode(part).tolist()] == codec.encode(ENGLISH).tolist()


def test_a_word_longer_than_memory_is_cut(monkeypatch, small_reads):
    monkeypatch.setattr(reading, "_LONGEST_WORD", 20)
    parts = list(pieces(TextDocument("memory", "x" * 100)))
    assert "".join(parts) == "x" * 100
    assert max(map(len, parts)) < 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good\xffbad", r"byte 0xFF at offset 4 \(invalid start byte\)"),
        ("ab€".encode()[:-1], r"byte 0xE2 at offset 2 \(unexpected end of data\)"),
        (b"0123456789" * 9 + b"\xe9t\xe9", r"byte 0xE9 at offset 90 "),
        ("é" * 30 + "\ud800", r"byte 0xED at offset 60 "),
        ("\ufeffab".encode("utf-16-le"), r"byte 0xFF at offset 0 "),
    ],
)
def test_a_byte_that_is_not_utf8_is_named_by_its_offset(tmp_path, small_reads, content, message):
    content = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    document = write(tmp_path, content)
    with pytest.raises(DataError, match=rf"text\.txt is not UTF-8 text: {message}.*errors='replace'"):
        list(pieces(document))
    assert "".join(pieces(document, "replace")) == content.decode("utf-8", "replace")


def test_offsets_count_from_the_start_of_the_file_in_a_part_of_it(tmp_path, small_reads):
    whole = write(tmp_path, b"one two\nthree\xfffour\nfive")
    with pytest.raises(DataError, match="offset 13 "):
        list(pieces(FileDocument(whole.path, 8, 19)))
    assert list(lines(FileDocument(whole.path, 19))) == ["five"]
    assert "".join(pieces(FileDocument(whole.path, 0, 8))) == "one two\n"


def test_a_byte_order_mark_is_no_text_and_ends_of_lines_stay(tmp_path):
    assert "".join(pieces(write(tmp_path, b"\xef\xbb\xbfa\r\nb\x00\n"))) == "a\r\nb\x00\n"
    assert "".join(pieces(FileDocument(write(tmp_path, "x\ufeffy").path, 1))) == "\ufeffy"


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*missing\.txt: check the path"):
        list(pieces(FileDocument(tmp_path / "missing.txt")))
    with pytest.raises(DataError, match="cannot be read"):
        list(pieces(FileDocument(tmp_path)))
