"""Likelihood: exact counts, what padding and resets leave out, and the units."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hybridgen.heads import CategoricalHead
from hybridgen.objectives import likelihood


@st.composite
def ragged(draw):
    """Lengths, the mask they stand for, and resets of a batch."""
    rows, time = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    lengths = torch.tensor(draw(st.lists(st.integers(0, time), min_size=rows, max_size=rows)))
    mask = torch.tensor([[t < n for t in range(time)] for n in lengths.tolist()])
    flags = draw(st.lists(st.booleans(), min_size=rows * time, max_size=rows * time))
    return lengths, mask, torch.tensor(flags).view(rows, time)


def with_nan_padding(mask, *width):
    values = torch.randn(*mask.shape, *width, dtype=torch.float64)
    values[~mask] = math.nan
    return values.requires_grad_()


@settings(deadline=None)
@given(ragged())
def test_means_are_over_what_is_valid(batch):
    lengths, mask, _ = batch
    nll = with_nan_padding(mask)
    kept = [nll[b, t] for b in range(len(mask)) for t in range(mask.shape[1]) if mask[b, t]]
    for options in ({"lengths": lengths}, {"mask": mask}):
        total, count = likelihood.total_nll(nll, **options)
        assert count == len(kept)
        torch.testing.assert_close(total, sum(kept, torch.zeros((), dtype=torch.float64)))
        mean = likelihood.mean_nll(nll, **options)
        torch.testing.assert_close(mean, total / max(1, count))
        (grad,) = torch.autograd.grad(mean, nll)
        torch.testing.assert_close(grad, mask.double() / max(1, count))


def test_without_lengths_all_counts():
    nll = torch.randn(3, 4)
    assert likelihood.total_nll(nll)[1] == 12
    torch.testing.assert_close(likelihood.mean_nll(nll), nll.mean())


@settings(deadline=None)
@given(ragged())
def test_select_takes_the_valid_rows_in_order(batch):
    lengths, mask, _ = batch
    hidden, targets = with_nan_padding(mask, 3), torch.arange(mask.numel()).view(mask.shape)
    for options in ({"lengths": lengths}, {"mask": mask}):
        rows, kept = likelihood.select(hidden, targets, **options)
        assert kept.tolist() == targets[mask].tolist()
        assert torch.equal(rows, hidden[mask])
        (grad,) = torch.autograd.grad(rows.sum(), hidden)
        assert torch.equal(grad, mask.unsqueeze(-1).expand(-1, -1, 3).double())


def test_the_loss_of_a_padded_batch_is_that_of_its_rows():
    head = CategoricalHead(3, 5).double()
    hidden, targets = torch.randn(2, 4, 3, dtype=torch.float64), torch.randint(5, (2, 4))
    lengths = torch.tensor([4, 2])
    loss = head.nll(*likelihood.select(hidden, targets, lengths=lengths)).mean()
    padded = targets.masked_fill(torch.arange(4) >= lengths[:, None], -100)
    logits = F.linear(hidden, head.weight, head.bias)
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), padded.flatten()))


@settings(deadline=None)
@given(ragged(), st.booleans(), st.booleans())
def test_regularisers_against_loops(batch, padded, with_resets):
    lengths, mask, resets = batch
    if not padded:
        mask = torch.ones_like(mask)
    outputs = with_nan_padding(mask, 3)
    squares, changes = [], []
    for b in range(mask.shape[0]):
        for t in range(mask.shape[1]):
            if mask[b, t]:
                squares.append(outputs[b, t].square().mean())
            if t and mask[b, t] and mask[b, t - 1] and not (with_resets and resets[b, t]):
                changes.append((outputs[b, t] - outputs[b, t - 1]).square().mean())
    options = {"lengths": lengths} if padded else {}
    found = likelihood.activation_regularisation(outputs, alpha=2.0, **options)
    change = likelihood.temporal_activation_regularisation(
        outputs, beta=0.5, resets=resets if with_resets else None, **options
    )
    for mine, parts, weight in ((found, squares, 2.0), (change, changes, 0.5)):
        expected = weight * (torch.stack(parts).mean() if parts else outputs.sum() * 0)
        torch.testing.assert_close(mine.detach(), expected.detach().nan_to_num())
        (grad,) = torch.autograd.grad(mine, outputs)
        assert not grad.isnan().any()
        assert torch.equal(grad[~mask], torch.zeros_like(grad[~mask]))
        if parts:
            torch.testing.assert_close(grad, torch.autograd.grad(expected, outputs, retain_graph=True)[0].nan_to_num())


def test_masks_and_lengths_mean_the_same():
    outputs, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2])
    mask = likelihood.valid_mask((2, 5), lengths=lengths)
    assert mask.tolist() == [[True] * 5, [True, True, False, False, False]]
    one = likelihood.temporal_activation_regularisation(outputs, beta=1.0, lengths=lengths)
    assert torch.equal(one, likelihood.temporal_activation_regularisation(outputs, beta=1.0, mask=mask))
    one = likelihood.activation_regularisation(outputs, alpha=1.0, lengths=lengths)
    assert torch.equal(one, likelihood.activation_regularisation(outputs, alpha=1.0, mask=mask))


def test_a_hole_in_the_mask_breaks_two_pairs():
    outputs = torch.tensor([0.0, 1.0, 50.0, 3.0, 5.0]).view(1, 5, 1)
    mask = torch.tensor([[True, True, False, True, True]])
    change = likelihood.temporal_activation_regularisation(outputs, beta=1.0, mask=mask)
    assert change == (1.0 + 4.0) / 2


def test_units():
    assert likelihood.perplexity(math.log(50.0)) == pytest.approx(50.0)
    assert likelihood.perplexity(1e6) == math.inf
    assert likelihood.bits_per_unit(8 * math.log(2), 4) == pytest.approx(2.0)


def test_what_does_not_fit():
    values, resets = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    outputs = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match="lengths and mask both"):
        likelihood.mean_nll(values, lengths=torch.tensor([1, 2]), mask=resets)
    with pytest.raises(ValueError, match=r"lengths must have shape \(2,\)"):
        likelihood.mean_nll(values, lengths=torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match="mask must be bool"):
        likelihood.mean_nll(values, mask=values)
    with pytest.raises(ValueError, match="differ in batch or time"):
        likelihood.select(outputs, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="alpha is -1"):
        likelihood.activation_regularisation(outputs, alpha=-1)
    with pytest.raises(ValueError, match="beta is -1"):
        likelihood.temporal_activation_regularisation(outputs, beta=-1)
    with pytest.raises(ValueError, match="resets must be bool"):
        likelihood.temporal_activation_regularisation(outputs, beta=1.0, resets=values)
    with pytest.raises(ValueError, match="count is 0"):
        likelihood.bits_per_unit(1.0, 0)


def test_sums_of_rows():
    nats = torch.arange(1.0, 13.0).view(3, 4)
    lengths = torch.tensor([2, 4, 1])
    rows, _ = likelihood.select(nats.unsqueeze(-1), torch.zeros(3, 4, dtype=torch.long), lengths=lengths)
    found = likelihood.sum_rows(rows.squeeze(-1), (3, 4), lengths=lengths)
    torch.testing.assert_close(found, torch.tensor([3.0, 26.0, 9.0]))
    torch.testing.assert_close(likelihood.sum_rows(nats.flatten(), (3, 4)), nats.sum(1))
