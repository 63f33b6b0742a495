"""What a model minds where several processes train it: batches of unequal sizes, losses of some of its layers only."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy
from torch import Tensor, nn


def refuse_half_precision(trainer: Any) -> None:
    """Refuse to train with a penalty of gradients in float16.

    Raises:
        ValueError: if the trainer's precision is that.
    """
    if str(trainer.precision).startswith("16"):
        raise ValueError("precision 16 loses the gradient of a gradient: use 32 or bf16-mixed")


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
    if not _several():
        return 1.0, {name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()}
    means = [torch.as_tensor(value).detach().to(device, torch.float64) for value in values.values()]
    one = torch.ones((), dtype=torch.float64, device=device)
    sums = torch.stack([*means, one]) * count
    distributed.all_reduce(sums)
    whole = float(sums[-1])
    found = dict(zip(values, (sums[:-1] / whole).float().unbind(), strict=True))
    return count * distributed.get_world_size() / whole, found


def summed(value: Tensor) -> Tensor:
    """The sum of a tensor over the processes, and of its gradient; one process alone has its own.

    Args:
        value: of any shape, the same in every process, where the processes can reduce tensors.
    """
    return _Summed.apply(value) if _several() else value


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        whole = value.detach().clone()
        torch.distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        whole = gradient.clone()  # what the loss of every process has from this process's part
        torch.distributed.all_reduce(whole)
        return whole


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the rows of all processes, on any device; torch's ``SyncBatchNorm`` is for GPUs alone.

    The gradient is that of the whole batch where the processes' gradients are averaged and their losses are multiplied
    by their :func:`shared` part. Without weights; its buffers are those of ``nn.BatchNorm1d``.

    Args:
        size: width D of the rows.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, affine=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Normalised rows ``(B, D)``; B may differ by process."""
        if not (self.training and _several()):
            return super().forward(rows)
        wide = rows.double()
        count = float(summed(wide.new_tensor(len(rows))))
        mean = summed(wide.sum(0)) / count
        variance = summed((wide - mean).square().sum(0)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            unbiased = variance * count / max(1.0, count - 1)
            for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
                running.lerp_(value.to(running), self.momentum)
        return ((wide - mean) * (variance + self.eps).rsqrt()).to(rows)


def from_first(*values: Tensor) -> None:
    """Give tensors, in place, the values they have in the first process."""
    if _several():
        for value in values:
            torch.distributed.broadcast(value, 0)


def together(count: int, device: torch.device) -> int:
    """The sum of a number over the processes."""
    if not _several():
        return count
    found = torch.tensor(count, device=device)
    torch.distributed.all_reduce(found)
    return int(found)


def processes() -> int:
    """How many processes train together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _several() -> bool:
    return processes() > 1


def gathered(rows: Tensor, device: torch.device) -> Tensor:
    """The rows of all processes, which may have different numbers of them; those of one process alone are its own.

    Args:
        rows: ``(N, ...)``, of any device; all but N the same in every process.
        device: where the processes can exchange tensors.

    Returns:
        ``(sum of N, ...)`` where ``rows`` are, the first process's first.
    """
    distributed = torch.distributed
    if not _several():
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


@contextmanager
def whole_parameters(model: Any) -> Iterator[None]:
    """Within it a model's parameters have their shapes, by which an optimiser tells matrices from vectors.

    FSDP leaves of each a flat piece, of which this process may have none. Others keep them as they are.

    Args:
        model: with a trainer that has made the processes' copies of it.
    """
    strategy = getattr(model.trainer, "strategy", None)
    if not isinstance(strategy, FSDPStrategy):
        yield
        return
    from torch.distributed.fsdp import FullyShardedDataParallel

    with FullyShardedDataParallel.summon_full_params(strategy.model, writeback=False):
        yield


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
