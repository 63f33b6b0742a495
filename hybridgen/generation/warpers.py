"""Truncation and tempering of the next token's distribution, for decoding at random only.

Every function is pure: ``(B, V)`` logits in, new ``(B, V)`` logits out, a removed token at -inf. None of them
needs normalised logits, and each keeps at least one token of a row that has any. Names, order and meaning
are those of Hugging Face's logits warpers. These are the plain definitions over the whole vocabulary;
``drawing.py`` applies the same ones to few candidates.
"""

import math

import torch
from torch import Tensor

from hybridgen.generation.options import DecodingOptions


def temperature(logits: Tensor, value: float) -> Tensor:
    """Divide the logits ``(B, V)`` by the temperature, > 0."""
    return logits / value


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k most probable tokens, and every token tied with the last of them.

    Idempotent.

    Args:
        logits: ``(B, V)``.
        k: at least 1; V or more keeps everything.

    Reference: Fan et al. 2018, "Hierarchical neural story generation", section 5.4.
    """
    k = min(k, logits.shape[1])
    smallest_kept = logits.topk(k).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < smallest_kept, -torch.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the nucleus: the smallest set of most probable tokens whose mass reaches p.

    Of equally probable tokens at the border only as many are kept as are needed, those of the highest ids.
    Not
    idempotent: the kept tokens share the removed mass, so a second pass may remove more.

    Args:
        logits: ``(B, V)``.
        p: in (0, 1].

    Reference: Holtzman et al. 2020, "The curious case of neural text degeneration", section 3.1.
    """
    ascending, order = logits.sort(dim=-1, stable=True)
    removed = ascending.softmax(-1).cumsum(-1) <= 1 - p  # (B, V), least probable first
    removed[:, -1] = False
    return logits.masked_fill(removed.scatter(1, order, removed), -torch.inf)


def min_p(logits: Tensor, fraction: float) -> Tensor:
    """Keep the tokens at least ``fraction`` times as probable as the most probable one.

    Idempotent. It needs no sort and no softmax: a ratio of probabilities is a difference of logits.

    Args:
        logits: ``(B, V)``.
        fraction: in [0, 1]; 0 keeps everything.

    Reference: Nguyen et al. 2025, "Turning up the heat: min-p sampling for creative and coherent LLM
    outputs".
    """
    if fraction == 0:
        return logits.clone()
    least = logits.amax(-1, keepdim=True) + math.log(fraction)  # (B, 1)
    return logits.masked_fill(logits < least, -torch.inf)


def typical_p(logits: Tensor, mass: float) -> Tensor:
    """Keep the tokens whose surprise is nearest the entropy, the fewest of them that reach ``mass``.

    Tokens tied with the last one kept are kept. The most probable token may be removed.

    Args:
        logits: ``(B, V)``.
        mass: in (0, 1); Hugging Face and this function keep everything at 1 up to rounding.

    Reference: Meister et al. 2023, "Locally typical sampling", section 4.
    """
    log_probs = logits.log_softmax(-1)
    entropy = -(log_probs * log_probs.exp()).nansum(-1, keepdim=True)  # (B, 1), nats; 0 log 0 = 0
    distance = (-log_probs - entropy).abs()  # (B, V)
    ascending, order = distance.sort(dim=-1)
    cumulative = log_probs.gather(-1, order).exp().cumsum(-1)
    last_kept = (cumulative < mass).sum(-1, keepdim=True).clamp(max=logits.shape[1] - 1)  # (B, 1)
    removed = distance > ascending.gather(-1, last_kept)
    return logits.masked_fill(removed, -torch.inf)


def warp_logits(logits: Tensor, options: DecodingOptions) -> Tensor:
    """Apply every warper that the options ask for: temperature, top-k, top-p, min-p, typical-p.

    Args:
        logits: ``(B, V)``, after the penalties and bans of ``process_logits``.
        options: the decoding options.

    Returns:
        ``(B, V)`` unnormalised logits, removed tokens at -inf.
    """
    if options.temperature != 1:
        logits = temperature(logits, options.temperature)
    if options.top_k > 0:
        logits = top_k(logits, options.top_k)
    if options.top_p < 1:
        logits = top_p(logits, options.top_p)
    if options.min_p > 0:
        logits = min_p(logits, options.min_p)
    if options.typical_p < 1:
        logits = typical_p(logits, options.typical_p)
    return logits
