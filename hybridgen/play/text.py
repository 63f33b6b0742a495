"""A language model on the page: text that grows."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from hybridgen.generation import DecodingOptions

#: Seconds between two states of the text that are shown: a browser need not draw every token.
REFRESH = 0.05
_ENDS = {"eos": "the model ended it", "length": "max_new_tokens ended it", "stop": "a stop string ended it"}


class Written(NamedTuple):
    """A text as far as it is written.

    Attributes:
        text: the prompt and what follows.
        note: how many tokens there are, how probable they are and, at the end, what ended them.
    """

    text: str
    note: str


def continue_text(model: Any, prompt: str, options: DecodingOptions, *, refresh: float = REFRESH) -> Iterator[Written]:
    """Continue a prompt as ``hybridgen sample`` does, and tell how far it is from time to time.

    Args:
        model: a :class:`hybridgen.models.LanguageModel`.
        prompt: may be empty.
        options: of decoding.
        refresh: seconds between two answers, at least; 0 answers after every token.

    Yields:
        The text so far; the last one is complete.

    Raises:
        ValueError: if the prompt has what the codec does not know.
    """
    text, nats, tokens, last, reason = prompt, 0.0, 0, time.monotonic(), None
    for event in model.generate_stream([prompt], options):
        text += event.texts[0]
        nats -= float(event.log_probs[0])
        tokens += 1
        reason = event.finish_reasons[0]
        if reason is None and time.monotonic() - last >= refresh:
            last = time.monotonic()
            yield Written(text, _note(tokens, nats))
    yield Written(text, _note(tokens, nats) + (f"; {_ENDS[reason]}" if reason else ""))


def _note(tokens: int, nats: float) -> str:
    return f"{tokens} {'token' if tokens == 1 else 'tokens'}, {nats / max(1, tokens):.2f} nats each"
