"""Penalties and bans on the next token's logits: what holds for greedy, sampled and beam decoding alike.

Every function is pure: ``(B, V)`` logits in, new ``(B, V)`` logits out, a forbidden token at -inf. Names, order
and meaning are those of Hugging Face's logits processors.

``history (B, T)`` holds the tokens so far, prompt first, newest last. Rows of different lengths are padded on
the LEFT with ``PADDING``; an id outside ``[0, V)`` counts as no token.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hybridgen.generation.options import DecodingOptions

PADDING = -1


def repetition_penalty(logits: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Make the tokens of the history less likely, each once however often it occurred.

    A positive logit is divided by the penalty and a negative one multiplied, so the result depends on where
    the logits' zero lies: sampling applies it to raw logits and beam search to log-probabilities, as
    Hugging Face does.

    Args:
        logits: ``(B, V)``.
        history: ``(B, T)`` token ids.
        penalty: above 1 penalises, below 1 rewards; 1.2 is the paper's choice.

    Reference: Keskar et al. 2019, "CTRL: a conditional transformer language model", section 4.1.
    """
    vocabulary_size = logits.shape[1]
    spare = functional.pad(logits, (0, 1))  # (B, V + 1): the last column takes what is no token
    ids = _into_spare_column(history, vocabulary_size)
    seen = spare.gather(1, ids)  # (B, T)
    seen = torch.where(seen < 0, seen * penalty, seen / penalty)
    return spare.scatter(1, ids, seen)[:, :vocabulary_size]


def no_repeat_ngram_size(logits: Tensor, history: Tensor, size: int) -> Tensor:
    """Forbid every token that would complete an n-gram which the history already holds.

    Args:
        logits: ``(B, V)``.
        history: ``(B, T)`` token ids.
        size: n, at least 1; 1 forbids every token of the history.

    Reference: Paulus et al. 2018, "A deep reinforced model for abstractive summarization", section 2.5.
    """
    length = history.shape[1]
    if length < size:
        return logits.clone()
    prefix = history[:, length + 1 - size :]  # (B, n - 1)
    windows = history.unfold(1, size, 1)  # (B, T - n + 1, n)
    # A prefix that reaches into the padding matches nothing: all tokens of its row are in it, none come after.
    matches = (windows[..., :-1] == prefix[:, None]).all(-1)  # (B, T - n + 1)
    completions = torch.where(matches, windows[..., -1], PADDING)  # (B, T - n + 1)
    return _ban(logits, completions)


def bad_words_ids(logits: Tensor, history: Tensor, words: Sequence[Sequence[int]]) -> Tensor:
    """Forbid the last token of each word where the history ends with the rest of it.

    Args:
        logits: ``(B, V)``.
        history: ``(B, T)`` token ids; unused if all words have length 1.
        words: token sequences, none empty; one of length 1 is always forbidden.

    Raises:
        ValueError: if an id is not in the vocabulary.
    """
    _check_in_vocabulary("bad_words_ids", [token for word in words for token in word], logits.shape[1])
    by_length = defaultdict(list)
    for word in words:
        by_length[len(word)].append(list(word))
    for length, same_length in by_length.items():
        if length - 1 > history.shape[1]:
            continue
        group = torch.tensor(same_length, device=logits.device)  # (N, length)
        ending = history[:, None, history.shape[1] - (length - 1) :]  # (B, 1, length - 1)
        matches = (ending == group[:, :-1]).all(-1)  # (B, N)
        logits = _ban(logits, torch.where(matches, group[:, -1], PADDING))
    return logits


def min_new_tokens(logits: Tensor, new_tokens: int, minimum: int, end_tokens: Sequence[int]) -> Tensor:
    """Forbid the end tokens until ``minimum`` tokens have been generated.

    Args:
        logits: ``(B, V)``.
        new_tokens: tokens generated so far, the prompt not counted.
        minimum: tokens to generate before the end is allowed.
        end_tokens: ids of the end-of-sequence tokens.
    """
    return suppress_tokens(logits, end_tokens) if new_tokens < minimum else logits


def suppress_tokens(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """Forbid tokens.

    Args:
        logits: ``(B, V)``.
        tokens: ids.

    Raises:
        ValueError: if an id is not in the vocabulary.
    """
    _check_in_vocabulary("suppress_tokens", tokens, logits.shape[1])
    ids = torch.tensor(list(tokens), dtype=torch.long, device=logits.device)
    return logits.index_fill(1, ids, -torch.inf)


def process_logits(
    logits: Tensor,
    history: Tensor,
    options: DecodingOptions,
    *,
    new_tokens: int,
    end_tokens: Sequence[int] = (),
) -> Tensor:
    """Apply every penalty and ban that the options ask for.

    Order: repetition penalty, n-grams, bad words, minimum length, suppressed tokens. As in Hugging Face, an
    end token is not a bad word: to forbid it, use ``suppress_tokens``.

    Args:
        logits: ``(B, V)``; returned as they are, not copied, if nothing is asked for.
        history: ``(B, T)`` token ids, newest last, padded on the left.
        options: the decoding options.
        new_tokens: tokens generated so far, the prompt not counted.
        end_tokens: ids of the end-of-sequence tokens.

    Returns:
        ``(B, V)``, forbidden tokens at -inf.
    """
    if options.repetition_penalty != 1:
        logits = repetition_penalty(logits, history, options.repetition_penalty)
    if options.no_repeat_ngram_size > 0:
        logits = no_repeat_ngram_size(logits, history, options.no_repeat_ngram_size)
    words = [word for word in options.bad_words_ids if not (len(word) == 1 and word[0] in end_tokens)]
    if words:
        logits = bad_words_ids(logits, history, words)
    if options.min_new_tokens > 0:
        logits = min_new_tokens(logits, new_tokens, options.min_new_tokens, end_tokens)
    if options.suppress_tokens:
        logits = suppress_tokens(logits, options.suppress_tokens)
    return logits


def _ban(logits: Tensor, ids: Tensor) -> Tensor:
    """Set the ids ``(B, N)`` of each row to -inf; an id outside the vocabulary bans nothing."""
    vocabulary_size = logits.shape[1]
    banned = torch.zeros(len(logits), vocabulary_size + 1, dtype=torch.bool, device=logits.device)
    banned.scatter_(1, _into_spare_column(ids, vocabulary_size), True)
    return logits.masked_fill(banned[:, :vocabulary_size], -torch.inf)


def _into_spare_column(ids: Tensor, vocabulary_size: int) -> Tensor:
    return torch.where((ids < 0) | (ids >= vocabulary_size), vocabulary_size, ids)


def _check_in_vocabulary(name: str, tokens: Sequence[int], vocabulary_size: int) -> None:
    for token in tokens:
        if not 0 <= token < vocabulary_size:
            raise ValueError(f"{name} holds token {token}, but the vocabulary has {vocabulary_size} tokens.")
