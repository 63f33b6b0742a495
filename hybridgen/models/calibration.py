"""What a trained generator still misses and statistics of the data tell: how codes and values are distributed.

A GAN in many dimensions comes near the data in what its critic sees, but spreads a little too little, and smears what
is exact (a column that is 0 most of the time). Both can be mended after training, by the training data alone: codes by
the linear map between Gaussians that moves the generated covariance to that of the data with the least change (optimal
transport; Dowson & Landau 1982, "The Fréchet distance between multivariate normal distributions"), and every numeric
feature by the monotone map between its generated and its real distribution (quantile mapping; Panofsky & Brier 1968).
Order and with it dependence over time and between features stay what the generator makes of them.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hybridgen.codecs import FeatureGroup
from hybridgen.models.sequence_gan_output import valid_steps

#: Numbers that a quantile table is computed from, at most.
MOST_NUMBERS = 2_000_000


def levels() -> Tensor:
    """Where quantiles are taken, ``(Q,)`` in [0, 1]: closer together at both ends, where a table says most."""
    inner = torch.special.ndtr(torch.linspace(-4.0, 4.0, 999, dtype=torch.float64))
    return torch.cat([torch.zeros(1), inner, torch.ones(1)]).float()


def quantiles(numbers: Tensor) -> Tensor:
    """The ``(Q,)`` quantiles of numbers ``(N,)`` at :func:`levels`."""
    some = torch.linspace(0, len(numbers) - 1, min(len(numbers), MOST_NUMBERS), dtype=torch.float64).long()
    ordered = numbers[some.to(numbers.device)].sort().values
    places = levels().to(ordered.device).double() * (len(ordered) - 1)
    low = places.floor().long()
    high = places.ceil().long()
    return torch.lerp(ordered[low], ordered[high], (places - low).to(ordered))


def interpolated(x: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear function through ``(places, values)``, each ``(Q,)`` and ascending; constant outside.

    Where several places are the same, the value is halfway between those of the first and the last of them.
    """
    x = x.contiguous()
    ends = []
    for right in (False, True):
        after = torch.searchsorted(places, x, right=right).clamp(1, len(places) - 1)
        width = places[after] - places[after - 1]
        part = ((x - places[after - 1]) / torch.where(width > 0, width, 1.0)).clamp(0, 1)
        ends.append(torch.lerp(values[after - 1], values[after], torch.where(width > 0, part, float(right))))
    return (ends[0] + ends[1]) / 2


def gaussian_map(source: Tensor, target: Tensor) -> Tensor:
    """The matrix ``(D, D)`` that takes rows of one covariance to another with the least mean squared change.

    ``S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2`` for covariances S and T, which need not have full rank.
    """
    source, target = source.double(), target.double()
    values, axes = torch.linalg.eigh(source)
    values = values.clamp(min=1e-8 * float(values[-1].clamp(min=1e-30)))
    root, inverse = (axes * values.sqrt()) @ axes.T, (axes / values.sqrt()) @ axes.T
    inner, turned = torch.linalg.eigh(root @ target @ root)
    return inverse @ (turned * inner.clamp(min=0).sqrt()) @ turned.T @ inverse


class Calibration(nn.Module):
    """The statistics of the data, which training saves, and the maps to them, which sampling computes from samples.

    Args:
        groups: what the features are.
        code_size: D.
    """

    def __init__(self, groups: Sequence[FeatureGroup], code_size: int) -> None:
        super().__init__()
        features = groups[-1].stop
        self.numeric = [c for g in groups if g.kind in ("unit", "symmetric", "real") for c in range(g.start, g.stop)]
        following = dict(itertools.pairwise(groups))
        self.flags: dict[int, int] = {}  # of a numeric feature, the one that says whether it is there
        for group in groups:
            after = following.get(group)
            if after is not None and after.kind == "observed" and after.name == group.name:
                self.flags |= dict.fromkeys(range(group.start, group.stop), after.start)
        self.register_buffer("code_mean", torch.zeros(code_size))
        self.register_buffer("code_covariance", torch.zeros(code_size, code_size))
        self.register_buffer("real_quantiles", torch.zeros(features, len(levels())))

    @torch.no_grad()
    def observe(self, codes: Tensor, values: Tensor, lengths: Tensor | None) -> None:
        """Take the statistics of the training data.

        Args:
            codes: ``(N, D)``, all of them.
            values: ``(M, T, F)`` features of many sequences.
            lengths: ``(M,)``.
        """
        self.code_mean.copy_(codes.mean(0))
        self.code_covariance.copy_(torch.cov(codes.T).reshape(self.code_covariance.shape))
        self.real_quantiles.copy_(self.tables(values, values, lengths))

    def tables(self, numbers: Tensor, values: Tensor, lengths: Tensor | None) -> Tensor:
        """``(F, Q)`` of numbers ``(M, T, F)`` where a cell is there; 0 of what is no number or never there."""
        valid = valid_steps(values, lengths)
        tables = torch.zeros_like(self.real_quantiles)
        for column in self.numeric:
            there = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device) if valid is None else valid
            if column in self.flags:
                there = there & (values[..., self.flags[column]] > 0.5)
            if there.any():
                tables[column] = quantiles(numbers[..., column][there])
        return tables


class Maps:
    """From generated to real statistics, as a calibration found them; see :class:`Calibration`.

    Args:
        calibration: with the statistics of the data.
        codes: generated ones ``(N, D)``.
    """

    def __init__(self, calibration: Calibration, codes: Tensor) -> None:
        self.calibration = calibration
        self.mean = codes.mean(0)
        matrix = gaussian_map(
            torch.cov(codes.T).reshape(calibration.code_covariance.shape), calibration.code_covariance
        )
        self.matrix = matrix.to(codes)
        self.tables: Tensor | None = None

    def codes(self, codes: Tensor) -> Tensor:
        """Codes ``(B, D)`` with the mean and covariance of the data's."""
        return (codes - self.mean) @ self.matrix + self.calibration.code_mean

    def see(self, numbers: Tensor, values: Tensor, lengths: Tensor | None) -> None:
        """Take the distributions of generated features.

        Args:
            numbers: ``(M, T, F)`` before they are brought into their range.
            values: the features made of them.
            lengths: ``(M,)``.
        """
        self.tables = self.calibration.tables(numbers, values, lengths)

    def values(self, numbers: Tensor, values: Tensor) -> Tensor:
        """Features ``(B, T, F)`` with the distributions of the data's; what is no number stays as it is."""
        if self.tables is None:
            return values
        columns = list(values.unbind(-1))
        for column in self.calibration.numeric:
            table, real = self.tables[column], self.calibration.real_quantiles[column]
            if table[0] == table[-1] or not bool(real.any()):
                continue  # never generated, always the same, or never in the data: nothing to go by
            mapped = interpolated(numbers[..., column], table, real)
            flag = self.calibration.flags.get(column)
            columns[column] = mapped if flag is None else torch.where(columns[flag] > 0.5, mapped, columns[column])
        return torch.stack(columns, -1)
