import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen.generation import TextStream


def characters(pieces):
    """A vocabulary of the given strings."""
    return lambda ids: "".join(pieces[number] for number in ids)


def utf8(ids):
    return bytes(ids).decode("utf-8", errors="replace")


def run(stream, ids):
    """Push ids until a stop string; return everything shown."""
    shown = []
    for token in ids:
        shown.append(stream.push(token))
        if stream.stopped:
            break
    return shown, "".join(shown) + stream.finish()


def cut_by_characters(text, stops):
    """Reference: add one character at a time and stop at the first stop string that is completed."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return text


@given(
    pieces=st.lists(st.text("ab<", min_size=1, max_size=4), max_size=10),
    stops=st.lists(st.text("ab<", min_size=1, max_size=4), max_size=3),
)
@settings(deadline=None, max_examples=400)
def test_the_cut_does_not_depend_on_token_boundaries(pieces, stops):
    text, stream = "".join(pieces), TextStream(characters(pieces), stops)
    shown, output = run(stream, range(len(pieces)))
    expected = cut_by_characters(text, stops)
    assert output == expected
    assert stream.stopped == (expected != text)
    kept = "".join(pieces[: stream.num_tokens])
    assert expected.startswith(kept)
    if stream.stopped:
        assert len(kept + pieces[stream.num_tokens]) > len(expected), "a whole token of the output was dropped"
    for end in range(len(shown)):
        assert expected.startswith("".join(shown[:end])), "part of a stop string was shown"


def test_what_may_begin_a_stop_string_is_held_back_until_it_is_known_not_to():
    stream = TextStream(characters("a<end>x"), ["<end>"])
    assert [stream.push(token) for token in (0, 1, 2, 6)] == ["a", "", "", "<ex"]
    assert stream.push(1) == ""
    assert stream.finish() == "<"
    assert not stream.stopped
    assert stream.text == "a<ex<"


def test_a_token_that_reaches_into_the_stop_string_is_cut_from_the_text_and_dropped_from_the_tokens():
    stream = TextStream(characters(["good", "bye\n", "\nmore"]), ["\n\n"])
    assert run(stream, range(3))[1] == "goodbye"
    assert stream.num_tokens == 1


def test_characters_that_span_tokens_are_shown_whole():
    stream = TextStream(utf8, ["é!"])
    shown, output = run(stream, "aéé!b".encode())
    assert output == "aé"
    assert shown == ["a", "", "", "", "é", ""]
    assert stream.num_tokens == 3


def test_an_unfinished_character_at_the_end_is_shown_as_what_it_decodes_to():
    stream = TextStream(utf8)
    assert run(stream, "aé".encode()[:2])[1] == "a\N{REPLACEMENT CHARACTER}"


def test_vocabularies_that_put_spaces_between_tokens_keep_them():
    words = ["the", "cat", "", "sat", "."]
    stream = TextStream(lambda ids: " ".join(words[number] for number in ids if words[number]), ["t ."])
    shown, output = run(stream, range(5))
    assert output == "the cat sa"
    assert shown[:2] == ["the", " ca"]


def test_the_cost_of_a_token_does_not_grow():
    longest = 0

    def decode(ids):
        nonlocal longest
        longest = max(longest, len(ids))
        return "x" * len(ids)

    run(TextStream(decode, ["y"]), range(50))
    assert longest <= 2


def test_nothing_follows_a_stop_string():
    stream = TextStream(characters("a"), ["a"])
    assert stream.push(0) == ""
    with pytest.raises(ValueError, match="after a stop string"):
        stream.push(0)
