"""What a person may ask of decoding, checked once, when it is written down.

Names and meanings are those of Hugging Face's ``GenerationConfig``, so that nobody has to learn them twice.
Two defaults differ on purpose: ``do_sample=True`` and ``top_k=0`` (off), because drawing from the model's own
distribution is what a generative model is judged by.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "min_p", "typical_p")
BEAM_OPTIONS = ("length_penalty", "early_stopping")


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How the next tokens are chosen.

    Args:
        max_new_tokens: tokens generated at most, the end token included; at least 1.
        min_new_tokens: the end tokens are forbidden until this many tokens are generated.
        do_sample: draw at random; False takes the most probable token (greedy) or searches (``num_beams`` >
            1).
        temperature: divides the logits, > 0; below 1 sharpens, above 1 flattens.
        top_k: keep the k most probable tokens; 0 is off.
        top_p: keep the smallest set of most probable tokens whose mass reaches top_p, in (0, 1]; 1 is off.
        min_p: keep tokens at least this fraction as probable as the best one, in [0, 1]; 0 is off.
        typical_p: keep the most locally typical tokens of this mass, in (0, 1]; 1 is off.
        repetition_penalty: > 0; above 1 makes tokens already in the prompt or output less likely; 1 is off.
        no_repeat_ngram_size: no n-gram of this size occurs twice, the prompt counted; 0 is off.
        bad_words_ids: token sequences that are never completed; one of length 1 is a forbidden token.
        suppress_tokens: tokens that are never chosen.
        stop_strings: generation of a row ends where one of these appears; it is not part of the output.
        num_beams: width of the beam search; 1 is no beam search.
        length_penalty: a finished beam scores ``log_prob / length ** length_penalty``; above 0 favours long
            ones.
        early_stopping: True ends as soon as ``num_beams`` sequences are finished; False when no running beam
            would beat them at its present length; "never" when none could at any length, which is exact.
        seed: of the random draws, in [0, 2**64).

    Raises:
        ValueError: for the first value that is not allowed, in one sentence: the option, the value, what is
            allowed. Options that would have no effect are errors too, for nobody sets them on purpose.
    """

    max_new_tokens: int = 256
    min_new_tokens: int = 0
    do_sample: bool = True
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    seed: int = 0

    def __post_init__(self) -> None:
        self._freeze_sequences()
        self._check_whole_number("max_new_tokens", 1)
        for name in ("min_new_tokens", "top_k", "no_repeat_ngram_size"):
            self._check_whole_number(name, 0)
        self._check_whole_number("num_beams", 1)
        self._check_whole_number("seed", 0)
        self._check(self.seed < 2**64, "seed", "below 2**64")
        self._check(isinstance(self.do_sample, bool), "do_sample", "True or False")
        self._check_number("temperature")
        self._check(
            self.temperature > 0,
            "temperature",
            "above 0 (for deterministic output set do_sample=False: greedy)",
        )
        self._check_number("top_p")
        self._check(0 < self.top_p <= 1, "top_p", "in (0, 1], where 1 turns it off")
        self._check_number("min_p")
        self._check(0 <= self.min_p <= 1, "min_p", "in [0, 1], where 0 turns it off")
        self._check_number("typical_p")
        self._check(0 < self.typical_p <= 1, "typical_p", "in (0, 1], where 1 turns it off")
        self._check_number("repetition_penalty")
        self._check(self.repetition_penalty > 0, "repetition_penalty", "above 0, where 1 turns it off")
        self._check_number("length_penalty")
        allowed = isinstance(self.early_stopping, bool) or self.early_stopping == "never"
        self._check(allowed, "early_stopping", 'True, False or "never"')
        self._check_combinations()

    def _freeze_sequences(self) -> None:
        """Lists become tuples, and one stop string alone is not taken for a list of its characters."""
        if isinstance(self.stop_strings, str):
            object.__setattr__(self, "stop_strings", (self.stop_strings,))
        for name in ("stop_strings", "suppress_tokens", "bad_words_ids"):
            value = getattr(self, name)
            self._check(isinstance(value, Sequence) and not isinstance(value, str), name, "a list")
            object.__setattr__(self, name, tuple(value))
        are_texts = all(isinstance(text, str) and text for text in self.stop_strings)
        self._check(are_texts, "stop_strings", "non-empty strings")
        are_tokens = all(map(_is_token, self.suppress_tokens))
        self._check(are_tokens, "suppress_tokens", "token ids, whole and >= 0")
        are_words = all(
            isinstance(word, Sequence) and len(word) > 0 and all(map(_is_token, word)) for word in self.bad_words_ids
        )
        self._check(are_words, "bad_words_ids", "non-empty lists of token ids, whole and >= 0")
        object.__setattr__(self, "bad_words_ids", tuple(tuple(word) for word in self.bad_words_ids))

    def _check_combinations(self) -> None:
        fits = self.min_new_tokens <= self.max_new_tokens
        self._check(fits, "min_new_tokens", f"at most max_new_tokens={self.max_new_tokens}")
        if self.num_beams > 1:
            self._check(not self.do_sample, "num_beams", "1 unless do_sample=False: beam search draws nothing")
            self._check(not self.stop_strings, "stop_strings", f"empty with num_beams={self.num_beams}")
        if not self.do_sample:
            self._check_left_alone(SAMPLING_OPTIONS, "unless do_sample=True: nothing is drawn at random")
        if self.num_beams == 1:
            self._check_left_alone(BEAM_OPTIONS, "unless num_beams > 1: there is no beam search")

    def _check_left_alone(self, names: Sequence[str], reason: str) -> None:
        defaults = {field.name: field.default for field in fields(self)}
        for name in names:
            unset = f"{defaults[name]} {reason}"
            self._check(getattr(self, name) == defaults[name], name, unset)

    def _check_whole_number(self, name: str, smallest: int) -> None:
        value = getattr(self, name)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        self._check(is_whole and value >= smallest, name, f"a whole number of at least {smallest}")

    def _check_number(self, name: str) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        self._check(is_number and math.isfinite(value), name, "a finite number")

    def _check(self, allowed: bool, name: str, what_is_allowed: str) -> None:
        if not allowed:
            raise ValueError(f"{name} must be {what_is_allowed}, but is {getattr(self, name)!r}.")

    @property
    def draws_from_model(self) -> bool:
        """Whether tokens are drawn from the distribution after penalties and bans as it is: nothing warps it."""
        plain = self.temperature == 1 and self.top_p == 1 and self.typical_p == 1
        return self.do_sample and plain and self.top_k == 0 and self.min_p == 0

    @property
    def changes_logits(self) -> bool:
        """Whether a penalty or a ban may change the logits before anything is drawn."""
        banned = self.bad_words_ids or self.suppress_tokens or self.min_new_tokens
        return self.needs_history or bool(banned)

    @property
    def needs_history(self) -> bool:
        """Whether a choice depends on tokens before the last, so that they must be kept."""
        long_bad_words = any(len(word) > 1 for word in self.bad_words_ids)
        return self.repetition_penalty != 1 or self.no_repeat_ngram_size > 0 or long_bad_words


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
