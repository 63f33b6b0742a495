"""Layers of critics: what lets them see a whole batch, and what bounds how steep they are."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from hybridgen.objectives.likelihood import valid_mask


class MinibatchStandardDeviation(nn.Module):
    """One more feature that says how much the samples of a batch differ (Karras et al. 2018, arXiv:1710.10196).

    A generator that always makes the same is given away by it. Rows are taken in groups; the standard deviation over a
    group's rows, at every step and feature, is averaged to one number, which is appended to every element of the group.
    Means are over what is there: steps that fewer than two rows of the group reach do not count.

    Args:
        group_size: rows of a group; a batch that it does not divide is one group.

    Raises:
        ValueError: if ``group_size`` is below 2.
    """

    def __init__(self, group_size: int = 8) -> None:
        super().__init__()
        if group_size < 2:
            raise ValueError(f"group_size is {group_size}: a standard deviation needs at least 2 rows")
        self.group_size = group_size

    def forward(self, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Append the feature.

        Args:
            inputs: ``(B, T, F)`` or ``(B, F)``.
            lengths: ``(B,)``; the feature is zero past a row's end.

        Returns:
            ``(B, T, F + 1)`` or ``(B, F + 1)``.
        """
        sequences = inputs if inputs.dim() == 3 else inputs.unsqueeze(1)
        batch, time = sequences.shape[:2]
        size = self.group_size if batch % self.group_size == 0 else batch
        valid = valid_mask((batch, time), lengths=lengths)
        if valid is None:
            valid = torch.ones(batch, time, dtype=torch.bool, device=inputs.device)
        mask = valid.view(-1, size, time, 1)  # (G, S, T, 1)
        groups = sequences.reshape(-1, size, time, sequences.shape[-1]).masked_fill(~mask, 0.0)
        count = mask.sum(1)  # (G, T, 1)
        mean = groups.sum(1) / count.clamp(min=1)
        squares = (groups - mean.unsqueeze(1)).masked_fill(~mask, 0.0).square()
        deviation = (squares.sum(1) / count.clamp(min=1) + 1e-8).sqrt()  # (G, T, F)
        there = count > 1
        total = deviation.masked_fill(~there, 0.0).mean(2).sum(1)
        level = total / there.squeeze(-1).sum(1).clamp(min=1)  # (G,)
        feature = level.repeat_interleave(size).view(batch, 1, 1).expand(batch, time, 1)
        feature = feature.masked_fill(~valid.unsqueeze(-1), 0.0)
        joined = torch.cat([sequences, feature.to(inputs.dtype)], -1)
        return joined if inputs.dim() == 3 else joined.squeeze(1)

    def extra_repr(self) -> str:
        """The option, as ``print(module)`` shows it."""
        return f"group_size={self.group_size}"


def spectral_norm_(module: nn.Module, *, power_iterations: int = 1) -> nn.Module:
    """Divide every weight matrix of a module by its largest singular value, in place.

    Miyato et al. 2018, arXiv:1802.05957, by torch's own parametrisation; linear layers and the cells of a stack alike,
    a gated cell's weights as the one matrix they are stored in. Vectors, tables of embeddings and layers that have it
    already are left alone.

    Args:
        module: any module; changed.
        power_iterations: of the estimate, with every forward pass in training.

    Returns:
        The module.
    """
    for part in list(module.modules()):
        if isinstance(part, nn.Embedding | parametrize.ParametrizationList):
            continue
        for name, weight in list(part.named_parameters(recurse=False)):
            if weight.dim() == 2 and min(weight.shape) > 0:
                parametrizations.spectral_norm(part, name, n_power_iterations=power_iterations)
    return module
