"""Losses that ask a generator for the same statistics as the data, beside what the critic says.

Feature matching: Salimans et al. 2016, arXiv:1606.03498. The moment loss is that of TimeGAN's released code (Yoon et
al. 2019), which weights it by 100; the paper's equations do not have it.
"""

import torch
from torch import Tensor

from hybridgen.objectives.likelihood import valid_mask


def feature_matching(
    real: Tensor,
    fake: Tensor,
    *,
    real_lengths: Tensor | None = None,
    fake_lengths: Tensor | None = None,
) -> Tensor:
    """Mean squared difference between the mean features of real and generated samples: a scalar.

    Args:
        real: a critic's features ``(B, T, F)`` or ``(B, F)`` of real samples; no gradient flows into them.
        fake: those of generated ones; batch and time may differ.
        real_lengths: ``(B,)``.
        fake_lengths: ``(B,)``.

    Raises:
        ValueError: if the number of features differs.
    """
    if real.shape[-1] != fake.shape[-1]:
        raise ValueError(f"real has {real.shape[-1]} features but fake has {fake.shape[-1]}")
    return (_mean_features(real.detach(), real_lengths) - _mean_features(fake, fake_lengths)).square().mean()


def moment_loss(
    real: Tensor,
    fake: Tensor,
    *,
    real_lengths: Tensor | None = None,
    fake_lengths: Tensor | None = None,
    epsilon: float = 1e-6,
) -> Tensor:
    """Differences of mean and standard deviation over the batch, at every step and feature: a scalar.

    ``mean |sqrt(var(y) + epsilon) - sqrt(var(x) + epsilon)| + mean |E y - E x|``. Steps that fewer than two rows of
    either batch reach are left out.

    Args:
        real: ``(B, T, F)``, any B.
        fake: ``(B, T, F)``, the same T and F.
        real_lengths: ``(B,)``.
        fake_lengths: ``(B,)``.
        epsilon: in TimeGAN's code; it keeps the root's derivative finite.

    Raises:
        ValueError: if T or F differs.
    """
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(f"real {tuple(real.shape)} and fake {tuple(fake.shape)} differ in time or features")
    mean, variance, count = _moments(real.detach(), real_lengths)
    fake_mean, fake_variance, fake_count = _moments(fake, fake_lengths)
    there = ((count > 1) & (fake_count > 1)).unsqueeze(-1)  # (T, 1)
    differences = ((fake_variance + epsilon).sqrt() - (variance + epsilon).sqrt()).abs() + (fake_mean - mean).abs()
    return torch.where(there, differences, 0.0).sum() / (there.sum() * real.shape[-1]).clamp(min=1)


def _mean_features(features: Tensor, lengths: Tensor | None) -> Tensor:
    if features.dim() == 2:
        return features.mean(0)
    valid = valid_mask(tuple(features.shape[:2]), lengths=lengths)
    if valid is None:
        return features.mean((0, 1))
    return features.masked_fill(~valid.unsqueeze(-1), 0.0).sum((0, 1)) / valid.sum().clamp(min=1)


def _moments(values: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance ``(T, F)`` over the rows that reach a step, and their number ``(T,)``."""
    valid = valid_mask(tuple(values.shape[:2]), lengths=lengths)
    if valid is None:
        valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    mask = valid.unsqueeze(-1)
    count = valid.sum(0)
    divisor = count.clamp(min=1).unsqueeze(-1)
    values = values.masked_fill(~mask, 0.0)
    mean = values.sum(0) / divisor
    variance = (values - mean).masked_fill(~mask, 0.0).square().sum(0) / divisor
    return mean, variance, count
