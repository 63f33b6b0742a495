"""From logits to the next token: greedy, or one inverse-CDF draw per row.

Cost per row, V the vocabulary size: an exponential and a running sum over V. With ``top_k`` the warpers and
the draw see only k candidates, found in O(V); with ``top_p`` alone only as many as the nucleus needs, found
by repeated selection of 256, 2048, ... candidates. A full sort happens only for ``typical_p`` without either,
or for a nucleus of most of the vocabulary.

What one row gives never depends on the other rows: no reduction crosses rows, and where a candidate set is
shared in width the extra columns hold probability zero.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hybridgen.generation.options import DecodingOptions
from hybridgen.generation.processors import process_logits
from hybridgen.generation.warpers import min_p, top_p, typical_p
from hybridgen.heads.levels import Levels

# Rows are handled in blocks of about 1 MB of logits: the temporaries stay in cache and the allocator reuses
# them, which on a CPU is several times faster than (B, V) temporaries that the kernel maps and unmaps at
# every step.
BLOCK_ELEMENTS = 2**18
FIRST_NUCLEUS_WIDTH = 256
NUCLEUS_GROWTH = 8


class Choice(NamedTuple):
    """One chosen token per row.

    Attributes:
        tokens: ``(B,)`` int64.
        log_probs: ``(B,)`` nats under the model itself, before penalties, temperature and truncation.
        sampling_log_probs: ``(B,)`` nats under the distribution the token was drawn from; 0 for greedy.
    """

    tokens: Tensor
    log_probs: Tensor
    sampling_log_probs: Tensor


def choose_tokens(
    logits: Tensor,
    history: Tensor,
    uniforms: Tensor,
    options: DecodingOptions,
    *,
    new_tokens: int = 0,
    end_tokens: Sequence[int] = (),
) -> Choice:
    """Choose the next token of every row.

    Args:
        logits: ``(B, V)`` of the model.
        history: ``(B, T)`` tokens so far, newest last, padded on the left; read only if
            ``options.needs_history``.
        uniforms: ``(B,)`` float64 in [0, 1), one draw per row; unused if ``do_sample=False``.
        options: the decoding options.
        new_tokens: tokens generated so far.
        end_tokens: ids of the end-of-sequence tokens.

    Raises:
        ValueError: if logits are NaN or infinite, or no token is left to choose in some row.
    """
    count = logits.shape[0]
    block = max(1, BLOCK_ELEMENTS // logits.shape[1]) if logits.device.type == "cpu" else count
    if count <= block:
        return _choose_in_block(logits, history, uniforms, options, new_tokens, end_tokens)
    parts = [
        _choose_in_block(logits[rows], history[rows], uniforms[rows], options, new_tokens, end_tokens)
        for rows in (slice(start, start + block) for start in range(0, count, block))
    ]
    return Choice(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _choose_in_block(
    logits: Tensor,
    history: Tensor,
    uniforms: Tensor,
    options: DecodingOptions,
    new_tokens: int,
    end_tokens: Sequence[int],
) -> Choice:
    logits = logits.float()
    model_log_probs = logits.log_softmax(-1)  # (B, V)
    scores = process_logits(logits, history, options, new_tokens=new_tokens, end_tokens=end_tokens)
    if scores is logits:
        scores = model_log_probs
        choice = _draw_from_model(scores, uniforms) if options.draws_from_model else None
        if choice is not None:
            return choice
    check_choosable(scores, new_tokens)
    if options.do_sample:
        candidates, ids = find_candidates(scores, options)
        positions, sampling_log_probs = inverse_cdf(candidates, uniforms)
        tokens = positions if ids is None else ids.gather(1, positions[:, None])[:, 0]
    else:
        tokens = scores.argmax(-1)
        sampling_log_probs = torch.zeros_like(tokens, dtype=torch.float32)
    return Choice(tokens, model_log_probs.gather(1, tokens[:, None])[:, 0], sampling_log_probs)


def _draw_from_model(log_probs: Tensor, uniforms: Tensor) -> Choice | None:
    """The draw from normalised ``log_probs (B, V)`` as they are, or None where something about it is not right.

    What ``inverse_cdf`` and the checks around it do, in half as many operations: at one row of a small vocabulary
    the number of operations is what a draw costs.
    """
    columns, _, _ = _columns_at(log_probs, uniforms)
    drawn = log_probs.gather(1, columns).squeeze(1)
    # A token of no probability is at -inf, and logits that are NaN or infinite make a row of NaN.
    if not math.isfinite(drawn.sum().item()):
        return None
    return Choice(columns.squeeze(1), drawn, drawn)


def draw_from_levels(levels: Levels, hidden: Tensor, uniforms: Tensor) -> Choice | None:
    """The inverse-CDF draw from a distribution in two levels, of which only the clusters that are hit are computed.

    Classes lie in the order of their numbers, so where a draw falls into a cluster, its place within the cluster's
    share is the draw within the cluster: the token is the one that :func:`choose_tokens` draws from all
    log-probabilities with the same number, but for rounding.

    Args:
        levels: of the head.
        hidden: ``(B, H)``.
        uniforms: ``(B,)`` float64 in [0, 1).

    Returns:
        The choice, or None where a log-probability is not finite.
    """
    first = levels.first(hidden).float()  # (B, S + C)
    columns, targets, cumulative = _columns_at(first, uniforms)
    drawn = first.gather(1, columns)
    tokens, shortlist = columns, levels.starts[0]
    hit: dict[int, list[int]] = {}
    for row, column in enumerate(columns.squeeze(1).tolist()):
        if column >= shortlist:
            hit.setdefault(column - shortlist, []).append(row)
    for cluster, members in hit.items():
        rows = torch.tensor(members, device=hidden.device)
        edges = cumulative[rows, shortlist + cluster - 1 : shortlist + cluster + 1]  # (rows, 2)
        places = ((targets[rows, 0] - edges[:, 0]) / (edges[:, 1] - edges[:, 0])).clamp_(0, 1 - 2**-53)
        inside = levels.inside[cluster](hidden[rows]).float()
        within, _, _ = _columns_at(inside, places)
        tokens[rows] = within + levels.starts[cluster]
        drawn[rows] += inside.gather(1, within)
    if not math.isfinite(drawn.sum().item()):
        return None
    drawn = drawn.squeeze(1)
    return Choice(tokens.squeeze(1), drawn, drawn)


def _columns_at(log_probs: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where draws ``(B,)`` fall among normalised ``log_probs (B, N)``.

    Returns:
        The columns ``(B, 1)``, the running sums ``(B, 1)`` that the draws stand for, and all running sums ``(B, N)``.
    """
    exact = torch.float32 if log_probs.device.type == "mps" else torch.float64
    cumulative = log_probs.exp().cumsum(-1, dtype=exact)
    targets = uniforms.to(cumulative)[:, None] * cumulative[:, -1:]
    columns = torch.searchsorted(cumulative, targets, right=True).clamp_(max=log_probs.shape[1] - 1)
    return columns, targets, cumulative


def check_choosable(scores: Tensor, new_tokens: int) -> None:
    """Check that every row of the scores ``(B, V)`` leaves a token to choose.

    Raises:
        ValueError: if a row holds NaN, +inf, or nothing but -inf.
    """
    best = scores.amax(-1)  # NaN if any is
    if bool(best.isfinite().all()):
        return
    if bool((best == -torch.inf).any()):
        raise ValueError(
            f"No token is left to choose after {new_tokens} new tokens: the logits, no_repeat_ngram_size, "
            f"bad_words_ids, suppress_tokens and min_new_tokens together forbid the whole vocabulary."
        )
    raise ValueError(f"The logits of the model are NaN or infinite after {new_tokens} new tokens.")


def find_candidates(scores: Tensor, options: DecodingOptions) -> tuple[Tensor, Tensor | None]:
    """The tokens which the warpers keep, in a fixed order: ``warp_logits`` without sorting the vocabulary.

    Args:
        scores: ``(B, V)`` logits after penalties and bans, any log-normaliser.
        options: the decoding options.

    Returns:
        ``(B, N)`` unnormalised log-probabilities with removed candidates at -inf, and their ``(B, N)`` token
        ids, or None if the candidates are the whole vocabulary in its own order.
    """
    if options.temperature != 1:
        # With the largest at 0 no temperature overflows; that of the plain definition could.
        divisor = max(options.temperature, torch.finfo(scores.dtype).tiny)
        scores = (scores - scores.amax(-1, keepdim=True)) / divisor
    ids = None
    if 0 < options.top_k < scores.shape[1]:
        scores, ids = _most_probable(scores, options.top_k)
        if options.top_p < 1:
            scores = top_p(scores, options.top_p)
    elif options.top_p < 1:
        scores, ids = _nucleus(scores, options.top_p)
    if options.min_p > 0:
        scores = min_p(scores, options.min_p)
    if options.typical_p < 1:
        scores = typical_p(scores, options.typical_p)
    return scores, ids


def inverse_cdf(log_weights: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one column per row with probability proportional to its weight; a zero weight is never drawn.

    Args:
        log_weights: ``(B, N)`` unnormalised log-probabilities, at least one finite in each row.
        uniforms: ``(B,)`` float64 in [0, 1).

    Returns:
        ``(B,)`` columns and ``(B,)`` their log-probabilities in float32, nats.
    """
    weights = (log_weights - log_weights.amax(-1, keepdim=True)).exp_()
    exact = torch.float32 if weights.device.type == "mps" else torch.float64
    cumulative = weights.cumsum(-1, dtype=exact)  # (B, N)
    total = cumulative[:, -1:]
    targets = uniforms.to(cumulative)[:, None] * total
    # The first column whose cumulative weight is above the target: a zero weight adds nothing, so it is
    # never first.
    columns = torch.searchsorted(cumulative, targets, right=True).clamp_(max=weights.shape[1] - 1)  # (B, 1)
    drawn = weights.gather(1, columns)
    if bool((drawn <= 0).any()):  # only where rounding is not monotone, as in a parallel running sum
        columns = torch.where(drawn > 0, columns, weights.argmax(-1, keepdim=True))
        drawn = weights.gather(1, columns)
    return columns[:, 0], (drawn.to(exact).log() - total.log()).float()[:, 0]


def _most_probable(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of each row and all tied with the k-th, float64, in the order of the vocabulary."""
    values, ids = scores.topk(k + 1)
    smallest_kept = values[:, k - 1 : k]  # (B, 1)
    tied = (values[:, k:] == smallest_kept) & smallest_kept.isfinite()
    if bool(tied.any()):
        width = int((scores >= smallest_kept).logical_and_(scores.isfinite()).sum(-1).max())
        values, ids = scores.topk(max(width, k))
    else:
        values, ids = values[:, :k], ids[:, :k]
    ids, order = ids.sort(-1)
    values = _widened(values.gather(1, order))
    return values.masked_fill(values < smallest_kept, -torch.inf), ids


def _nucleus(scores: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """The nucleus of each row, float64, most probable first: ``top_p``, ties included, without a full sort."""
    log_probs = scores.log_softmax(-1)
    width = min(FIRST_NUCLEUS_WIDTH, scores.shape[1])
    while True:
        values, ids = log_probs.topk(width)
        if bool((values[:, 1:] == values[:, :-1]).any()):  # equal tokens: those of higher ids come first
            ids, order = ids.sort(dim=-1, descending=True)
            values, order = values.gather(1, order).sort(dim=-1, descending=True, stable=True)
            ids = ids.gather(1, order)
        values = _widened(values)
        probabilities = values.exp()
        kept = probabilities.cumsum(-1) - probabilities < p  # those before a kept token do not reach p
        last_kept = values.gather(1, kept.sum(-1, keepdim=True) - 1)
        # A nucleus is complete if the last candidate is less probable than its last token, so that no tie
        # is cut.
        if width == scores.shape[1] or bool((values[:, -1:] < last_kept).all()):
            return values.masked_fill(~kept, -torch.inf), ids
        width = min(width * NUCLEUS_GROWTH, scores.shape[1])


def _widened(values: Tensor) -> Tensor:
    return values if values.device.type == "mps" else values.double()
