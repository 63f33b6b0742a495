"""The discriminative and the predictive score, as TimeGAN's released code computes them.

Yoon, Jarrett & van der Schaar 2019, "Time-series generative adversarial networks"; code: jsyoon0823/TimeGAN, metrics/.
The paper's text describes other networks than its code has (two-layer LSTMs); every published table follows the code:

* **discriminative**: one GRU of F // 2 units reads real and generated series; 2,000 steps of Adam at 1e-3 on batches of
  128 + 128; both sets are split 80/20 at random; the score is ``|0.5 - accuracy|`` on the held-out fifths, at threshold
  0.5. 0 is best, 0.5 worst.
* **predictive**: one GRU of F // 2 units reads all features but the last and predicts the last feature one step later
  (sigmoid, mean absolute error); 5,000 steps on batches of 128 of the *generated* series; the score is its error on
  *all real* ones. What it is for real series (the "original" row) is as good as it gets.

Series are as the model of the paper sees them: each feature scaled to 0..1 over the data. Two things are as the code
must have meant them: at F = 1 its networks have no unit, here they have one and predict from the feature itself; and
the lengths of generated series are their own (the code takes those of the data).

How far to trust them: real series with 2% of noise score a discriminative .007 to .05, which beats most published
generators; with the same generator ten runs on the stocks data range from .005 to .16. So report ten runs on each of
several *trained models*, beside :func:`~hybridgen.evaluation.series.strong_critic_score` and
:func:`~hybridgen.evaluation.series.memorisation_ratio`.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hybridgen.evaluation.series.inputs import as_lengths, as_pair, check_counts
from hybridgen.evaluation.series.tensorflow_gru import GRUs, draw, rows
from hybridgen.objectives.likelihood import without_padding

_ROWS_AT_ONCE = 1024  # decides the memory of the evaluation, not its result


class Score(NamedTuple):
    """A metric that trains networks, over its runs.

    Attributes:
        mean: over the runs.
        std: over the runs (of the sample; 0 for one run).
        values: one a run.
        training_accuracy: of a discriminative score: accuracy on what was trained on, one a run. Near 0.5 with a score
            near 0 says that the critic learned nothing, not that the series are good.
    """

    mean: float
    std: float
    values: tuple[float, ...]
    training_accuracy: tuple[float, ...] = ()


@torch.enable_grad()
def discriminative_score(
    real: Any,
    fake: Any,
    *,
    real_lengths: Any | None = None,
    fake_lengths: Any | None = None,
    runs: int = 10,
    iterations: int = 2000,
    batch_size: int = 128,
    hidden_size: int | None = None,
    seed: int = 0,
) -> Score:
    """How well a small recurrent network tells generated from real series; 0 is best, 0.5 worst.

    Args:
        real: ``(N, T, F)``, scaled to 0..1.
        fake: ``(M, T, F)``; as many as real ones, or accuracy is not about 0.5.
        real_lengths: ``(N,)``.
        fake_lengths: ``(M,)``.
        runs: networks trained, all at once; each with a split and weights of its own.
        iterations: steps of each; the code's 2,000.
        batch_size: rows of each kind a step; the code's 128, less where there are fewer.
        hidden_size: units; the code's F // 2.
        seed: run r with seed s draws the same, however many runs there are.

    Raises:
        ValueError: if a shape or an option does not fit, or a set has fewer than 5 series.
    """
    real, fake = as_pair(real, fake)
    check_counts(runs=runs, iterations=iterations, batch_size=batch_size)
    for name, series in (("real", real), ("fake", fake)):
        if len(series) < 5:
            raise ValueError(f"{name} has {len(series)} series: the score needs at least 5, to hold a fifth out")
    ends = [as_lengths(real_lengths, real, "real_lengths"), as_lengths(fake_lengths, fake, "fake_lengths")]
    series = torch.cat([without_padding(s, e) for s, e in zip((real, fake), ends, strict=True)])
    lengths = _joined_lengths(ends, (real, fake))
    generators = [np.random.default_rng([seed, run]) for run in range(runs)]
    splits = [(_split(g, len(real), 0), _split(g, len(fake), len(real))) for g in generators]
    networks = GRUs(generators, real.shape[2], hidden_size or max(1, real.shape[2] // 2))
    batch = min(batch_size, *(len(part[0]) for part in splits[0]))
    optimizer = torch.optim.Adam(networks.parameters(), lr=1e-3)
    targets = torch.cat([torch.ones(batch), torch.zeros(batch)]).expand(runs, -1)
    for _ in range(iterations):
        chosen = torch.cat([draw(generators, [s[k][0] for s in splits], batch) for k in (0, 1)], 1)  # (R, 2B)
        logits = networks(rows(series, chosen), None if lengths is None else lengths[chosen])[-1]
        # Each run's loss is the sum of two means over its batch; runs do not share a weight, so theirs just add up.
        loss = 2 * F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracies = []
    for part in (0, 1):
        right = torch.zeros(runs)
        for kind in (0, 1):
            populations = torch.from_numpy(np.stack([s[kind][part] for s in splits]))
            says_real = _last_numbers(networks, series, lengths, populations) > 0
            right += (says_real if kind == 0 else ~says_real).sum(1)
        accuracies.append(right / sum(len(s[part]) for s in splits[0]))
    return _score((0.5 - accuracies[1]).abs(), accuracies[0])


@torch.enable_grad()
def predictive_score(
    real: Any,
    fake: Any,
    *,
    real_lengths: Any | None = None,
    fake_lengths: Any | None = None,
    runs: int = 10,
    iterations: int = 5000,
    batch_size: int = 128,
    hidden_size: int | None = None,
    seed: int = 0,
) -> Score:
    """Error on real series of a small network that learned on generated ones; compare with real in place of fake.

    Args:
        real: ``(N, T, F)``, scaled to 0..1, T at least 2.
        fake: ``(M, T, F)``.
        real_lengths: ``(N,)``, at least 2.
        fake_lengths: ``(M,)``, at least 2.
        runs: networks trained, all at once.
        iterations: steps of each; the code's 5,000.
        batch_size: rows a step; the code's 128, less where there are fewer.
        hidden_size: units; the code's F // 2.
        seed: of the draws.

    Raises:
        ValueError: if a shape or an option does not fit.
    """
    real, fake = as_pair(real, fake)
    check_counts(runs=runs, iterations=iterations, batch_size=batch_size)
    ends = [as_lengths(real_lengths, real, "real_lengths"), as_lengths(fake_lengths, fake, "fake_lengths")]
    shortest = min([real.shape[1], *(int(e.min()) for e in ends if e is not None)])
    if shortest < 2:
        raise ValueError("a series of one step has nothing to predict: the predictive score needs at least 2")
    real, fake = without_padding(real, ends[0]), without_padding(fake, ends[1])
    features = real.shape[2]
    inputs = slice(0, max(1, features - 1))
    generators = [np.random.default_rng([seed, run]) for run in range(runs)]
    networks = GRUs(generators, max(1, features - 1), hidden_size or max(1, features // 2))
    optimizer = torch.optim.Adam(networks.parameters(), lr=1e-3)
    everything = [np.arange(len(fake))] * runs
    batch = min(batch_size, len(fake))
    for _ in range(iterations):
        chosen = draw(generators, everything, batch)
        taken = rows(fake, chosen)  # (T, R, F, B)
        steps = None if ends[1] is None else ends[1][chosen] - 1
        predicted = networks(taken[:-1, :, inputs], steps).sigmoid()
        error, count = _absolute_error(predicted, taken[1:, :, -1], steps)
        loss = (error.sum((0, 2)) / count.sum(1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    totals = torch.zeros(runs)
    with torch.no_grad():
        for piece in torch.arange(len(real)).split(_ROWS_AT_ONCE):
            chosen = piece.expand(runs, -1)
            taken = rows(real, chosen)
            steps = None if ends[0] is None else ends[0][chosen] - 1
            predicted = networks(taken[:-1, :, inputs], steps).sigmoid()
            error, count = _absolute_error(predicted, taken[1:, :, -1], steps)
            totals += (error.sum(0) / count).sum(1)  # the mean over a series first, as in the code
    return _score(totals / len(real), None)


def _absolute_error(predicted: Tensor, target: Tensor, steps: Tensor | None) -> tuple[Tensor, Tensor]:
    """Errors ``(T, R, B)``, zero past a row's end, and the number of steps of each row ``(R, B)``."""
    error = (predicted - target).abs()
    if steps is None:
        return error, torch.full(error.shape[1:], float(len(error)))
    return error.masked_fill(torch.arange(len(error)).view(-1, 1, 1) >= steps, 0.0), steps.float()


def _split(generator: np.random.Generator, count: int, offset: int) -> tuple[np.ndarray, np.ndarray]:
    order = generator.permutation(count) + offset
    return order[: int(0.8 * count)], order[int(0.8 * count) :]


@torch.no_grad()
def _last_numbers(networks: GRUs, series: Tensor, lengths: Tensor | None, chosen: Tensor) -> Tensor:
    """What each network says of its rows ``(R, B)``, in pieces."""
    pieces = [
        networks(rows(series, piece), None if lengths is None else lengths[piece])[-1]
        for piece in chosen.split(_ROWS_AT_ONCE, 1)
    ]
    return torch.cat(pieces, 1)


def _joined_lengths(ends: list[Tensor | None], series: tuple[Tensor, ...]) -> Tensor | None:
    if all(e is None for e in ends):
        return None
    whole = [torch.full((len(s),), s.shape[1]) if e is None else e for e, s in zip(ends, series, strict=True)]
    return torch.cat(whole)


def _score(values: Tensor, training_accuracy: Tensor | None) -> Score:
    spread = float(values.std()) if len(values) > 1 else 0.0
    training = () if training_accuracy is None else tuple(training_accuracy.tolist())
    return Score(float(values.mean()), spread, tuple(values.tolist()), training)
