"""Where a cell computes in which type, and by which operations."""

import contextlib
from typing import Any

import torch
from torch import Tensor


def autocasts(device_type: str) -> bool:
    """Whether automatic mixed precision is on for a kind of device."""
    # Asking about a device that has no autocast (meta) is an error.
    return device_type != "meta" and torch.is_autocast_enabled(device_type)


def without_autocast(like: Tensor) -> contextlib.AbstractContextManager:
    """A context in which the recurrence accumulates in the type of its state.

    Only products of the inputs are cast down.

    Args:
        like: a tensor of any shape on the device that is meant.
    """
    device_type = like.device.type
    return torch.autocast(device_type, enabled=False) if autocasts(device_type) else contextlib.nullcontext()


def in_state_type(projected: Any, state: Any) -> Any:
    """What the inputs were projected to, in the type of the state: autocast may have made it bfloat16."""
    dtype = state[0].dtype
    if isinstance(projected, Tensor):
        return projected.to(dtype)
    return tuple(x.to(dtype) for x in projected)


def plain_operations_only() -> bool:
    """Whether something looks on that understands only torch's own operations, not functions of ours.

    That is ``torch.compile``, ``torch.export``, and the transforms of ``torch.func``."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
