"""What is random in one call of a stack, as a value."""

from typing import NamedTuple

from torch import Tensor

from hybridgen.cells.noise import Noise


class Masks(NamedTuple):
    """Everything random in one call of a stack.

    Drawn anew for each call unless given. Give the same masks to several calls of :meth:`Stack.step` (after
    :meth:`at`) to walk a sequence by hand in training with one dropout mask for all its steps.
    """

    inputs: tuple[Tensor | None, ...]  # per layer, (B, 1 or T, F): multiplies the layer's input
    output: Tensor | None  # (B, 1 or T, F): multiplies the last layer's output
    noises: tuple[Noise, ...]  # per cell
    weights: tuple[dict[str, Tensor], ...]  # per cell and name: multiplies a recurrent weight (weight drop)

    def at(self, time: int) -> "Masks":
        """The masks of one step, for :meth:`Stack.step`."""

        def pick(mask: Tensor | None) -> Tensor | None:
            return None if mask is None else mask[:, time if mask.shape[1] > 1 else 0]

        noises = tuple(noise.at(time) for noise in self.noises)
        return Masks(tuple(map(pick, self.inputs)), pick(self.output), noises, self.weights)
