"""Byte-level byte-pair encoding, trained and run by Hugging Face ``tokenizers``.

Sennrich et al. (2016), "Neural machine translation of rare words with subword units"; over bytes:
Radford et al. (2019), "Language models are unsupervised multitask learners".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hybridgen.closest import name_the_closest
from hybridgen.codecs.base import TextCodec
from hybridgen.codecs.byte_level import build_tokenizer, byte_alphabet, import_tokenizers, token_pieces
from hybridgen.codecs.checks import check_count, check_specials, check_text, special_token, text_pieces
from hybridgen.codecs.errors import CodecError

_SPECIALS = ("eos", "bos", "pad")
# GPT-2's way of splitting has a boundary before a single space between two words, whatever the words.
_BEFORE_A_WORD = re.compile(r"(?<=\S)(?= \S)")
# Characters looked up together. It bounds the memory: the tokenizer takes some 200 bytes for each new one.
_BLOCK = 1 << 20
# What careless tokenizers change: starts without a space, case, accents in both forms, whitespace.
_PROBE = "The  end\tcafe\u0301; \ufb01ne\r\n\n don't  1234 \u00a0\u2003 \u65e5\u672c\U0001f600 "
_PROBE += "".join(map(chr, range(0x250)))


class BPECodec(TextCodec):
    """Byte-level BPE: learnt pieces of words over the bytes of UTF-8.

    Round trip: ``decode(encode(text)) == text`` for every text; a tokenizer that cannot promise it is
    refused. Special tokens decode to nothing, and a text that spells one out is read as ordinary text.

    Args:
        tokenizer: The parsed content of a ``tokenizer.json``, whole.
        specials: Which of its tokens are special, such as ``{"eos": "<|endoftext|>"}``: any of ``eos``,
            ``bos``, ``pad``.

    Raises:
        CodecError: The tokenizer is not byte-level BPE or damaged, or lacks a special token.
        ImportError: The package ``tokenizers`` is not installed.
    """

    name = "bpe"

    def __init__(self, tokenizer: Mapping[str, Any], *, specials: Mapping[str, str]) -> None:
        if not isinstance(specials, Mapping):
            raise CodecError(f"specials={specials!r} must map names to tokens: write it as {{'eos': '<eos>'}}")
        names = check_specials(list(specials), _SPECIALS)
        self._tokenizer = build_tokenizer(tokenizer)
        pieces = token_pieces(self._tokenizer, tokenizer)
        ids = {name: self._find_special(specials[name], pieces) for name in names}
        self._tokens_of_specials = {name: specials[name] for name in names}
        self._splits_before_words = _splits_before_words(json.loads(self._tokenizer.to_str()))
        super().__init__(pieces, ids)
        if self.decode(self.encode(_PROBE)) != _PROBE:
            raise CodecError("the tokenizer does not give text back as it was: use a byte-level one, such as GPT-2's")

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int = 8192, specials: Sequence[str] = ()) -> BPECodec:
        """Learn the merges of a text, the most frequent pair first.

        Args:
            texts: Pieces of text, read once.
            vocab_size: How many ids to have: the 256 bytes, then merges, then special tokens. A text too
                small for so many merges gives fewer.
            specials: Special tokens: any of ``eos``, ``bos``, ``pad``.

        Raises:
            CodecError: No text at all, a piece that is not text, or an option that cannot be.
            ImportError: The package ``tokenizers`` is not installed.
        """
        names = check_specials(specials, _SPECIALS)
        check_count(vocab_size, "vocab_size", 256 + len(names))
        package = import_tokenizers()
        tokenizer = package.Tokenizer(package.models.BPE())
        tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = package.decoders.ByteLevel()
        trainer = package.trainers.BpeTrainer(
            vocab_size=vocab_size - len(names), initial_alphabet=sorted(byte_alphabet()), show_progress=False
        )
        tokenizer.train_from_iterator(text_pieces(texts, cls.name), trainer)
        tokenizer.add_special_tokens([special_token(name) for name in names])
        definition = json.loads(tokenizer.to_str())
        return cls(definition, specials={name: special_token(name) for name in names})

    @classmethod
    def from_file(
        cls, path: str | Path, *, eos: str | None = None, bos: str | None = None, pad: str | None = None
    ) -> BPECodec:
        """Load a ``tokenizer.json``; the codec's config then carries it whole.

        Args:
            path: The file.
            eos: Its token that ends a text, such as ``<|endoftext|>``. Default: none.
            bos: Its token that begins a text. Default: none.
            pad: Its token that pads. Default: none.

        Raises:
            CodecError: The file cannot be read, or holds no byte-level BPE with these tokens.
            ImportError: The package ``tokenizers`` is not installed.
        """
        specials = {name: token for name, token in (("eos", eos), ("bos", bos), ("pad", pad)) if token is not None}
        try:
            definition = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise CodecError(f"{path} cannot be opened ({error.strerror}): give the path of a tokenizer.json") from None
        except (ValueError, RecursionError):
            raise CodecError(f"{path} is not JSON: give the path of a tokenizer.json") from None
        try:
            return cls(definition, specials=specials)
        except CodecError as error:
            raise CodecError(f"{path} cannot be used, since {error}") from None

    def _find_special(self, token: str, pieces: Sequence[bytes]) -> int:
        check_text(token, "a token named in specials")
        index = self._tokenizer.token_to_id(token)
        if index is None:
            known = [added.content for added in self._tokenizer.get_added_tokens_decoder().values()]
            raise CodecError(f"the tokenizer has no special token {token!r}: {name_the_closest(token, known)}")
        if pieces[index]:
            raise CodecError(f"the tokenizer's token {token!r} is ordinary text: name one marked as special")
        return index

    def _lookup(self, text: str) -> np.ndarray:
        blocks = [np.fromiter(self._ids_of(block), dtype=np.int64) for block in self._blocks(text)]
        ids = np.concatenate([np.zeros(0, dtype=np.int64), *blocks])
        # __init__ tries a probe; this settles it for the text itself, at next to no cost.
        if self._piece_lengths[ids].sum() != len(text.encode("utf-8")):
            raise CodecError(
                "this tokenizer does not give the text back as it was: use a byte-level one, such as GPT-2's"
            )
        return ids

    def _blocks(self, text: str) -> Iterator[str]:
        """Cut the text where the tokenizer would, into blocks of some :data:`_BLOCK` characters."""
        start = 0
        while start < len(text):
            cut = _BEFORE_A_WORD.search(text, start + _BLOCK) if self._splits_before_words else None
            end = cut.start() if cut else len(text)
            yield text[start:end]
            start = end

    def _ids_of(self, block: str) -> Iterable[int]:
        """Look up each distinct word of a block once: several times faster, since words repeat."""
        words = _BEFORE_A_WORD.split(block) if self._splits_before_words else [block]
        ids_of_word = {word: self._tokenizer.encode(word, add_special_tokens=False).ids for word in set(words)}
        return chain.from_iterable(map(ids_of_word.__getitem__, words))

    def _options(self) -> dict[str, Any]:
        return {"tokenizer": json.loads(self._tokenizer.to_str()), "specials": dict(self._tokens_of_specials)}


def _splits_before_words(definition: Mapping[str, Any]) -> bool:
    """Say whether cutting at :data:`_BEFORE_A_WORD` cannot change an id: GPT-2's own splitting."""
    split = definition["pre_tokenizer"] or {}
    return (
        split.get("type") == "ByteLevel"
        and split.get("use_regex") is True
        and all(added["special"] for added in definition["added_tokens"])
    )
