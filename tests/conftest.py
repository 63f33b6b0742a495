"""What every test shares."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Every test draws the same numbers, whatever ran before it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch._dynamo.reset()  # compiled code of other tests counts against a limit
    torch.set_default_dtype(torch.float32)
