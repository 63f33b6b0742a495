"""A critic that is not blind, to stand beside the discriminative score.

The published score's critic has two to a dozen units and one direction: noise of 2% on every value escapes it. This one
reads each value and its first two differences over time, standardised by the real series, in both directions, with far
more units, and is judged by the area under the ROC curve on a held-out fifth, which no threshold can spoil. A
classifier as a test of two samples: Lopez-Paz & Oquab 2017, arXiv:1610.06545; this one is the toolkit's own.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.evaluation.series.inputs import as_lengths, as_pair, check_counts
from hybridgen.objectives.likelihood import without_padding


class StrongCriticScore(NamedTuple):
    """What the strong critic found.

    Attributes:
        score: ``|0.5 - accuracy|`` on what was held out, as the discriminative score: 0 is best, 0.5 worst.
        area: under the ROC curve on what was held out; 0.5 where it cannot tell.
        training_area: the same on what it learned from.
    """

    score: float
    area: float
    training_area: float


@torch.enable_grad()
def strong_critic_score(
    real: Any,
    fake: Any,
    *,
    real_lengths: Any | None = None,
    fake_lengths: Any | None = None,
    iterations: int = 600,
    batch_size: int = 64,
    hidden_size: int = 32,
    learning_rate: float = 5e-3,
    seed: int = 0,
) -> StrongCriticScore:
    """How well a strong recurrent critic tells generated from real series.

    Args:
        real: ``(N, T, F)``.
        fake: ``(M, T, F)``.
        real_lengths: ``(N,)``.
        fake_lengths: ``(M,)``.
        iterations: steps of Adam, its learning rate falling to 0 by a cosine.
        batch_size: rows of each kind a step.
        hidden_size: units of each direction.
        learning_rate: at the start.
        seed: of split, weights and batches.

    Raises:
        ValueError: if a shape or an option does not fit, or a set has fewer than 5 series.
    """
    real, fake = as_pair(real, fake)
    check_counts(iterations=iterations, batch_size=batch_size, hidden_size=hidden_size)
    if min(len(real), len(fake)) < 5:
        raise ValueError("the strong critic needs at least 5 real and 5 generated series, to hold a fifth out")
    ends = [as_lengths(real_lengths, real, "real_lengths"), as_lengths(fake_lengths, fake, "fake_lengths")]
    sets = [_with_differences(without_padding(s, e), e) for s, e in zip((real, fake), ends, strict=True)]
    valid = _valid(sets[0], ends[0])
    mean, deviation = sets[0][valid].mean(0), sets[0][valid].std(0, correction=0) + 1e-6
    sets = [
        ((s - mean) / deviation).masked_fill(~_valid(s, e).unsqueeze(-1), 0.0) for s, e in zip(sets, ends, strict=True)
    ]
    random = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(s), generator=random) for s in sets]
    parts = [(o[: int(0.8 * len(o))], o[int(0.8 * len(o)) :]) for o in orders]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = _Critic(sets[0].shape[2], hidden_size)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for _ in range(iterations):
        chosen = [p[0][torch.randint(len(p[0]), (batch_size,), generator=random)] for p in parts]
        of_real, of_fake = (
            critic(s[c], None if e is None else e[c]) for s, e, c in zip(sets, ends, chosen, strict=True)
        )
        loss = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    areas, accuracy = [], 0.0
    for part in (0, 1):
        of_real, of_fake = (_logits(critic, s, e, p[part]) for s, e, p in zip(sets, ends, parts, strict=True))
        areas.append(area_under_roc(of_real, of_fake))
        accuracy = float(torch.cat([of_real > 0, of_fake <= 0]).float().mean())
    return StrongCriticScore(abs(0.5 - accuracy), areas[1], areas[0])


def area_under_roc(positive: Tensor, negative: Tensor) -> float:
    """Probability that a positive number is above a negative one, ties counting half.

    Args:
        positive: ``(P,)`` scores of positives.
        negative: ``(Q,)`` scores of negatives.
    """
    ordered = negative.double().sort().values
    below = torch.searchsorted(ordered, positive.double())
    not_above = torch.searchsorted(ordered, positive.double(), right=True)
    return float((below + not_above).double().mean() / (2 * len(negative)))


class _Critic(nn.Module):
    def __init__(self, features: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, hidden_size, batch_first=True, bidirectional=True)
        self.score = nn.Sequential(nn.Linear(4 * hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))

    def forward(self, series: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            outputs = self.gru(series)[0]
            pooled = [outputs.mean(1), outputs.amax(1)]
        else:
            packed = nn.utils.rnn.pack_padded_sequence(series, lengths, batch_first=True, enforce_sorted=False)
            outputs, _ = nn.utils.rnn.pad_packed_sequence(
                self.gru(packed)[0], batch_first=True, total_length=series.shape[1]
            )
            padding = ~_valid(outputs, lengths).unsqueeze(-1)
            pooled = [outputs.sum(1) / lengths.unsqueeze(1), outputs.masked_fill(padding, -1.0).amax(1)]
        return self.score(torch.cat(pooled, 1)).squeeze(1)


def _with_differences(series: Tensor, lengths: Tensor | None) -> Tensor:
    """Values, first and second differences ``(N, T, 3F)``; the first step's are zero."""
    first = F.pad(series.diff(dim=1), (0, 0, 1, 0))
    second = F.pad(first.diff(dim=1), (0, 0, 1, 0))
    return without_padding(torch.cat([series, first, second], -1), lengths)


def _valid(series: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return torch.ones(series.shape[:2], dtype=torch.bool)
    return torch.arange(series.shape[1]) < lengths[:, None]


@torch.no_grad()
def _logits(critic: _Critic, series: Tensor, lengths: Tensor | None, chosen: Tensor) -> Tensor:
    pieces = [critic(series[c], None if lengths is None else lengths[c]) for c in chosen.split(1024)]
    return torch.cat(pieces)
