"""A small encoder of series, trained without labels on the real ones.

Dilated convolutions that see a whole window; a series is the maximum over time of what they make of its steps. Trained
by the hierarchical contrast of TS2Vec (Yue et al. 2022, arXiv:2106.10466): two views of a batch, each with half of its
steps hidden, must agree at every step, against the other steps of the series and the other series of the batch, at
every scale of max pooling. Other than there, both views show the whole window (no crops), and the network is small.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.evaluation.series.inputs import check_counts


class ContextEncoder(nn.Module):
    """Series ``(N, T, F)`` to features; made by :func:`train_encoder`.

    Args:
        series: real series, for the scale of each feature and the number of steps.
        features: width of a series' features.
        hidden_size: channels of the convolutions.
    """

    def __init__(self, series: Tensor, features: int, hidden_size: int = 32) -> None:
        super().__init__()
        self.register_buffer("mean", series.mean((0, 1)))
        self.register_buffer("deviation", series.std((0, 1), correction=0) + 1e-6)
        self.project = nn.Linear(series.shape[2], hidden_size)
        depth = max(1, math.ceil(math.log2(series.shape[1])))
        blocks = [_Block(hidden_size, hidden_size, 2**k) for k in range(depth)]
        self.blocks = nn.ModuleList([*blocks, _Block(hidden_size, features, 2 ** (depth - 1))])

    def forward(self, series: Tensor, shown: Tensor | None = None) -> Tensor:
        """Features of every step ``(N, T, D)``; steps that are not ``shown (N, T)`` are hidden."""
        hidden = self.project((series - self.mean) / self.deviation)
        if shown is not None:
            hidden = hidden * shown.unsqueeze(-1)
        hidden = hidden.transpose(1, 2)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden.transpose(1, 2)

    @torch.no_grad()
    def encode(self, series: Tensor, chunk: int = 1024) -> Tensor:
        """Features ``(N, D)`` of whole series."""
        return torch.cat([self(piece).amax(1) for piece in series.split(chunk)])


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(outputs, outputs, 3, padding=dilation, dilation=dilation)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.second(F.gelu(self.first(F.gelu(x))))


@torch.enable_grad()
def train_encoder(
    series: Tensor, *, iterations: int = 400, batch_size: int = 32, features: int = 32, seed: int = 0
) -> ContextEncoder:
    """Train an encoder on real series.

    Args:
        series: ``(N, T, F)``.
        iterations: steps of Adam.
        batch_size: series a step, less where there are fewer.
        features: width D.
        seed: of weights and batches: the same series and seed give the same encoder.
    """
    check_counts(iterations=iterations, batch_size=batch_size, features=features)
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = ContextEncoder(series, features)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3)
    for _ in range(iterations):
        batch = series[torch.randint(len(series), (min(batch_size, len(series)),), generator=random)]
        views = [
            encoder(batch, (torch.rand(batch.shape[:2], generator=random) < 0.5).to(batch.dtype)) for _ in range(2)
        ]
        loss = _hierarchical_contrast(*views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder.eval()


def _hierarchical_contrast(one: Tensor, other: Tensor) -> Tensor:
    """TS2Vec's loss of two views ``(B, T, D)``."""
    terms = []
    while True:
        if len(one) > 1:
            terms.append(_contrast(one.transpose(0, 1), other.transpose(0, 1)))
        if one.shape[1] == 1:
            break
        terms.append(_contrast(one, other))
        one, other = (F.max_pool1d(view.transpose(1, 2), 2, ceil_mode=True).transpose(1, 2) for view in (one, other))
    return torch.stack(terms).mean() if terms else one.sum() * 0


def _contrast(one: Tensor, other: Tensor) -> Tensor:
    """Each of n elements ``(G, n, D)`` must find itself in the other view among the 2n - 1 others."""
    both = torch.cat([one, other], 1)  # (G, 2n, D)
    likeness = both @ both.mT
    n = one.shape[1]
    likeness = likeness.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    target = torch.arange(2 * n).roll(n).expand(len(both), -1)
    return F.cross_entropy(likeness.flatten(0, 1), target.flatten())
