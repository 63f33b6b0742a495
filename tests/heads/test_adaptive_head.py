"""The adaptive softmax: torch's module in value and gradient, its clusters, and its tied form."""

import itertools

import pytest
import torch
from head_examples import CLASSES, HIDDEN, assert_close, batch, build
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hybridgen.heads import AdaptiveSoftmaxHead, default_cutoffs


def pair(cutoffs, div_value, head_bias, num_classes=CLASSES, width=8):
    """Our head and torch's module with the same parameters, and the pairs of these."""
    mine = AdaptiveSoftmaxHead(width, num_classes, cutoffs=cutoffs, div_value=div_value, bias=head_bias).double()
    theirs = nn.AdaptiveLogSoftmaxWithLoss(width, num_classes, cutoffs, div_value, head_bias, dtype=torch.float64)
    with torch.no_grad():
        theirs.head.weight.copy_(torch.cat([mine.weights[0], mine.cluster_weight]))
        if head_bias:
            mine.bias[: cutoffs[0]].normal_()  # torch has a bias in the head alone
            mine.cluster_bias.normal_()
            theirs.head.bias.copy_(torch.cat([mine.bias[: cutoffs[0]], mine.cluster_bias]))
        for (narrow, wide), projection, weight in zip(theirs.tail, mine.projections, mine.weights[1:], strict=True):
            narrow.weight.copy_(projection)
            wide.weight.copy_(weight)
    same = [
        *((p, t[0].weight) for p, t in zip(mine.projections, theirs.tail, strict=True)),
        *((w, t[1].weight) for w, t in zip(mine.weights[1:], theirs.tail, strict=True)),
    ]
    return mine, theirs, same


@settings(deadline=None, max_examples=30)
@given(
    cutoffs=st.lists(st.integers(1, CLASSES - 1), min_size=1, max_size=3, unique=True).map(sorted),
    div_value=st.sampled_from([1.0, 2.0]),
    head_bias=st.booleans(),
    seed=st.integers(0, 100),
)
def test_equal_to_torchs_module(cutoffs, div_value, head_bias, seed):
    torch.manual_seed(seed)
    mine, theirs, same = pair(cutoffs, div_value, head_bias)
    hidden, targets = batch(width=8)
    nll, expected = mine.nll(hidden, targets), -theirs(hidden, targets).output
    assert_close(nll, expected)
    assert_close(mine.log_probs(hidden), theirs.log_prob(hidden))
    weights = torch.rand_like(nll)
    for p, q in [(hidden, hidden), *same]:
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        found = torch.autograd.grad(nll, p, weights, **options)
        assert_close(found, torch.autograd.grad(expected, q, weights, **options))
    head = torch.autograd.grad(nll, (mine.weights[0], mine.cluster_weight), weights, retain_graph=True)
    assert_close(torch.cat(head), torch.autograd.grad(expected, theirs.head.weight, weights, retain_graph=True)[0])


def test_tied_clusters_are_slices_of_the_embedding():
    head, (hidden, targets) = build("adaptive-tied"), batch()
    edges = [0, *head.cutoffs, CLASSES]
    logits = hidden @ torch.cat([head.weight[: edges[1]], head.cluster_weight]).t()
    first = torch.log_softmax(logits + torch.cat([head.bias[: edges[1]], head.cluster_bias]), -1)
    parts = [first[:, : edges[1]]]
    for c, (low, high) in enumerate(itertools.pairwise(edges[1:])):
        inside = hidden @ head.projections[c].t() @ head.weight[low:high].t() + head.bias[low:high]
        parts.append(torch.log_softmax(inside, -1) + first[:, edges[1] + c : edges[1] + c + 1])
    expected = torch.cat(parts, -1)
    assert_close(head.log_probs(hidden), expected)
    assert_close(head.nll(hidden, targets), -expected.gather(1, targets[:, None]).squeeze(1))


def test_only_clusters_with_targets_are_computed(monkeypatch):
    from hybridgen.heads import adaptive

    head, (hidden, _) = build("adaptive-tied"), batch()
    calls = []

    def record(rows, weight, *rest, **options):
        calls.append((len(rows), len(weight)))
        return cross_entropy(rows, weight, *rest, **options)

    cross_entropy = adaptive.cross_entropy
    monkeypatch.setattr(adaptive, "cross_entropy", record)
    targets = torch.tensor([0, 1, 12, 22])
    with torch.no_grad():
        head.nll(hidden[:4], targets)
    assert calls == [(4, 3 + 3), (2, CLASSES - 11)]
    # In training every parameter has a gradient in every step, which several processes rely on.
    calls.clear()
    head.nll(hidden[:4], targets).mean().backward()
    assert calls == [(4, 3 + 3), (0, 2), (0, 6), (2, CLASSES - 11)]
    assert all(p.grad is not None for p in head.parameters())


def test_tied_projections_start_as_the_identity_where_they_can():
    same, other = (AdaptiveSoftmaxHead(4, CLASSES, tied=nn.Embedding(CLASSES, width)) for width in (4, 3))
    assert same.head_projection is None
    assert all(torch.equal(p, torch.eye(4)) for p in same.projections)
    for projection in (other.head_projection, *other.projections):
        torch.testing.assert_close(projection @ projection.t(), torch.eye(3))


def test_default_cutoffs():
    assert default_cutoffs(10_000) == (1_000, 4_000)
    assert AdaptiveSoftmaxHead(HIDDEN, 10).cutoffs == (1, 4)
    widths = [w.shape for w in AdaptiveSoftmaxHead(32, 100).weights]
    assert widths == [(10, 32), (30, 8), (60, 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoffs": [5, 5]}, r"cutoffs are \[5, 5\]"),
        ({"cutoffs": [0, 5]}, "cutoffs are"),
        ({"cutoffs": [5, CLASSES]}, "cutoffs are"),
        ({"cutoffs": []}, "cutoffs are"),
        ({"div_value": 0.5}, "div_value is 0.5"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveSoftmaxHead(HIDDEN, CLASSES, **options)
    with pytest.raises(ValueError, match="fewer than 10"):
        AdaptiveSoftmaxHead(HIDDEN, 9)
