"""From a network's numbers to the features of a codec: numbers in their range, one category, a value or none.

Categories and missing cells are drawn while training too: by the Gumbel trick, hard forwards and soft backwards (Jang
et al. 2017, arXiv:1611.01144), so that a critic cannot tell generated rows by their being soft. Where a cell is drawn
as missing, its value is the codec's neutral one, as in the data.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.codecs import FeatureGroup
from hybridgen.models.processes import summed
from hybridgen.objectives.likelihood import valid_mask, without_padding


class FeatureOutput(nn.Module):
    """Activations and losses of the features of a codec.

    Args:
        groups: what the features are, ``codec.groups``.
        neutral: ``(F,)``, what stands where a cell is missing, ``codec.neutral``.
        squash: whether numbers come into their range by sigmoid or tanh; otherwise they are cut off at its ends.
    """

    def __init__(self, groups: Sequence[FeatureGroup], neutral: Tensor, *, squash: bool = True) -> None:
        super().__init__()
        self.squash = squash
        self.runs = _runs(groups)
        self.width = self.runs[-1][3] if self.runs else 0
        self.register_buffer("neutral", neutral.clone(), persistent=False)

    def forward(self, logits: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """Features ``(..., F)`` of a network's numbers ``(..., F)``.

        Args:
            logits: what the network says.
            uniforms: ``(..., F)`` in (0, 1), what categories and missing cells are drawn by; without them the likeliest
                is taken.
        """
        pieces: list[Tensor] = []
        for kind, of_last, start, stop in self.runs:
            part = logits[..., start:stop]
            chance = None if uniforms is None else uniforms[..., start:stop].clamp(1e-6, 1 - 1e-6)
            if kind == "unit":
                pieces.append(part.sigmoid() if self.squash else part.clamp(0, 1))
            elif kind == "symmetric":
                pieces.append(part.tanh() if self.squash else part.clamp(-1, 1))
            elif kind == "categorical":
                noisy = part if chance is None else part - (-chance.log()).log()
                soft = noisy.softmax(-1)
                hard = F.one_hot(soft.argmax(-1), stop - start).to(soft.dtype)
                pieces.append(hard + soft - soft.detach())
            elif kind == "observed":
                noisy = part if chance is None else part + chance.log() - (-chance).log1p()
                soft = noisy.sigmoid()
                there = (soft > 0.5).to(soft.dtype) + soft - soft.detach()
                if of_last:
                    neutral = self.neutral[start - pieces[-1].shape[-1] : start]
                    pieces[-1] = there * pieces[-1] + (1 - there) * neutral
                pieces.append(there)
            else:
                pieces.append(part)
        return torch.cat(pieces, -1)

    def loss(self, logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        """What an autoencoder minimises: a scalar.

        Of numbers, the part of each feature's variance in the batch that is not explained and, in sequences, that of
        its changes from step to step, which are small beside the values and make up most of what a critic sees;
        cross-entropy of categories and of being missing. In training the batch is that of all processes.

        Args:
            logits: ``(B, T, F)`` or ``(B, F)``.
            target: features, of the same shape.
            mask: bool of the same shape: where the target says something.
        """
        total, columns = logits.new_zeros(()), 0
        if mask is not None:
            # Before any arithmetic: what is not there may be NaN and still gets a gradient of zero.
            target = target.masked_fill(~mask, 0.0)
        # In evaluation processes may have different numbers of batches: there they must not wait for each other.
        over = summed if self.training else _own
        for kind, _, start, stop in self.runs:
            part, wanted = logits[..., start:stop], target[..., start:stop]
            shown = None if mask is None else mask[..., start:stop]
            if kind == "categorical":
                terms = -(wanted * part.log_softmax(-1)).sum(-1, keepdim=True)
                total, columns = total + _mean(terms, None if shown is None else shown[..., :1], over), columns + 1
            elif kind == "observed":
                terms = F.binary_cross_entropy_with_logits(part, wanted, reduction="none")
                total, columns = total + _mean(terms, shown, over), columns + 1
            else:
                # What is cut off is compared as it is: a number far out of its range must still find back.
                squashes = {"unit": torch.sigmoid, "symmetric": torch.tanh} if self.squash else {}
                made = squashes[kind](part) if kind in squashes else part
                value = _unexplained(made, wanted, shown, over)
                if made.dim() == 3 and made.shape[1] > 1:
                    pairs = None if shown is None else shown[:, 1:] & shown[:, :-1]
                    value = value + _unexplained(made.diff(dim=1), wanted.diff(dim=1), pairs, over)
                total, columns = total + value, columns + stop - start
        return total / max(1, columns)


def _runs(groups: Sequence[FeatureGroup]) -> list[tuple[str, bool, int, int]]:
    """Groups as ``(kind, whether it says that of the run before, start, stop)``; numbers side by side are one run."""
    runs: list[tuple[str, bool, int, int]] = []
    names: list[str] = []
    for number, group in enumerate(groups):
        following = groups[number + 1] if number + 1 < len(groups) else None
        alone = following is not None and following.kind == "observed" and following.name == group.name
        numeric = group.kind in ("unit", "symmetric", "real")
        if numeric and not alone and runs and runs[-1][0] == group.kind and names[-1] == "joined":
            runs[-1] = (group.kind, False, runs[-1][2], group.stop)
            continue
        of_last = group.kind == "observed" and bool(names) and names[-1] == group.name
        runs.append((group.kind, of_last, group.start, group.stop))
        names.append("joined" if numeric and not alone else group.name)
    return runs


def _own(value: Tensor) -> Tensor:
    return value


def _mean(terms: Tensor, mask: Tensor | None, over: Callable[[Tensor], Tensor]) -> Tensor:
    if mask is None:
        mask = torch.ones_like(terms, dtype=torch.bool)
    return over(terms.masked_fill(~mask, 0.0).sum()) / over(mask.sum()).clamp(min=1)


def _unexplained(
    made: Tensor, wanted: Tensor, mask: Tensor | None, over: Callable[[Tensor], Tensor], smallest: float = 1e-6
) -> Tensor:
    """Mean squared error over variance, summed over features; ``over`` adds up what all processes have."""
    axes = tuple(range(made.dim() - 1))
    if mask is None:
        mask = torch.ones_like(wanted, dtype=torch.bool)
    wanted = wanted.masked_fill(~mask, 0.0)
    count = over(mask.sum(axes)).clamp(min=1)
    mean = over(wanted.sum(axes)) / count
    variance = over((wanted - mean).masked_fill(~mask, 0.0).square().sum(axes)) / count
    error = over((made - wanted).masked_fill(~mask, 0.0).square().sum(axes)) / count
    return (error / variance.clamp(min=smallest)).sum()


def valid_steps(values: Tensor, lengths: Tensor | None) -> Tensor | None:
    """``(B, T)`` bool, true inside each row's length; None where all are."""
    return valid_mask(tuple(values.shape[:2]), lengths=lengths)


def shown(values: Tensor, mask: Tensor | None, lengths: Tensor | None) -> Tensor | None:
    """Which numbers of ``(B, T, F)`` are there, bool: observed, by the mask, and not padding; None if all are."""
    valid = valid_steps(values, lengths)
    if valid is None:
        return mask
    there = valid.unsqueeze(-1).expand_as(values)
    return there if mask is None else there & mask


def padded(values: Tensor, lengths: Tensor | None, steps: int) -> Tensor:
    """``(B, T, F)`` with zeros past each row's end, cut or filled up to a number of steps."""
    return nn.functional.pad(without_padding(values, lengths), (0, 0, 0, steps - values.shape[1]))


def over_time(vector: Tensor, steps: int) -> Tensor:
    """``(B, D)`` at every step: ``(B, T, D)``."""
    return vector.unsqueeze(1).expand(-1, steps, -1)


def pool(outputs: Tensor, lengths: Tensor | None) -> Tensor:
    """Mean and maximum over the valid steps of ``(B, T, H)``: ``(B, 2H)``."""
    valid = valid_steps(outputs, lengths)
    if valid is None:
        return torch.cat([outputs.mean(1), outputs.amax(1)], -1)
    valid = valid.unsqueeze(-1)
    mean = outputs.masked_fill(~valid, 0.0).sum(1) / lengths.clamp(min=1).unsqueeze(1)
    return torch.cat([mean, outputs.masked_fill(~valid, -torch.inf).amax(1)], -1)


def ends(outputs: Tensor, lengths: Tensor | None) -> Tensor:
    """Of a bidirectional stack's outputs ``(B, T, 2H)``, where each direction has read everything: ``(B, 2H)``."""
    forwards, backwards = outputs.chunk(2, -1)
    if lengths is None:
        return torch.cat([forwards[:, -1], backwards[:, 0]], -1)
    rows = torch.arange(len(outputs), device=outputs.device)
    return torch.cat([forwards[rows, (lengths - 1).clamp(min=0)], backwards[:, 0]], -1)


def folded(sequence: Tensor, lengths: Tensor | None, every: int) -> tuple[Tensor, Tensor | None]:
    """Every so many steps side by side: ``(B, T, F)`` to ``(B, ceil(T / every), every * F)``, and the new lengths."""
    calls = -(-sequence.shape[1] // every)
    whole = padded(sequence, lengths, calls * every)
    return whole.reshape(len(sequence), calls, -1), calls_of(lengths, every)


def calls_of(lengths: Tensor | None, every: int) -> Tensor | None:
    """How many calls of ``every`` steps each row takes: ``(B,)`` for ``lengths (B,)``."""
    return None if lengths is None else (lengths + every - 1).div(every, rounding_mode="floor")


def joined(*parts: Tensor | None) -> Tensor:
    """What there is of the parts ``(..., width)``, side by side."""
    return torch.cat([part for part in parts if part is not None], -1)


def perceptron(inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    """A network of ``layers`` hidden layers with leaky rectifiers."""
    parts: list[Any] = []
    for number in range(layers):
        parts += [nn.Linear(inputs if number == 0 else hidden, hidden), nn.LeakyReLU(0.2)]
    return nn.Sequential(*parts, nn.Linear(hidden if layers else inputs, outputs))
