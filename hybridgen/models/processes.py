"""What a model minds where several processes train it: batches of unequal sizes, losses of some of its layers only."""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy
from torch import Tensor


def shared(values: Mapping[str, Tensor | float], count: int, device: torch.device) -> tuple[float, dict[str, Any]]:
    """This process's share of a batch that all processes have together, and the means over that batch.

    Processes average their gradients, as if every part of a batch had the same size. A loss that is a mean over
    ``count`` things (tokens, sentences, frames) has the gradient of the whole batch when it is multiplied by the share.
    All of it is one reduction; one process alone pays nothing.

    Args:
        values: means over this process's part, by name.
        count: what they are means over; at least 1.
        device: where the processes can reduce tensors.

    Returns:
        ``count`` over the mean of all processes' counts, and the values over the whole batch.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return 1.0, {name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()}
    means = [torch.as_tensor(value).detach().to(device, torch.float64) for value in values.values()]
    one = torch.ones((), dtype=torch.float64, device=device)
    sums = torch.stack([*means, one]) * count
    distributed.all_reduce(sums)
    whole = float(sums[-1])
    found = dict(zip(values, (sums[:-1] / whole).float().unbind(), strict=True))
    return count * distributed.get_world_size() / whole, found


def gathered(rows: Tensor, device: torch.device) -> Tensor:
    """The rows of all processes, which may have different numbers of them; those of one process alone are its own.

    Args:
        rows: ``(N, ...)``, of any device; all but N the same in every process.
        device: where the processes can exchange tensors.

    Returns:
        ``(sum of N, ...)`` where ``rows`` are, the first process's first.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return rows
    number = torch.tensor([len(rows)], device=device)
    numbers = [torch.empty_like(number) for _ in range(distributed.get_world_size())]
    distributed.all_gather(numbers, number)
    counts = [int(n) for n in numbers]
    padded = rows.new_zeros(max(counts), *rows.shape[1:], device=device)
    padded[: len(rows)] = rows.detach().to(device)
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).to(rows.device)


def train_parts_in_turn(model: Any) -> None:
    """For a model of several optimisers, each backward pass of which is of some of its layers: what processes need.

    Args:
        model: with a trainer, before that has made the processes' copies of it (in ``setup``).

    Raises:
        ValueError: if the trainer's strategy cannot do that.
    """
    strategy = model.trainer.strategy
    if isinstance(strategy, FSDPStrategy):
        raise ValueError(
            f"trainer.strategy fsdp cannot train {type(model).__name__}, whose networks take turns: use ddp"
        )
    if isinstance(strategy, DDPStrategy):
        # Every backward pass is of some networks only; without this torch takes the others for forgotten.
        strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
