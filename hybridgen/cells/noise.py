"""What regularisation does to one call of a cell, drawn before the call so that the walk itself is exact."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridgen.cells.precision import plain_operations_only


@dataclass(frozen=True)
class Noise:
    """Masks of one call. The default changes nothing.

    Attributes:
        read: ``(B, H)``, multiplies the previous output where the recurrent weights read it: the same mask at
            every step (variational dropout on the state, Gal & Ghahramani 2016, arXiv:1512.05287).
        update: for a state component's name, how much of its new value is taken, the rest staying as it was
            (zoneout, Krueger et al. 2017, arXiv:1606.01305): ``(B, T, width)`` of zeros and ones when training
            (``(B, width)`` for one step), or one number, the expectation, when not.
    """

    read: Tensor | None = None
    update: dict[str, Tensor | float] | None = None

    def at(self, time: int) -> "Noise":
        """The noise of one step of a sequence."""
        if not self.update:
            return self
        parts = {name: m[:, time] if isinstance(m, Tensor) else m for name, m in self.update.items()}
        return Noise(self.read, parts)


def bernoulli(shape: tuple[int, ...], probability: float, like: Tensor) -> Tensor:
    """Zeros and ones of ``shape``, ones with the given probability; on the device and of the type of ``like``.

    On a CPU the ones are decided by 16 random bits each, a probability exact to 1/65536, and drawn eight times
    faster than by ``Tensor.bernoulli_``.
    """
    if like.device.type != "cpu" or plain_operations_only():
        return torch.empty(shape, device=like.device, dtype=like.dtype).bernoulli_(probability)
    ones = round(probability * 2**16)
    if ones == 2**16:
        return torch.ones(shape, dtype=like.dtype, device="cpu")
    count = math.prod(shape)
    bits = torch.empty((count + 3) // 4, dtype=torch.int64, device="cpu").random_(-(2**63), None).view(torch.int16)
    return (bits[:count] < ones - 2**15).view(shape).to(like.dtype)


def dropout_mask(shape: tuple[int, ...], rate: float, like: Tensor) -> Tensor:
    """Zeros with probability ``rate``, else ``1 / (1 - rate)``; on the device and of the type of ``like``."""
    return bernoulli(shape, 1 - rate, like).div_(1 - rate)


def zoneout_mask(shape: tuple[int, ...], rate: float, training: bool, like: Tensor) -> Tensor | float:
    """How much of a new state is taken: Bernoulli(1 - rate) when training, its expectation when not."""
    if not training:
        return 1 - rate
    return bernoulli(shape, 1 - rate, like)
