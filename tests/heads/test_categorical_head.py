"""The full softmax: torch's cross entropy, label smoothing, and the projection of a tied embedding."""

import pytest
import torch
from head_examples import CLASSES, HIDDEN, assert_close, batch, build
from torch import nn
from torch.nn import functional as F

from hybridgen.heads import CategoricalHead


def test_equal_to_a_linear_layer_and_cross_entropy():
    head, (hidden, targets) = build("categorical", chunk_size=5), batch()
    layer = nn.Linear(HIDDEN, CLASSES, dtype=torch.float64)
    layer.load_state_dict({"weight": head.weight, "bias": head.bias})
    mine, theirs = head.nll(hidden, targets).mean(), F.cross_entropy(layer(hidden), targets)
    assert_close(mine, theirs)
    found = torch.autograd.grad(mine, (hidden, head.weight, head.bias))
    assert_close(found, torch.autograd.grad(theirs, (hidden, layer.weight, layer.bias)))
    assert_close(head.log_probs(hidden), F.log_softmax(layer(hidden), -1))


def test_label_smoothing_is_torchs_and_leaves_the_likelihood_alone():
    head, (hidden, targets) = build("categorical", label_smoothing=0.1, chunk_size=5), batch()
    logits = F.linear(hidden, head.weight, head.bias)
    expected = F.cross_entropy(logits, targets, label_smoothing=0.1, reduction="none")
    leaves = [hidden, *head.parameters()]
    assert_close(head.loss(hidden, targets), expected)
    found, theirs = (torch.autograd.grad(x.mean(), leaves) for x in (head.loss(hidden, targets), expected))
    assert_close(found, theirs)
    assert_close(head.nll(hidden, targets), F.cross_entropy(logits, targets, reduction="none"))
    plain = build("categorical")
    assert torch.equal(plain.loss(hidden, targets), plain.nll(hidden, targets))


def test_a_tied_embedding_of_another_width_is_reached_by_a_projection():
    head, (hidden, targets) = build("categorical-tied-projected"), batch()
    assert head.projection.shape == (4, HIDDEN)
    logits = hidden @ head.projection.t() @ head.weight.t() + head.bias
    assert_close(head.nll(hidden, targets), F.cross_entropy(logits, targets, reduction="none"))
    assert CategoricalHead(HIDDEN, CLASSES, tied=nn.Embedding(CLASSES, HIDDEN)).projection is None


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.0])
def test_label_smoothing_out_of_range(label_smoothing):
    with pytest.raises(ValueError, match="label_smoothing is"):
        CategoricalHead(HIDDEN, CLASSES, label_smoothing=label_smoothing)
