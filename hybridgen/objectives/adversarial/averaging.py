"""The exponential moving average of a generator's weights, which is what samples should be drawn from.

Yazici et al. 2019, arXiv:1806.04498. Early weights mean little, so the average looks back over a part of the training
so far until it reaches its full span: ``d = min(decay, (1 + n) / (10 + n))`` after n updates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def moving_average(module: nn.Module, *, decay: float = 0.999) -> AveragedModel:
    """A copy of a module that follows it: call ``average.update_parameters(module)`` after every step.

    Args:
        module: what is averaged; ``average.module`` is the copy, without gradients and in evaluation mode.
        decay: how much of the average stays with each update, in [0, 1). 0.999 looks back over a thousand.

    Raises:
        ValueError: if ``decay`` does not fit.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay of the moving average is {decay}: give a number in [0, 1)")

    def average(averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        updates = int(count)
        torch._foreach_lerp_(list(averages), list(weights), 1 - min(decay, (1 + updates) / (10 + updates)))

    copied = AveragedModel(module, multi_avg_fn=average, use_buffers=False)
    copied.requires_grad_(False)
    return copied.eval()
