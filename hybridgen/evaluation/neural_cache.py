"""The neural cache: Grave et al. 2017, "Improving neural language models with a continuous cache", arXiv:1612.04426.

Words that were used come again. The cache holds the last hidden states ``h[i]`` and the tokens ``x[i + 1]`` that
followed them; with ``h`` the current hidden state,

    p_cache(v) = sum_i [x[i + 1] = v] exp(theta h . h[i]) / sum_i exp(theta h . h[i])
    p(v) = (1 - lambda) p_model(v) + lambda p_cache(v)

so that a state like an earlier one raises what followed then. No training; the model's weights stay as they are.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hybridgen.evaluation.language import LanguageScore, Run, Text, check_at_least


@dataclass(frozen=True, kw_only=True)
class NeuralCache:
    """What the cache is made of; the text that it holds is the caller's.

    Attributes:
        window: how many of the last states it holds. The paper: 500 for the Penn Treebank, 2,000 for WikiText-2.
        theta: how sharply it prefers similar states; 0 makes it the frequency of the tokens in the window.
        interpolation: the paper's lambda, the cache's share of the mixture, in [0, 1).

    Raises:
        ValueError: if an option does not fit.
    """

    window: int = 500
    theta: float = 0.3
    interpolation: float = 0.1

    def __post_init__(self) -> None:
        check_at_least("window", self.window, 1)
        check_at_least("theta", self.theta, 0)
        if not 0 <= self.interpolation < 1:
            raise ValueError(f"interpolation is {self.interpolation}: give the cache a share in [0, 1)")

    def log_probs(self, log_probs: Tensor, hidden: Tensor, past_hidden: Tensor, past_tokens: Tensor) -> Tensor:
        """The mixture over all classes, for generation.

        Args:
            log_probs: ``(B, V)`` of the head, for the current states.
            hidden: ``(B, H)``, the current states.
            past_hidden: ``(B, W, H)``, earlier states of each row in their order; only the last ``window`` count.
            past_tokens: ``(B, W)`` int64, the token that followed each of them.

        Returns:
            ``(B, V)`` nats, normalised; ``log_probs`` itself where the cache is empty (W is 0).
        """
        if past_hidden.shape[1] == 0:
            return log_probs
        past_hidden, past_tokens = past_hidden[:, -self.window :], past_tokens[:, -self.window :]
        scores = self.theta * torch.einsum("bwh,bh->bw", past_hidden, hidden)
        shares = torch.softmax(scores, 1).to(log_probs.dtype)
        cache = torch.zeros_like(log_probs).scatter_add_(1, past_tokens, shares)
        return self._mix(log_probs, cache.log())

    def target_log_probs(
        self, log_probs: Tensor, hidden: Tensor, targets: Tensor, past_hidden: Tensor, past_targets: Tensor
    ) -> Tensor:
        """The mixture at the tokens that came, for consecutive positions of one text.

        Args:
            log_probs: ``(T,)`` of the head, at the targets.
            hidden: ``(T, H)``, the states.
            targets: ``(T,)`` int64, the token that follows each.
            past_hidden: ``(W, H)``, the states before them.
            past_targets: ``(W,)``, the token that followed each of those.

        Returns:
            ``(T,)`` nats. Position t sees the ``window`` states just before it, of the past and of these.
        """
        keys, values = torch.cat([past_hidden, hidden]), torch.cat([past_targets, targets])  # (W + T, ...)
        scores = self.theta * (hidden @ keys.t())  # (T, W + T)
        own = len(past_targets) + torch.arange(len(targets), device=hidden.device).unsqueeze(1)  # (T, 1)
        other = torch.arange(len(values), device=hidden.device)
        # What followed a position is known only to later ones.
        scores = scores.masked_fill((other >= own) | (other < own - self.window), -math.inf)
        match = scores.masked_fill(values != targets.unsqueeze(1), -math.inf)
        cache = torch.logsumexp(match, 1) - torch.logsumexp(scores, 1)
        return torch.where(own.squeeze(1) > 0, self._mix(log_probs, cache.to(log_probs.dtype)), log_probs)

    def _mix(self, log_probs: Tensor, log_cache: Tensor) -> Tensor:
        shares = log_probs.new_tensor([1 - self.interpolation, self.interpolation]).log()
        return torch.logaddexp(log_probs + shares[0], log_cache + shares[1])


@torch.no_grad()
def cache_nats(
    run: Run,
    head: Any,
    tokens: Tensor,
    *,
    cache: NeuralCache,
    start: int | None = None,
    resets: Tensor | None = None,
    chunk_length: int = 512,
    byte_count: int | None = None,
) -> LanguageScore:
    """Score a text with its state carried and a cache that fills as it goes.

    Args:
        run: the model up to the head; the states the cache compares are those that the head reads.
        head: the head.
        tokens: ``(n,)`` token ids of the text.
        cache: the cache; it starts empty. Until it holds a state the model is alone.
        start: a token to read before the text.
        resets: ``(n,)`` bool, fresh states; see :func:`~hybridgen.evaluation.carried_nats`. They leave the cache.
        chunk_length: steps that are run at a time; decides the memory (chunk_length * (chunk_length + window)
            similarities), not the result.
        byte_count: bytes of the predicted tokens' text, for bits per byte.

    Raises:
        ValueError: if the model is in training mode, the text has nothing to predict, or an option does not fit.
    """
    text = Text.of(head, tokens, start, resets)
    check_at_least("chunk_length", chunk_length, 1)
    state, nats, past = None, 0.0, None
    for begin in range(0, text.num_predicted, chunk_length):
        chunk = text.read(torch.arange(begin, min(begin + chunk_length, text.num_predicted)).unsqueeze(0))
        hidden, state = run(chunk.inputs, state, chunk.resets)
        hidden, targets = hidden.squeeze(0), chunk.targets.squeeze(0)
        past_hidden, past_targets = (hidden[:0], targets[:0]) if past is None else past
        log_probs = cache.target_log_probs(-head.nll(hidden, targets), hidden, targets, past_hidden, past_targets)
        nats -= float(log_probs.sum(dtype=torch.float64))
        past = tuple(torch.cat(pair)[-cache.window :] for pair in ((past_hidden, hidden), (past_targets, targets)))
    protocol = (
        f"carried state, neural cache (window {cache.window}, theta {cache.theta:g}, lambda {cache.interpolation:g})"
    )
    return LanguageScore(protocol=protocol, nats=nats, tokens=text.num_predicted, byte_count=byte_count)
