"""What every function here takes: series as arrays or tensors ``(N, T, F)``, and their lengths."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_series(values: Any, name: str) -> Tensor:
    """Series as a float32 tensor ``(N, T, F)`` on the CPU.

    Args:
        values: an array or tensor, ``(N, T, F)``.
        name: what to call it in errors.

    Raises:
        ValueError: if it has another shape, is empty, or holds a number that is not finite.
    """
    # A copy: arrays may be read-only, and a view of a larger one.
    copied = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, dtype=np.float32))
    series = copied.to("cpu", torch.float32)
    if series.dim() != 3 or 0 in series.shape:
        raise ValueError(f"{name} must have shape (N, T, F), none of them 0, but has {tuple(series.shape)}")
    if not series.isfinite().all():
        raise ValueError(f"{name} holds numbers that are not finite: fill or leave out missing values first")
    return series.contiguous()


def as_pair(real: Any, fake: Any) -> tuple[Tensor, Tensor]:
    """Real and generated series as tensors.

    Raises:
        ValueError: as :func:`as_series`, or if T or F differs.
    """
    real, fake = as_series(real, "real"), as_series(fake, "fake")
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(f"real {tuple(real.shape)} and fake {tuple(fake.shape)} differ in steps or features")
    return real, fake


def as_lengths(lengths: Any | None, series: Tensor, name: str) -> Tensor | None:
    """Lengths ``(N,)`` int64, or None where every series is whole.

    Raises:
        ValueError: if they do not fit the series.
    """
    if lengths is None:
        return None
    lengths = torch.as_tensor(lengths).to("cpu", torch.int64)
    if lengths.shape != series.shape[:1]:
        raise ValueError(f"{name} must have shape ({len(series)},) but have {tuple(lengths.shape)}")
    if int(lengths.min()) < 1 or int(lengths.max()) > series.shape[1]:
        raise ValueError(f"{name} must lie in 1..{series.shape[1]} but span {int(lengths.min())}..{int(lengths.max())}")
    return None if bool((lengths == series.shape[1]).all()) else lengths


def check_counts(**counts: int) -> None:
    """Check that each is a whole number of at least 1.

    Raises:
        ValueError: if one is not; the message names it.
    """
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name} is {count!r}: give a whole number of at least 1")
