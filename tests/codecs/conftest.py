"""One small codec of every kind, shared by the tests of this folder."""

import pytest
import torch

from hybridgen import codecs

TEXT = "The quick brown fox can't jump\nover 13 lazy dogs, naïve café and 日本語 😀!\n\nthe fox <eos> ends\n"


def _build(kind):
    match kind:
        case "characters":
            return codecs.make("characters", [TEXT])
        case "characters with specials":
            return codecs.make("characters", [TEXT], min_count=2, specials=["eos", "bos", "pad"])
        case "bytes":
            return codecs.make("bytes")
        case "bytes with specials":
            return codecs.make("bytes", specials=["eos", "bos", "pad"])
        case "words":
            return codecs.make("words", [TEXT])
        case "words with specials":
            return codecs.make("words", [TEXT], min_count=2, lowercase=True, specials=["bos", "pad"])
        case "bpe":
            return codecs.make("bpe", [TEXT] * 3, vocab_size=300)
        case "bpe with specials":
            return codecs.make("bpe", [TEXT] * 3, vocab_size=300, specials=["eos", "bos", "pad"])


KINDS = [f"{name}{more}" for name in ("characters", "bytes", "words", "bpe") for more in ("", " with specials")]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=KINDS)
def codec(request):
    return _build(request.param)


@pytest.fixture(scope="session")
def bpe():
    return _build("bpe with specials")


@pytest.fixture(scope="session")
def text():
    return TEXT
