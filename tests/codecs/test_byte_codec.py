"""Bytes: every text, and every sequence of bytes a model may generate."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen.codecs import ByteCodec


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_any_text_comes_back(text):
    codec = ByteCodec()
    assert codec.encode(text).tolist() == list(text.encode("utf-8"))
    assert codec.decode(codec.encode(text)) == text


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=30))
def test_any_bytes_decode_as_python_replaces_them(data):
    codec = ByteCodec()
    expected = data.decode("utf-8", errors="replace")
    stream = codec.decode_stream()
    assert codec.decode(list(data)) == expected
    assert "".join(map(stream.put, data)) + stream.end() == expected


def test_a_text_of_many_blocks_comes_back():
    codec = ByteCodec()
    text = "naïve 日本語 😀 " * 10_000  # characters lie across the ends of blocks
    assert codec.decode(codec.encode(text)) == text


def test_a_stream_holds_back_half_a_character():
    stream = ByteCodec().decode_stream()
    first, second, third, fourth = "😀".encode()
    assert [stream.put(first), stream.put(second), stream.put(third)] == ["", "", ""]
    assert stream.put(fourth) == "😀"
    stream.put(first)
    assert stream.end() == "\ufffd"
    assert stream.end() == ""


def test_specials_follow_the_bytes_and_write_nothing():
    codec = ByteCodec(specials=["pad", "bos", "eos"])
    assert codec.vocab_size == 259
    assert (codec.eos_id, codec.bos_id, codec.pad_id, codec.unk_id) == (256, 257, 258, None)
    assert codec.decode([257, 104, 105, 256, 258]) == "hi"
    assert codec.token_bytes([257, 104, 105, 256, 258]).tolist() == [0, 1, 1, 0, 0]
