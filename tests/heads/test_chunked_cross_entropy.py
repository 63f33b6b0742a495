"""Cross entropy in chunks: equal to torch's in value and in gradients of every kind, whatever the chunk."""

import pytest
import torch
from head_examples import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hybridgen.heads import chunked
from hybridgen.heads.chunked import chunk_rows, cross_entropy, plain_cross_entropy


def problem(rows=11, width=5, classes=13, experts=None, dtype=torch.float64, bias=True):
    """hidden, weight, bias, log_prior and targets."""
    hidden = torch.randn(rows * (experts or 1), width, dtype=dtype, requires_grad=True)
    weight = torch.randn(classes, width, dtype=dtype, requires_grad=True)
    shift = torch.randn(classes, dtype=dtype, requires_grad=True) if bias else None
    prior = None
    if experts is not None:
        prior = torch.log_softmax(torch.randn(rows, experts, dtype=dtype), 1).requires_grad_()
    return (hidden, weight, shift, prior), torch.randint(classes, (rows,))


def mine(inputs, targets, **options):
    hidden, weight, bias, prior = inputs
    return cross_entropy(hidden, weight, bias, targets, log_prior=prior, **options)


def gradients(nll, inputs, grad_output):
    return torch.autograd.grad(nll, [t for t in inputs if t is not None], grad_output, retain_graph=True)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 12),
    width=st.integers(1, 6),
    classes=st.integers(1, 14),
    experts=st.none() | st.integers(1, 3),
    chunk_size=st.integers(1, 13),
    smoothing=st.sampled_from([0.0, 0.1, 0.9]),
    bias=st.booleans(),
    equal_rows=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_value_and_gradients_are_those_of_all_logits_at_once(
    rows, width, classes, experts, chunk_size, smoothing, bias, equal_rows, seed
):
    torch.manual_seed(seed)
    inputs, targets = problem(rows, width, classes, experts, bias=bias)
    nll = mine(inputs, targets, label_smoothing=smoothing, chunk_size=chunk_size)
    hidden, weight, shift, prior = inputs
    reference = plain_cross_entropy(hidden, weight, shift, targets, prior, smoothing)
    assert_close(nll, reference)
    grad_output = torch.full_like(nll, 0.37) if equal_rows else torch.randn_like(nll)
    assert_close(gradients(nll, inputs, grad_output), gradients(reference, inputs, grad_output))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_equal_to_torch(reduction, smoothing):
    (hidden, weight, bias, _), targets = problem()
    expected = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction=reduction, label_smoothing=smoothing)
    nll = cross_entropy(hidden, weight, bias, targets, label_smoothing=smoothing, chunk_size=4)
    loss = getattr(nll, reduction)()
    assert_close(loss, expected)
    leaves = (hidden, weight, bias)
    assert_close(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves))


def test_a_mixture_is_the_log_of_the_mean_probability():
    (hidden, weight, bias, prior), targets = problem(experts=3)
    each = torch.softmax(F.linear(hidden, weight, bias), -1).view(11, 3, -1)
    probability = (each * prior.exp().unsqueeze(-1)).sum(1).gather(1, targets[:, None]).squeeze(1)
    assert_close(mine((hidden, weight, bias, prior), targets, chunk_size=2), -probability.log())


@pytest.mark.parametrize("experts", [None, 2])
def test_double_backward(experts):
    inputs, targets = problem(3, 2, 4, experts)
    present = [t for t in inputs if t is not None]

    def function(*leaves):
        given = [*leaves, None] if experts is None else leaves
        return mine(given, targets, chunk_size=2)

    assert torch.autograd.gradcheck(function, present)
    assert torch.autograd.gradgradcheck(function, present)


def test_double_backward_with_tied_weights_counts_no_path_twice():
    def second_order(compute):
        torch.manual_seed(1)
        weight = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
        hidden = torch.tanh(weight[torch.tensor([1, 2, 2, 5])])  # the weight is the embedding too
        (grad,) = torch.autograd.grad(compute(hidden, weight).sum(), weight, create_graph=True)
        return grad, torch.autograd.grad(grad.square().sum(), weight)[0]

    targets = torch.tensor([2, 2, 5, 0])
    found = second_order(lambda hidden, weight: cross_entropy(hidden, weight, None, targets, chunk_size=3))
    assert_close(found, second_order(lambda hidden, weight: plain_cross_entropy(hidden, weight, None, targets)))


def test_backward_twice_and_a_second_loss_change_nothing():
    inputs, targets = problem()
    nll = mine(inputs, targets, chunk_size=3)
    ones, varied = torch.ones_like(nll), torch.rand_like(nll)
    first = gradients(nll, inputs, ones)
    other = gradients(nll, inputs, varied)
    assert_close(gradients(nll, inputs, ones), first)
    assert_close(other, gradients(plain_cross_entropy(*inputs[:3], targets), inputs, varied))


@pytest.mark.parametrize("frozen", [(0,), (1, 2), (0, 1), (2,)])
def test_frozen_inputs_get_no_gradient(frozen):
    inputs, targets = problem()
    for k in frozen:
        inputs[k].requires_grad_(False)
    free = [t for t in inputs if t is not None and t.requires_grad]
    nll, reference = mine(inputs, targets, chunk_size=4), plain_cross_entropy(*inputs[:3], targets)
    weights = torch.rand_like(nll)
    assert_close(torch.autograd.grad(nll, free, weights), torch.autograd.grad(reference, free, weights))


@pytest.mark.parametrize("scale", [1e3, 1e-3])
def test_extreme_logits_in_single_precision(scale):
    (hidden, weight, bias, _), targets = problem(dtype=torch.float32)
    hidden = (hidden.detach() * scale).requires_grad_()
    reference = plain_cross_entropy(hidden.double(), weight.double(), bias.double(), targets)
    nll = cross_entropy(hidden, weight, bias, targets)
    assert torch.isfinite(nll).all()
    torch.testing.assert_close(nll, reference.float(), rtol=1e-5, atol=1e-6)


def test_a_class_that_is_forbidden_has_probability_zero():
    (hidden, weight, bias, _), targets = problem()
    with torch.no_grad():
        bias[3] = -float("inf")
    targets[:] = 2
    nll = cross_entropy(hidden, weight, bias, targets)
    assert_close(nll, plain_cross_entropy(hidden, weight, bias, targets))
    grads = torch.autograd.grad(nll.sum(), (hidden, weight))
    assert torch.equal(grads[1][3], torch.zeros_like(grads[1][3]))


def test_large_products_by_onednn_agree():
    (hidden, weight, bias, _), targets = problem(300, 64, 700, dtype=torch.float32)
    nll, reference = mine((hidden, weight, bias, None), targets, chunk_size=100), F.linear(hidden, weight, bias)
    reference = F.cross_entropy(reference, targets, reduction="none")
    leaves = (hidden, weight, bias)
    torch.testing.assert_close(nll, reference, rtol=1e-5, atol=1e-5)
    found, expected = (torch.autograd.grad(x.mean(), leaves) for x in (nll, reference))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found[1].is_contiguous()  # as the parameter is: otherwise every optimiser step pays for it


def test_compiled_it_is_one_graph():
    inputs, targets = problem()
    compiled = torch.compile(lambda *leaves: cross_entropy(*leaves, targets), fullgraph=True, backend="eager")
    assert_close(compiled(*inputs[:3]), cross_entropy(*inputs[:3], targets))


def test_no_rows():
    (hidden, weight, bias, _), _ = problem()
    nll = cross_entropy(hidden[:0], weight, bias, torch.empty(0, dtype=torch.int64))
    assert nll.shape == (0,)
    grads = torch.autograd.grad(nll.sum(), (hidden, weight, bias))
    assert all(torch.equal(g, torch.zeros_like(g)) for g in grads)


class TestWork:
    """How much is multiplied, and how much is held, is part of what the function promises."""

    @pytest.fixture
    def products(self, monkeypatch):
        shapes = []

        def record(a, b, bias=None):
            shapes.append((a.shape[0], a.shape[1], b.shape[1]))
            return torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)

        monkeypatch.setattr(chunked, "product", record)
        return shapes

    def test_never_all_logits_and_three_products_per_chunk_for_a_mean(self, products):
        inputs, targets = problem(rows=10, width=5, classes=13)
        mine(inputs, targets, chunk_size=3).mean().backward()
        chunks = [shape[0] for shape in products if shape[1:] == (5, 13)]
        assert chunks == [3, 3, 3, 1]
        assert len(products) == 3 * 4

    def test_unequal_rows_go_through_the_chunks_again(self, products):
        inputs, targets = problem(rows=10)
        nll = mine(inputs, targets, chunk_size=5)
        (nll * torch.rand(10)).sum().backward()
        assert len(products) == (3 + 2) * 2

    def test_evaluation_computes_no_gradient(self, products):
        inputs, targets = problem(rows=10)
        with torch.no_grad():
            assert not mine(inputs, targets, chunk_size=5).requires_grad
        assert len(products) == 2

    @given(rows=st.integers(1, 10**6), experts=st.integers(1, 20), classes=st.integers(1, 10**6))
    def test_default_chunks_are_bounded(self, rows, experts, classes):
        chunk = chunk_rows(rows, experts, classes)
        assert 1 <= chunk <= rows
        assert chunk * experts * classes <= max(chunked.CHUNK_ELEMENTS, (chunked.FEWEST_ROWS + experts) * classes)


def test_autocast_multiplies_in_bfloat16_and_sums_in_float32():
    (hidden, weight, bias, _), targets = problem(40, 16, 50, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nll = cross_entropy(hidden, weight, bias, targets, chunk_size=7)
        reference = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="none")
    assert nll.dtype is torch.float32
    leaves = (hidden, weight, bias)
    found, expected = (torch.autograd.grad(x.mean(), leaves) for x in (nll, reference))
    assert [g.dtype for g in found] == [torch.float32] * 3
    exact = torch.autograd.grad(plain_cross_entropy(hidden, weight, bias, targets).mean(), leaves)
    for mine_, theirs, truth in zip(found, expected, exact, strict=True):
        assert (mine_ - truth).abs().max() <= 2 * (theirs - truth).abs().max() + 1e-4
    torch.testing.assert_close(nll, reference, rtol=0.02, atol=0.05)


def test_parameters_in_bfloat16():
    (hidden, weight, bias, prior), targets = problem(6, 4, 9, 2, dtype=torch.bfloat16)
    nll = cross_entropy(hidden, weight, bias, targets, log_prior=prior, chunk_size=2)
    assert nll.dtype is torch.float32
    grads = torch.autograd.grad((nll * torch.rand(6)).sum(), (hidden, weight, bias, prior))
    assert [g.dtype for g in grads] == [torch.bfloat16] * 4
    wide = [t.detach().double() for t in (hidden, weight, bias)]
    reference = plain_cross_entropy(*wide, targets, prior.detach().double())
    torch.testing.assert_close(nll, reference.float(), rtol=0.03, atol=0.05)
