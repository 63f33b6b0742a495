"""Products: the oneDNN branch gives what torch.mm gives, and gradients left for the end are complete."""

import pytest
import torch
from helpers import assert_close

from hybridgen.cells import matmul

WIDE = (32, 300, 500)  # large enough for the oneDNN branch


@pytest.fixture(autouse=True)
def _needs_onednn(monkeypatch):
    # As on a processor with AVX-512, whatever this one is.
    monkeypatch.setattr(matmul, "_BLAS_IS_WIDE", False)
    if not matmul.uses_onednn(torch.empty(512, 512), torch.empty(512, 512)):
        pytest.skip("this build of torch has no oneDNN")


def operands(layout):
    m, k, n = WIDE
    if layout == "transposed":
        return torch.randn(k, m).t(), torch.randn(n, k).t()
    if layout == "strided":
        return torch.randn(m, 3 * k)[:, k : 2 * k], torch.randn(k, 2 * n)[:, :n]
    return torch.randn(m, k), torch.randn(k, n)


@pytest.mark.parametrize("layout", ["plain", "transposed", "strided"])
def test_products_equal_torch(layout):
    a, b = operands(layout)
    assert matmul.uses_onednn(a, b)
    bias = torch.randn(b.shape[1])
    assert_close(matmul.product(a, b), a @ b, 1e-4)
    assert_close(matmul.product(a, b, bias), a @ b + bias, 1e-4)
    start = torch.randn(a.shape[0], b.shape[1])
    assert_close(matmul.add_product_(start.clone(), a, b), start + a @ b, 1e-4)
    assert_close(matmul.product_to(start, a, b), a @ b, 1e-4)
    assert_close(start, a @ b, 1e-4)


def test_onednn_can_be_switched_off_and_small_products_do_not_use_it():
    a, b = operands("plain")
    with torch.backends.mkldnn.flags(enabled=False):
        assert not matmul.uses_onednn(a, b)
        assert torch.equal(matmul.product(a, b), torch.mm(a, b))
    assert not matmul.uses_onednn(a[:1, :100], b[:100, :100])
    assert not matmul.uses_onednn(a.double(), b.double())


def test_where_the_blas_is_wide_only_long_products_use_it(monkeypatch):
    monkeypatch.setattr(matmul, "_BLAS_IS_WIDE", True)
    a, b = operands("plain")
    assert not matmul.uses_onednn(a, b)
    assert torch.equal(matmul.product(a, b), torch.mm(a, b))
    long = a.repeat(matmul.FEWEST_ONEDNN_ROWS // len(a), 1)
    assert matmul.uses_onednn(long, b)
    assert not matmul.uses_onednn(long[:-1], b)
    assert_close(matmul.product(long, b), long @ b, 1e-4)


@pytest.mark.parametrize("deferred", [False, True])
def test_linear_has_the_gradients_of_torch(deferred):
    x, weight, bias = (
        torch.randn(s, requires_grad=True, dtype=d) for d in (torch.float32,) for s in ((4, 8, 300), (500, 300), (500,))
    )
    reference = torch.nn.functional.linear(x, weight, bias)
    grad = torch.randn_like(reference)
    expected = torch.autograd.grad(reference, (x, weight, bias), grad)
    if deferred:
        with matmul.weight_gradients_at_the_end():
            outputs = matmul.linear(x, weight, bias)
    else:
        outputs = matmul.linear(x, weight, bias)
    assert_close(outputs, reference, 1e-4)
    assert_close(torch.autograd.grad(outputs, (x, weight, bias), grad), expected, 1e-3)


class TestDeferredWeightGradients:
    def graph(self):
        self.weight = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
        self.x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

        def run(linear):
            h, values = self.x, []
            for _ in range(4):
                h = torch.tanh(linear(h, self.weight))
                values.append(h)
            return values

        with matmul.weight_gradients_at_the_end():
            deferred = run(matmul.linear)
        return deferred, run(torch.nn.functional.linear)

    def test_one_backward(self):
        deferred, plain = self.graph()
        for root in (0, 1, 3):
            mine = torch.autograd.grad(deferred[root].sum(), [self.weight, self.x], retain_graph=True)
            assert_close(mine, torch.autograd.grad(plain[root].sum(), [self.weight, self.x], retain_graph=True))

    def test_a_pass_for_other_gradients_leaves_nothing_behind(self):
        deferred, plain = self.graph()
        torch.autograd.grad(deferred[3].sum(), self.x, retain_graph=True)  # does not ask for the weight
        mine = torch.autograd.grad(deferred[1].sum(), self.weight, retain_graph=True)
        assert_close(mine, torch.autograd.grad(plain[1].sum(), self.weight, retain_graph=True))
        deferred[3].sum().backward(retain_graph=True)
        deferred[3].sum().backward()
        twice = 2 * torch.autograd.grad(plain[3].sum(), self.weight)[0]
        assert_close(self.weight.grad, twice)

    def test_second_order(self):
        deferred, plain = self.graph()
        found = []
        for values in (deferred, plain):
            (grad,) = torch.autograd.grad(values[3].sum(), self.x, create_graph=True)
            found.append(torch.autograd.grad(grad.square().sum(), [self.weight, self.x]))
        assert_close(found[0], found[1])

    def test_a_frozen_weight(self):
        weight = torch.randn(3, 3)
        x = torch.randn(2, 3, requires_grad=True)
        with matmul.weight_gradients_at_the_end():
            matmul.linear(x, weight).sum().backward()
        assert_close(x.grad, weight.sum(0).expand(2, 3), 1e-6)
