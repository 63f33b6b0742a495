"""What every head promises, from one suite: consistent, normalised, differentiable, independent of the chunk."""

import copy

import pytest
import torch
from head_examples import CLASSES, EXAMPLES, HIDDEN, ROWS, assert_close, batch, build
from torch import nn

from hybridgen import heads

everywhere = pytest.mark.parametrize("example", EXAMPLES)


@everywhere
def test_nll_is_what_log_probs_hold_at_the_target(example):
    head, (hidden, _) = build(example), batch(rows=CLASSES)
    targets = torch.arange(CLASSES)  # every class once, so every cluster
    log_probs = head.log_probs(hidden)
    assert log_probs.shape == (CLASSES, CLASSES)
    assert_close(head.nll(hidden, targets), -log_probs.gather(1, targets[:, None]).squeeze(1))


@everywhere
def test_log_probs_are_normalised(example):
    log_probs = build(example).log_probs(batch()[0])
    assert_close(log_probs.exp().sum(1), torch.ones(ROWS, dtype=torch.float64))


@everywhere
def test_gradients_are_those_of_log_probs(example):
    head, (hidden, targets) = build(example), batch()
    leaves = [hidden, *head.parameters()]
    weights = torch.rand(ROWS, dtype=torch.float64)
    expected = -head.log_probs(hidden).gather(1, targets[:, None]).squeeze(1)
    for grad_output in (torch.ones_like(weights), weights):
        found = torch.autograd.grad(head.nll(hidden, targets), leaves, grad_output)
        assert_close(found, torch.autograd.grad(expected, leaves, grad_output, retain_graph=True))


@everywhere
@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_chunks_make_no_difference(example, chunk_size):
    results = []
    for option in (None, chunk_size):
        torch.manual_seed(3)
        head, (hidden, targets) = build(example, chunk_size=option), batch()
        nll = head.nll(hidden, targets)
        nll.mean().backward()
        results.append((nll, head.log_probs(hidden), hidden.grad, *(p.grad for p in head.parameters())))
    assert_close(*results)


@everywhere
def test_rows_are_independent(example):
    head, (hidden, targets) = build(example), batch()
    each = [head.nll(hidden[n : n + 1], targets[n : n + 1]) for n in range(ROWS)]
    assert_close(head.nll(hidden, targets), torch.cat(each))


@everywhere
def test_gradgradcheck(example):
    head = build(example)
    hidden, targets = batch(rows=3)
    assert torch.autograd.gradgradcheck(lambda x: head.nll(x, targets), hidden)


@everywhere
def test_every_parameter_learns_and_survives_copy_and_load(example):
    head, (hidden, targets) = build(example), batch()
    targets[:3] = torch.tensor([0, CLASSES // 2, CLASSES - 1])
    head.loss(hidden, targets).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())
    twin, other = copy.deepcopy(head), build(example)
    other.load_state_dict(head.state_dict())
    for each in (twin, other):
        assert torch.equal(each.nll(hidden, targets), head.nll(hidden, targets))


@everywhere
def test_no_rows(example):
    head = build(example)
    hidden, targets = batch(rows=0)
    assert head.nll(hidden, targets).shape == (0,)
    assert head.log_probs(hidden).shape == (0, CLASSES)
    head.nll(hidden, targets).sum().backward()


@pytest.mark.parametrize("example", [name for name in EXAMPLES if "tied" in name])
def test_the_gradient_is_added_to_that_of_the_other_use_of_a_tied_weight(example):
    head = build(example)
    embedding = head.weight
    tokens, (hidden, targets) = torch.tensor([1, 1, 5]), batch()
    looked_up = torch.nn.functional.embedding(tokens, embedding)
    separately = [
        torch.autograd.grad(loss, embedding, retain_graph=True)[0]
        for loss in (looked_up.square().sum(), head.nll(hidden, targets).sum())
    ]
    (looked_up.square().sum() + head.nll(hidden, targets).sum()).backward()
    assert_close(embedding.grad, sum(separately))


@pytest.mark.parametrize("name", heads.names())
def test_tying_shares_the_parameter(name):
    embedding = nn.Embedding(CLASSES, 4)
    for tied in (embedding, embedding.weight):
        model = nn.ModuleDict({"embedding": embedding, "head": heads.make(name, HIDDEN, CLASSES, tied=tied)})
        assert model["head"].weight is embedding.weight
        names = [n for n, _ in model.named_parameters() if n.endswith("embedding.weight") or n == "head.weight"]
        assert names == ["embedding.weight"]
        twin = copy.deepcopy(model)
        assert twin["head"].weight is twin["embedding"].weight
        before = model["head"].log_probs(torch.ones(1, HIDDEN))
        with torch.no_grad():
            embedding.weight.add_(torch.randn_like(embedding.weight))
        assert not torch.equal(model["head"].log_probs(torch.ones(1, HIDDEN)), before)


@pytest.mark.parametrize("name", heads.names())
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tied": nn.Embedding(CLASSES - 1, HIDDEN)}, f"tied has {CLASSES - 1} rows but num_classes is {CLASSES}"),
        ({"tied": nn.Linear(HIDDEN, CLASSES)}, "tied is of type Linear"),
        ({"tied": torch.randn(CLASSES, HIDDEN)}, "tied is of type Tensor"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"chunk_sise": 4}, "no option 'chunk_sise': did you mean 'chunk_size'"),
    ],
)
def test_options_that_do_not_fit(name, options, message):
    with pytest.raises(ValueError, match=message):
        heads.make(name, HIDDEN, CLASSES, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("categorica", HIDDEN, CLASSES), "no head named 'categorica': did you mean 'categorical'"),
        (("categorical", 0, CLASSES), "hidden_size is 0"),
        (("categorical", HIDDEN, 2.5), "num_classes is 2.5"),
        (("adaptive", HIDDEN, True), "num_classes is True"),
    ],
)
def test_names_and_sizes_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        heads.make(*arguments)


@everywhere
@pytest.mark.parametrize(
    ("hidden", "targets", "message"),
    [
        (torch.zeros(2, 3, HIDDEN), torch.zeros(2, 3, dtype=torch.int64), "flatten batch and time first"),
        (torch.zeros(2, HIDDEN + 1), torch.zeros(2, dtype=torch.int64), "hidden must have shape"),
        (torch.zeros(2, HIDDEN), torch.zeros(3, dtype=torch.int64), r"targets must be int64 of shape \(2,\)"),
        (torch.zeros(2, HIDDEN), torch.zeros(2), "targets must be int64"),
        (torch.zeros(2, HIDDEN), torch.tensor([0, CLASSES]), f"must lie in 0..{CLASSES - 1} but span 0..{CLASSES}"),
        (torch.zeros(2, HIDDEN), torch.tensor([-100, 1]), "must lie in"),
    ],
)
def test_inputs_that_do_not_fit(example, hidden, targets, message):
    with pytest.raises(ValueError, match=message):
        build(example, torch.float32).nll(hidden, targets)
