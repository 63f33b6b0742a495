"""Sequences turned round, for the backward direction of a stack."""

import torch
from torch import Tensor


class Backwards:
    """Turns sequences round, each within its own length."""

    def __init__(
        self, lengths: Tensor | None, resets: Tensor | None, batch_size: int, time: int, device: torch.device
    ) -> None:
        steps = torch.arange(time, device=device).expand(batch_size, time)
        ends = time if lengths is None else lengths.unsqueeze(-1)
        self.index = torch.where(steps < ends, ends - 1 - steps, steps)  # (B, T)
        self.resets = None
        if resets is not None:
            # The boundary before element t is, seen from behind, the one before element t - 1.
            after = torch.cat([resets[:, 1:], resets.new_zeros(batch_size, 1)], 1)
            if lengths is not None:
                after = after & (steps < ends - 1)
            self.resets = after.gather(1, self.index)

    def flip(self, sequence: Tensor) -> Tensor:
        """``(B, T, F)`` with each row turned round within its length."""
        return sequence.gather(1, self.index.unsqueeze(-1).expand_as(sequence))
