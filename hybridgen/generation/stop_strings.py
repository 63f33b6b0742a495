"""Text of one growing token sequence, cut where a stop string appears.

Tokens are decoded as they come. A stop string is found across token boundaries, and nothing that might be
the beginning of one is shown before it is known not to be. The stop string itself is not part of the
output.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # what an unfinished UTF-8 character decodes to


class TextStream:
    """Decodes one row incrementally and watches for stop strings.

    The output ends where the first stop string to be completed begins, as if the text had come one
    character at a time, so it does not depend on how the text is cut into tokens; of two completed by the
    same character the longer one counts. Tokens decode in the context of those of the chunk before them,
    which serves byte-level vocabularies, where a character may span tokens, and vocabularies that put
    spaces between tokens. The cost of a token does not grow with the length of the text.

    Args:
        decode: token ids -> text.
        stop_strings: none empty; may be none.

    Attributes:
        text: all text decoded so far, held back parts and a stop string included.
        stopped: whether a stop string has appeared.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop_strings: Sequence[str] = ()) -> None:
        self.text = ""
        self.stopped = False
        self._decode = decode
        self._stop_strings = tuple(stop_strings)
        self._ids: list[int] = []
        self._context = 0  # first id of the chunk that the newest ids are decoded with
        self._decoded = 0  # ids whose text is in self.text
        self._ends: list[int] = []  # length of the text after each decoded id
        self._shown = 0
        self._cut = 0  # where the stop string begins

    @property
    def num_tokens(self) -> int:
        """Tokens of the output: all, or after a stop string those whose text ends before it begins."""
        return bisect_right(self._ends, self._cut) if self.stopped else len(self._ids)

    def push(self, token: int) -> str:
        """Add a token and return the text that can now be shown, possibly none.

        Raises:
            ValueError: after a stop string.
        """
        if self.stopped:
            raise ValueError("No token can be added after a stop string.")
        self._ids.append(token)
        piece = self._decode_new()
        return "" if piece.endswith(INCOMPLETE) else self._add(piece)

    def finish(self) -> str:
        """End the text and return what was held back."""
        shown = self._add(self._decode_new()) if self._decoded < len(self._ids) and not self.stopped else ""
        if self.stopped:
            return shown
        return shown + self._show_until(len(self.text))

    def _decode_new(self) -> str:
        before = self._decode(self._ids[self._context : self._decoded])
        return self._decode(self._ids[self._context :])[len(before) :]

    def _add(self, piece: str) -> str:
        if not piece:  # as of a special token: decode it again together with the next
            return ""
        searched = len(self.text)
        self.text += piece
        self._ends += [len(self.text)] * (len(self._ids) - self._decoded)
        self._context, self._decoded = self._decoded, len(self._ids)
        found = [match for stop in self._stop_strings if (match := self._find(stop, searched))]
        if found:
            _, self._cut = min(found)
            self.stopped = True
            return self._show_until(self._cut)
        return self._show_until(len(self.text) - self._held_back())

    def _find(self, stop: str, searched: int) -> tuple[int, int] | None:
        """(end, start) of the stop string in the text past what was searched before, if it is there."""
        start = self.text.find(stop, max(0, searched - len(stop) + 1))
        return None if start < 0 else (start + len(stop), start)

    def _held_back(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(stop) for stop in self._stop_strings), default=1) - 1
        for length in range(min(longest, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-length:]) for stop in self._stop_strings):
                return length
        return 0

    def _show_until(self, end: int) -> str:
        shown = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return shown
