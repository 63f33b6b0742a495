"""Batched beam search with Hugging Face's length penalty and early stopping.

At every step each of the K beams of a row is extended by every token and the best ``(1 + E) K`` extensions
are looked at, E the number of end tokens. Those among the best K which end (by an end token or at
``max_new_tokens``) compete for the K finished places with

    score = sum of log-probabilities / length ** length_penalty,    length in new tokens with the end token;

the best K which do not end are the next beams. A row is done when its K places are filled and

    early_stopping=True:     at once;
    early_stopping=False:    when the best beam would, at its present length, not beat the worst place;
    early_stopping="never":  when it could not at any length up to ``max_new_tokens``: nothing that the beams
                             could still find is missed.

References: Wu et al. 2016, "Google's neural machine translation system", section 7, for the length penalty
(here the plain power); Graves 2012, "Sequence transduction with recurrent neural networks", for the search.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hybridgen.generation.drawing import check_choosable
from hybridgen.generation.options import DecodingOptions
from hybridgen.generation.processors import process_logits
from hybridgen.generation.prompts import Prefill, Prompts, Step, as_end_tokens, check_logits, read_prompts
from hybridgen.generation.rows import select_rows


class Beams(NamedTuple):
    """The K = num_beams best finished sequences of each prompt, best first. T is the longest length.

    A place that the search could not fill, since there are fewer sequences than beams, has length 0, score
    -inf and reason None.

    Attributes:
        tokens: ``(B, K, T)`` int64 new tokens, without the prompt, with the end token, padded with
            ``pad_token_id``.
        lengths: ``(B, K)`` int64.
        scores: ``(B, K)`` log-probability after penalties and bans, divided by length ** length_penalty.
        log_probs: ``(B, K, T)`` nats of each token under the model itself; 0 in padding.
        finish_reasons: B lists of K entries: "eos", "length" or None.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor
    log_probs: Tensor
    finish_reasons: list[list[Literal["eos", "length"] | None]]


class _Hypotheses(NamedTuple):
    """Sequences in K places per row, each field ``(B, K)`` or ``(B, K, T)``; an empty place scores -inf."""

    scores: Tensor
    tokens: Tensor
    log_probs: Tensor
    lengths: Tensor
    by_end_token: Tensor

    def take(self, places: Tensor) -> "_Hypotheses":
        """The given places ``(B, N)`` of each row."""
        deep = places[:, :, None].expand(-1, -1, self.tokens.shape[2])
        return _Hypotheses(*(field.gather(1, places if field.dim() == 2 else deep) for field in self))


@torch.no_grad()
def beam_search(
    step: Step,
    prompts: Prompts,
    state: Any,
    options: DecodingOptions,
    *,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int = 0,
    prefill: Prefill | None = None,
) -> Beams:
    """Search for the most probable continuation of every prompt.

    With one beam it is greedy decoding. Penalties and bans act on log-probabilities and are not
    renormalised, as in Hugging Face. A row that is done costs steps until all are.

    Args:
        step: ``(tokens (B K,), state) -> (logits (B K, V), state)``; the K beams of a prompt are adjacent
            rows.
        prompts: B sequences of token ids, of any lengths, none empty.
        state: initial state of the B rows, before the first token of the prompts.
        options: the decoding options, with ``do_sample=False``.
        eos_token_id: the token or tokens that end a sequence.
        pad_token_id: fills ``tokens`` beyond the lengths.
        prefill: ``(tokens (B, T), lengths (B,), state) -> state``, runs prompts in one go instead of
            stepping.

    Raises:
        ValueError: for prompts, states, logits or options that do not fit, or if every next token of every
            beam is forbidden before any sequence has finished.
    """
    if options.do_sample:
        raise ValueError("do_sample must be False for beam search, but is True: use sample.")
    if options.stop_strings:
        raise ValueError(f"stop_strings must be empty for beam search, but is {options.stop_strings!r}.")
    end_tokens = as_end_tokens(eos_token_id)
    last_tokens, history, state = read_prompts(step, prompts, state, prefill)
    beams, longest, device = options.num_beams, options.max_new_tokens, last_tokens.device
    prompt_numbers = torch.arange(len(last_tokens), device=device)
    first_beam = prompt_numbers[:, None] * beams  # (B, 1) row of each prompt's first beam
    repeats = prompt_numbers.repeat_interleave(beams)  # (B K,)
    state, tokens, history = select_rows(state, repeats), last_tokens[repeats], history[repeats]
    finished = _empty_places(len(last_tokens), beams, longest, device)
    running = _empty_places(len(last_tokens), beams, longest, device)
    running.scores[:, 0] = 0  # all beams are equal at first: only one of them counts
    is_open = torch.ones(len(last_tokens), dtype=torch.bool, device=device)
    for length in range(1, longest + 1):
        logits, state = step(tokens, state)
        check_logits(logits, len(tokens), end_tokens)
        check_choosable(logits, length - 1)
        log_probs = logits.float().log_softmax(-1)  # (B K, V)
        scores = process_logits(log_probs, history, options, new_tokens=length - 1, end_tokens=end_tokens)
        candidates, from_beam = _extend(running, scores, log_probs, end_tokens, length)
        ended = candidates.by_end_token if length < longest else torch.ones_like(candidates.by_end_token)
        finished = _finish(finished, candidates, ended, is_open, length**options.length_penalty)
        going_on = candidates.scores.masked_fill(ended, -torch.inf).topk(beams)
        running = candidates.take(going_on.indices)._replace(scores=going_on.values)
        is_open = is_open & _can_improve(running.scores, finished.scores, length, options)
        if length == longest or not bool(is_open.any()):
            break
        chosen = (first_beam + from_beam.gather(1, going_on.indices)).flatten()  # (B K,)
        tokens = running.tokens[:, :, length - 1].flatten()
        state = select_rows(state, chosen)
        if options.needs_history:
            history = torch.cat([history[chosen], tokens[:, None]], dim=1)
    if bool((finished.scores[:, 0] == -torch.inf).any()):
        row = int((finished.scores[:, 0] == -torch.inf).nonzero()[0])
        raise ValueError(
            f"No sequence of prompt {row} could be finished: no_repeat_ngram_size, bad_words_ids, "
            f"suppress_tokens and min_new_tokens together forbid the whole vocabulary in every beam."
        )
    return _read(finished, pad_token_id)


def _empty_places(batch_size: int, beams: int, longest: int, device: torch.device) -> _Hypotheses:
    return _Hypotheses(
        scores=torch.full((batch_size, beams), -torch.inf, device=device),
        tokens=torch.zeros(batch_size, beams, longest, dtype=torch.long, device=device),
        log_probs=torch.zeros(batch_size, beams, longest, device=device),
        lengths=torch.zeros(batch_size, beams, dtype=torch.long, device=device),
        by_end_token=torch.zeros(batch_size, beams, dtype=torch.bool, device=device),
    )


def _extend(
    running: _Hypotheses, scores: Tensor, log_probs: Tensor, end_tokens: tuple[int, ...], length: int
) -> tuple[_Hypotheses, Tensor]:
    """The best extensions of each row by one token, best first, and the ``(B, N)`` beams they extend.

    As many are returned as leave K that do not end, if there are any.
    """
    batch_size, beams = running.scores.shape
    vocabulary_size = scores.shape[1]
    total = scores.view(batch_size, beams, vocabulary_size) + running.scores[:, :, None]
    count = min(max(2, 1 + len(end_tokens)) * beams, beams * vocabulary_size)
    best = total.flatten(1).topk(count)  # of (B, K V)
    from_beam, token = best.indices // vocabulary_size, best.indices % vocabulary_size  # (B, N)
    extended = running.take(from_beam)
    extended.tokens[:, :, length - 1] = token
    extended.log_probs[:, :, length - 1] = log_probs.view(batch_size, -1).gather(1, best.indices)
    is_end = torch.isin(token, torch.tensor(end_tokens, dtype=torch.long, device=token.device))
    lengths = torch.full_like(token, length)
    return extended._replace(scores=best.values, lengths=lengths, by_end_token=is_end), from_beam


def _finish(
    finished: _Hypotheses, candidates: _Hypotheses, ended: Tensor, is_open: Tensor, divisor: float
) -> _Hypotheses:
    """Let the ended candidates among the best K of each open row compete for its finished places."""
    beams = finished.scores.shape[1]
    rank = torch.arange(ended.shape[1], device=ended.device)
    competes = ended & (rank < beams) & is_open[:, None]
    scores = (candidates.scores / divisor).masked_fill(~competes, -torch.inf)
    both = _Hypotheses(
        *(torch.cat(pair, dim=1) for pair in zip(finished, candidates._replace(scores=scores), strict=True))
    )
    return both.take(both.scores.topk(beams).indices)


def _can_improve(running: Tensor, finished: Tensor, length: int, options: DecodingOptions) -> Tensor:
    """Whether rows go on ``(B,)``, by the scores ``(B, K)`` of their running and finished places, best first."""
    worst = finished[:, -1]  # -inf until all places are filled
    if options.early_stopping is True:
        return (worst == -torch.inf) & (running[:, 0] > -torch.inf)
    can_grow = options.early_stopping == "never" and options.length_penalty > 0
    best_length = options.max_new_tokens if can_grow else length
    return running[:, 0] / best_length**options.length_penalty > worst


def _read(finished: _Hypotheses, pad_token_id: int) -> Beams:
    filled = finished.scores > -torch.inf
    lengths = finished.lengths.masked_fill(~filled, 0)
    longest = int(lengths.max())
    padding = torch.arange(longest, device=lengths.device) >= lengths[:, :, None]  # (B, K, T)
    reasons: list[list[Literal["eos", "length"] | None]] = [
        [("eos" if by_end else "length") if place else None for by_end, place in zip(*row, strict=True)]
        for row in zip(finished.by_end_token.tolist(), filled.tolist(), strict=True)
    ]
    return Beams(
        finished.tokens[:, :, :longest].masked_fill(padding, pad_token_id),
        lengths,
        finished.scores,
        finished.log_probs[:, :, :longest].masked_fill(padding, 0),
        reasons,
    )
