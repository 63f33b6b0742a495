"""Log-probabilities prepared for many calls: the same as the head's own."""

import pytest
import torch
from torch import nn

from hybridgen import heads

EXAMPLES = [
    ("categorical", None, {}),
    ("categorical", 16, {}),
    ("categorical", 10, {"bias": False}),
    ("adaptive", None, {"cutoffs": [10, 30]}),
    ("adaptive", 16, {"bias": False}),
    ("adaptive", 10, {}),
    ("mixture", None, {"num_experts": 3}),
]


@pytest.mark.parametrize(("name", "width", "options"), EXAMPLES, ids=str)
@pytest.mark.parametrize("rows", [1, 5])
def test_equal_to_log_probs(name, width, options, rows):
    tied = None if width is None else nn.Embedding(50, width)
    head = heads.make(name, 16, 50, tied=tied, **options).double().eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        hidden = torch.randn(rows, 16, dtype=torch.float64)
        torch.testing.assert_close(head.prepare_log_probs()(hidden), head.log_probs(hidden))


@pytest.mark.parametrize("name", ["categorical", "adaptive"])
def test_weights_are_those_of_the_call(name):
    head = heads.make(name, 16, 50).eval()
    prepared, hidden = head.prepare_log_probs(), torch.randn(2, 16)
    before = prepared(hidden)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    assert torch.equal(prepared(hidden), before)
    assert not before.requires_grad
