"""Augmentation of small data for a critic, differentiable, the same kind for real and for generated sequences.

Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training", arXiv:2006.10738: a critic of little
data learns it by heart. If it only ever sees augmented samples, of the data and of the generator alike, it cannot, and
the generator still learns the data and not the augmentation, as long as the probability is below 1 or each operation
can be undone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hybridgen.closest import did_you_mean
from hybridgen.objectives.likelihood import valid_mask

#: What :class:`Augment` can do to a sequence.
OPERATIONS = ("jitter", "scaling", "time_shift", "cutout")


class Augment(nn.Module):
    """Random changes of sequences ``(B, T, F)``, drawn for each row, with gradients to the input.

    Args:
        operations: of :data:`OPERATIONS`. ``jitter`` adds noise; ``scaling`` multiplies each feature of a row by one
            number; ``time_shift`` moves a row in time, its first or last element filling up; ``cutout`` sets a stretch
            of time to zero.
        probability: that an operation happens to a row.
        jitter: standard deviation of the noise.
        scaling: standard deviation of the logarithm of the factor.
        time_shift: largest shift, as a fraction of a row's length.
        cutout: longest stretch, as a fraction of a row's length.

    Raises:
        ValueError: if an option does not fit.
    """

    def __init__(
        self,
        operations: Sequence[str] = OPERATIONS,
        *,
        probability: float = 0.5,
        jitter: float = 0.05,
        scaling: float = 0.1,
        time_shift: float = 0.1,
        cutout: float = 0.25,
    ) -> None:
        super().__init__()
        for name in operations:
            if name not in OPERATIONS:
                hint = did_you_mean(name, OPERATIONS, f"choose of {', '.join(OPERATIONS)}")
                raise ValueError(f"there is no augmentation {name!r}: {hint}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability of an augmentation is {probability}: give a number in [0, 1]")
        for name, value, largest in (
            ("jitter", jitter, float("inf")),
            ("scaling", scaling, float("inf")),
            ("time_shift", time_shift, 1.0),
            ("cutout", cutout, 1.0),
        ):
            if not 0 <= value <= largest:
                raise ValueError(f"{name} of an augmentation is {value}: give a number in [0, {largest}]")
        self.operations = tuple(operations)
        self.probability = probability
        self.jitter, self.scaling, self.time_shift, self.cutout = jitter, scaling, time_shift, cutout

    def forward(
        self, inputs: Tensor, *, lengths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Change the sequences.

        Args:
            inputs: ``(B, T, F)``.
            lengths: ``(B,)``; padding stays zero, and what is there never mixes with it.
            generator: of the random draws.
        """
        batch, time, features = inputs.shape
        valid = valid_mask((batch, time), lengths=lengths)
        if valid is not None:
            inputs = inputs.masked_fill(~valid.unsqueeze(-1), 0.0)
        options = {"device": inputs.device, "generator": generator}
        ends = torch.full((batch,), time, device=inputs.device) if lengths is None else lengths.to(inputs.device)
        steps = torch.arange(time, device=inputs.device)
        for name in self.operations:
            chosen = (torch.rand(batch, **options) < self.probability).view(-1, 1, 1)
            if name == "jitter":
                changed = inputs + self.jitter * torch.randn(inputs.shape, dtype=inputs.dtype, **options)
            elif name == "scaling":
                factors = (self.scaling * torch.randn(batch, 1, features, dtype=inputs.dtype, **options)).exp()
                changed = inputs * factors
            elif name == "time_shift":
                shift = ((2 * torch.rand(batch, **options) - 1) * self.time_shift * ends).round().long()
                last = (ends - 1).clamp(min=0).unsqueeze(1)
                source = (steps + shift.unsqueeze(1)).clamp(min=0).minimum(last)  # (B, T)
                changed = inputs.gather(1, source.unsqueeze(-1).expand(-1, -1, features))
            else:
                length = (torch.rand(batch, **options) * self.cutout * ends).round()
                start = (torch.rand(batch, **options) * (ends - length + 1)).floor()
                hidden = (steps >= start.unsqueeze(1)) & (steps < (start + length).unsqueeze(1))
                changed = inputs.masked_fill(hidden.unsqueeze(-1), 0.0)
            inputs = torch.where(chosen, changed, inputs)
        return inputs if valid is None else inputs.masked_fill(~valid.unsqueeze(-1), 0.0)

    def extra_repr(self) -> str:
        """The options, as ``print(module)`` shows them."""
        return f"{', '.join(self.operations)}, probability={self.probability}"
