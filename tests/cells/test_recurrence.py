"""The elementwise linear recurrence: loop and scan against the sum that defines it."""

import pytest
import torch
from helpers import assert_close

from hybridgen.cells.recurrence import linear_recurrence

LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 33, 100]


def by_definition(gain, addition, initial):
    value, values = initial, []
    for t in range(gain.shape[1]):
        value = gain[:, t] * value + addition[:, t]
        values.append(value)
    return torch.stack(values, 1)


def arguments(time, dtype=torch.float64):
    return (
        torch.rand(2, time, 3, dtype=dtype, requires_grad=True),
        torch.randn(2, time, 3, dtype=dtype, requires_grad=True),
        torch.randn(2, 3, dtype=dtype, requires_grad=True),
    )


@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("way", ["loop", "scan"])
def test_values_and_gradients(way, time):
    given = arguments(time)
    values, expected = linear_recurrence(*given, way), by_definition(*given)
    assert_close(values, expected)
    grad = torch.randn_like(expected)
    assert_close(torch.autograd.grad(values, given, grad), torch.autograd.grad(expected, given, grad))


@pytest.mark.parametrize("time", [1, 2, 5])
@pytest.mark.parametrize("way", ["loop", "scan"])
def test_second_order(way, time):
    assert torch.autograd.gradgradcheck(lambda *a: linear_recurrence(*a, way), arguments(time))


@pytest.mark.parametrize("way", ["loop", "scan"])
def test_a_gain_of_zero_and_of_one(way):
    """What resets and row ends turn gains into; in log space the first would be minus infinity."""
    gain = torch.tensor([[[0.5], [0.0], [1.0], [1.0]]])
    values = linear_recurrence(gain, torch.tensor([[[1.0], [2.0], [0.0], [0.0]]]), torch.tensor([[10.0]]), way)
    assert values.flatten().tolist() == [6.0, 2.0, 2.0, 2.0]


def test_float32_stays_exact_over_thousands_of_steps():
    """The log-space scans of popular code are off by 4e-4 here."""
    gain, addition, initial = (a.detach() for a in arguments(4096))
    expected = by_definition(gain, addition, initial)
    for way in ("loop", "scan"):
        values = linear_recurrence(gain.float(), addition.float(), initial.float(), way)
        assert (values - expected).abs().max() < 5e-6


def test_unknown_way():
    with pytest.raises(ValueError, match="'loop' or 'scan'"):
        linear_recurrence(*arguments(2), "chunk")
