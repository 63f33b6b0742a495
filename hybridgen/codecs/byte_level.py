"""Reading a ``tokenizer.json`` of Hugging Face ``tokenizers``, and refusing what could lose text.

Byte-level BPE spells each of the 256 bytes as one printable character (Radford et al., 2019, GPT-2), so
that no text is outside its vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hybridgen.codecs.errors import CodecError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def import_tokenizers() -> Any:
    """Import ``tokenizers`` when it is first needed: the other codecs do without it.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import tokenizers
    except ImportError:
        raise ImportError("the bpe codec needs the package tokenizers: pip install tokenizers") from None
    return tokenizers


def byte_alphabet() -> dict[str, int]:
    """Return the byte that each of the 256 characters of GPT-2's alphabet spells.

    Visible Latin-1 characters spell themselves; the other bytes take the characters from U+0100 on, in order.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(b): b for b in visible} | {chr(0x100 + i): b for i, b in enumerate(hidden)}


def build_tokenizer(definition: object) -> Tokenizer:
    """Build the tokenizer that a parsed ``tokenizer.json`` defines, with nothing random or lossy in it.

    Truncation, padding and BPE dropout are switched off: the same text always gives the same, whole ids.

    Raises:
        CodecError: It is no byte-level BPE, rewrites text before it is split, or is damaged.
        ImportError: The package ``tokenizers`` is not installed.
    """
    if not isinstance(definition, Mapping) or not isinstance(definition.get("model"), Mapping):
        raise CodecError("the tokenizer is not the content of a tokenizer.json: it has no 'model', use another file")
    model = definition["model"]
    if model.get("type", "BPE") != "BPE":
        raise CodecError(
            f"the tokenizer's model is {model['type']!r}: the bpe codec takes byte-level BPE, such as GPT-2's"
        )
    # Besides changing the spelling of tokens, a wrong prefix makes the Rust side panic.
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise CodecError(f"the tokenizer's model has {key}={model[key]!r}: use a byte-level tokenizer without it")
    if definition.get("normalizer") is not None:
        raise CodecError(
            "the tokenizer has a normalizer, which rewrites text so that it does not come back as it was: "
            "set 'normalizer' to null in its file"
        )
    fixed = {**definition, "truncation": None, "padding": None, "model": {**model, "dropout": None}}
    package = import_tokenizers()
    try:
        tokenizer = package.Tokenizer.from_str(json.dumps(fixed))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the Rust side is no Exception
        raise CodecError(
            f"the tokenizer cannot be read ({_first_line(error)}): use an undamaged tokenizer.json"
        ) from None
    # Without this a text that spells out <eos> would be read as the end of the text and decode to nothing.
    tokenizer.encode_special_tokens = True
    return tokenizer


def token_pieces(tokenizer: Tokenizer, definition: Mapping[str, Any]) -> list[bytes]:
    """Return the bytes that each id of a byte-level tokenizer writes; a special token writes none.

    Args:
        tokenizer: What :func:`build_tokenizer` made of ``definition``.
        definition: The parsed ``tokenizer.json``.

    Raises:
        CodecError: Ids are not contiguous or not those of the definition, a token is not spelt in bytes, or
            a byte has no token.
    """
    id_of_token = tokenizer.get_vocab(with_added_tokens=True)
    if sorted(id_of_token.values()) != list(range(len(id_of_token))):
        raise CodecError("the tokenizer's ids are not 0, 1, 2 and so on, each once: use an undamaged tokenizer.json")
    for added in definition.get("added_tokens") or []:
        if id_of_token.get(added["content"]) != added["id"]:
            raise CodecError(
                f"the tokenizer's added token {added['content']!r} cannot have the id {added['id']}: "
                "use an undamaged tokenizer.json"
            )
    alphabet = byte_alphabet()
    missing = [character for character in alphabet if character not in id_of_token]
    if missing:
        raise CodecError(
            f"the tokenizer has no token for {len(missing)} of the 256 bytes and would lose text: "
            "use a byte-level tokenizer"
        )
    pieces = [b""] * len(id_of_token)
    added_tokens = tokenizer.get_added_tokens_decoder()
    for token, index in id_of_token.items():
        if index in added_tokens:
            pieces[index] = b"" if added_tokens[index].special else token.encode("utf-8")
            continue
        try:
            pieces[index] = bytes([alphabet[character] for character in token])
        except KeyError:
            raise CodecError(
                f"the tokenizer's token {token!r} is not spelt in bytes: use a byte-level tokenizer"
            ) from None
    return pieces


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
