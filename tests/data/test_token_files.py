"""Token files: what is in them, when they are made anew, and what is left when making one fails."""

import os
import pickle

import numpy as np
import pytest

from hybridgen import codecs
from hybridgen.codecs import ByteCodec
from hybridgen.data import DataError, encoding, reading
from hybridgen.data.encoding import build_codec, encode_documents
from hybridgen.data.reading import FileDocument, TextDocument
from hybridgen.data.tokens import token_dtype

DOCUMENTS = [
    TextDocument("one", "the fox jumps\nover the lazy dog\n"),
    TextDocument("none", ""),
    TextDocument("two", "café and 日本 again\n\nthe end"),
]
TEXTS = [document.text for document in DOCUMENTS]
KINDS = {
    "characters": {},
    "characters with <eos>": {"specials": ["eos"]},
    "bytes": {},
    "bytes with <eos> and <bos>": {"specials": ["eos", "bos"]},
    "words": {},
    "bpe with <eos>": {"vocab_size": 300, "specials": ["eos"]},
}


def make_codec(kind):
    return codecs.make(kind.split()[0], TEXTS, **KINDS[kind])


def whole_stream(tokens):
    return tokens.take(np.arange(len(tokens))).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("small", [False, True])
def test_documents_stand_one_after_another(tmp_path, monkeypatch, kind, small):
    if small:  # pieces and blocks of a few characters
        monkeypatch.setattr(reading, "READ_SIZE", 5)
        monkeypatch.setattr(encoding, "_BLOCK", 3)
    codec = make_codec(kind)
    tokens = encode_documents(DOCUMENTS, codec, cache_dir=tmp_path)
    eos = [] if codec.eos_id is None else [codec.eos_id]
    expected, starts = list(eos), []
    for text in TEXTS:
        ids = codec.encode(text).tolist()
        if ids:
            starts.append(len(expected) - len(eos))
            expected += ids if ids[-1:] == eos else ids + eos
    assert whole_stream(tokens) == expected
    assert tokens.starts.tolist() == starts
    counts = tokens.counts
    assert counts.tokens == len(expected) - len(eos)
    assert counts.targets == len(expected) - 1
    assert counts.target_bytes == codec.count_bytes(expected) - codec.count_bytes(expected[:1])
    assert counts.text_characters == sum(map(len, TEXTS))
    assert counts.text_bytes == sum(len(text.encode()) for text in TEXTS)
    assert counts.units == 2
    assert tokens.has_eos == bool(eos)
    assert tokens.start_id == (codec.bos_id if codec.bos_id is not None else codec.eos_id)


@pytest.mark.parametrize("kind", ["characters with <eos>", "words", "bpe with <eos>"])
def test_lines_are_encoded_one_by_one_without_blank_ones(tmp_path, kind):
    codec = make_codec(kind)
    tokens = encode_documents(DOCUMENTS, codec, cache_dir=tmp_path, unit="line")
    expected, starts = [codec.eos_id], []
    for line in ["the fox jumps", "over the lazy dog", "café and 日本 again", "the end"]:
        starts.append(len(expected) - 1)
        expected += [*codec.encode(line).tolist(), codec.eos_id]
    assert whole_stream(tokens) == expected
    assert tokens.starts.tolist() == starts


def test_ids_are_as_narrow_as_the_vocabulary_allows(tmp_path):
    assert [token_dtype(size) for size in (2, 256, 257, 65536, 65537)] == ["<u1", "<u1", "<u2", "<u2", "<u4"]
    document = [TextDocument("text", "abc")]
    sizes = {}
    for specials in ([], ["eos"]):
        tokens = encode_documents(document, ByteCodec(specials=specials), cache_dir=tmp_path)
        sizes[len(specials)] = (tokens.path.stat().st_size, len(tokens))
    assert sizes == {0: (3, 3), 1: (2 * 5, 5)}


def test_a_token_file_goes_to_another_process(tmp_path):
    tokens = encode_documents(DOCUMENTS, ByteCodec(), cache_dir=tmp_path)
    copy = pickle.loads(pickle.dumps(tokens))
    assert whole_stream(copy) == whole_stream(tokens)
    assert (copy.counts, copy.starts.tolist()) == (tokens.counts, tokens.starts.tolist())


def test_looking_up_much_gives_pages_back_and_stays_right(tmp_path, monkeypatch):
    tokens = encode_documents(DOCUMENTS, ByteCodec(), cache_dir=tmp_path)
    released = []
    release = tokens._release
    monkeypatch.setattr(tokens, "_release", lambda: (released.append(1), release()))
    expected = whole_stream(tokens)
    for _ in range(600):
        assert tokens.take(np.arange(4).reshape(2, 2)).tolist() == [expected[:2], expected[2:4]]
    assert len(released) == 2


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A file, a function that encodes it, and a list of what was encoded."""
    path = tmp_path / "text.txt"
    path.write_text("first text\n")
    encoded = []
    encode = ByteCodec.encode
    monkeypatch.setattr(ByteCodec, "encode", lambda self, text: (encoded.append(text), encode(self, text))[1])

    def run(specials=(), documents=None, **options):
        encoded.clear()
        codec = ByteCodec(specials=list(specials))
        return encode_documents(documents or [FileDocument(path)], codec, cache_dir=tmp_path / "cache", **options)

    return path, run, encoded


def test_a_token_file_is_made_once(corpus):
    _, run, encoded = corpus
    first = whole_stream(run())
    assert encoded == ["first text\n"]
    assert whole_stream(run()) == first
    assert encoded == []


def test_a_changed_text_is_encoded_anew_and_the_old_files_go(corpus, tmp_path):
    path, run, encoded = corpus
    old = run()
    path.write_text("other text\n")  # of the same size
    os.utime(path, ns=(1, 1))
    new = run()
    assert encoded == ["other text\n"]
    assert bytes(whole_stream(new)) == b"other text\n"
    assert bytes(whole_stream(old)) == b"first text\n"  # who still reads it can
    assert len(list((tmp_path / "cache").iterdir())) == 3
    path.write_text("first text, and more\n")
    assert bytes(whole_stream(run())) == b"first text, and more\n"


@pytest.mark.parametrize("options", [{"specials": ["eos"]}, {"unit": "line"}, {"errors": "replace"}])
def test_another_codec_or_way_of_reading_is_another_file(corpus, options):
    _, run, encoded = corpus
    run()
    run(**options)
    assert encoded
    run()
    assert encoded == []  # both are kept


def test_parts_of_one_file_do_not_take_each_others_place(corpus):
    path, run, encoded = corpus
    parts = [FileDocument(path, 0, 6), FileDocument(path, 6)]
    assert [bytes(whole_stream(run(documents=[part]))) for part in parts] == [b"first ", b"text\n"]
    for part in parts:
        run(documents=[part])
        assert encoded == []


@pytest.mark.parametrize("damage", ["tokens", "starts", "json", "no tokens"])
def test_damaged_files_are_made_anew(corpus, tmp_path, damage):
    _, run, encoded = corpus
    run()
    (target,) = (tmp_path / "cache").glob(f"*.{damage.split()[-1]}")
    if damage.startswith("no"):
        target.unlink()
    else:
        target.write_bytes(target.read_bytes()[:-1])
    assert bytes(whole_stream(run())) == b"first text\n"
    assert encoded


def test_a_failure_leaves_nothing_behind(corpus, tmp_path):
    path, run, _ = corpus
    path.write_bytes(b"good line\nbad \xff line\n")
    with pytest.raises(DataError, match=r"text\.txt is not UTF-8 text: byte 0xFF at offset 14"):
        run()
    assert list((tmp_path / "cache").iterdir()) == []
    assert "\ufffd" in ByteCodec().decode(whole_stream(run(errors="replace")))


def test_what_cannot_be_encoded_is_one_sentence(tmp_path):
    codec = codecs.make("characters", ["abc \n"])
    with pytest.raises(DataError, match=r"text cannot be encoded: .*U\+007A 'z' at position 2.*specials=\['unk'\]"):
        encode_documents([TextDocument("text", "abz")], codec, cache_dir=tmp_path)
    codec = codecs.make("characters", ["abc \n"], specials=["eos"])
    with pytest.raises(DataError, match=r"line 2 \(not counting blank ones\) of text cannot be encoded"):
        encode_documents([TextDocument("text", "ab\n\nabz")], codec, cache_dir=tmp_path, unit="line")
    with pytest.raises(DataError, match="there is no text to encode in text: it is empty or blank"):
        encode_documents([TextDocument("text", " \n")], codec, cache_dir=tmp_path, unit="line")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"the cache folder .*file cannot be written"):
        encode_documents([TextDocument("text", "abc")], codec, cache_dir=tmp_path / "file")


def test_a_codec_is_built_once(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_text("abc")
    built = []
    make = codecs.make
    monkeypatch.setattr(codecs, "make", lambda *args, **options: (built.append(args), make(*args, **options))[1])

    def build(**options):
        built.clear()
        return build_codec("characters", [FileDocument(path)], cache_dir=tmp_path / "cache", options=options)

    assert build().characters == "abc"
    assert build().characters == "abc"
    assert not built
    assert build(specials=["eos"]).eos_id == 3
    assert built
    path.write_text("abcd")
    assert build().characters == "abcd"
    (saved,) = [file for file in (tmp_path / "cache").iterdir() if "eos" not in file.read_text()]
    saved.write_text(saved.read_text().replace('"version": 1', '"version": 0'))
    assert build().characters == "abcd"
    assert built
