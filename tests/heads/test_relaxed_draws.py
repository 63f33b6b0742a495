"""Draws with a gradient: the same as those without, and with the right gradient."""

import pytest
import torch

from hybridgen import heads
from hybridgen.heads.relaxed import relaxed_sample

HEADS = {
    "bernoulli": (3, {}),
    "gaussian": (3, {}),
    "mixture_of_logistics": (3, {"num_components": 2}),
    "levels": (3, {"num_components": 2, "num_levels": 5}),
    "bivariate_mixture": (5, {"num_components": 3}),
}


def head_of(name):
    torch.manual_seed(0)
    width, options = HEADS[name]
    return heads.make("mixture_of_logistics" if name == "levels" else name, 4, width, **options).double()


@pytest.mark.parametrize("name", HEADS)
def test_a_relaxed_draw_is_the_draw_by_the_same_uniforms(name):
    head = head_of(name)
    hidden = torch.randn(20, 4, dtype=torch.float64)
    uniforms = torch.rand(20, head.num_uniforms, dtype=torch.float64)
    torch.testing.assert_close(relaxed_sample(head, hidden, uniforms), head.sample(hidden, uniforms=uniforms))


@pytest.mark.parametrize("name", HEADS)
def test_it_has_a_gradient_to_input_and_weights(name):
    head = head_of(name)
    hidden = torch.randn(20, 4, dtype=torch.float64, requires_grad=True)
    relaxed_sample(head, hidden, torch.rand(20, head.num_uniforms, dtype=torch.float64)).square().sum().backward()
    assert float(hidden.grad.abs().sum()) > 0
    assert float(head.weight.grad.abs().sum()) > 0


def test_the_gradient_of_keys_is_that_of_their_probability():
    head = head_of("bernoulli")
    hidden = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(6, 3, dtype=torch.float64)
    (drawn,) = torch.autograd.grad((relaxed_sample(head, hidden, torch.rand(6, 3)) * weights).sum(), hidden)
    (expected,) = torch.autograd.grad((head.mean(hidden) * weights).sum(), hidden)
    torch.testing.assert_close(drawn, expected)


def test_the_gradient_of_a_normal_draw_is_exact():
    head = head_of("gaussian")
    hidden = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    uniforms = torch.rand(2, 3, dtype=torch.float64) * 0.8 + 0.1
    assert torch.autograd.gradcheck(lambda h: relaxed_sample(head, h, uniforms), (hidden,))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mixture_of_logistics", {"logits": [0, 1, 6, 7, 12, 13], "means": [2, 3], "scales": [4, 5]}),
        (
            "bivariate_mixture",
            {
                "logits": range(3),
                "means": range(3, 9),
                "scales": range(9, 15),
                "correlations": range(15, 18),
                "pen": range(18, 21),
            },
        ),
    ],
)
def test_every_number_of_a_mixture_has_a_gradient(name, parts):
    head = head_of(name)
    hidden = torch.randn(50, 4, dtype=torch.float64)
    wanted = torch.randn(50, head.element_size, dtype=torch.float64)
    drawn = relaxed_sample(head, hidden, torch.rand(50, head.num_uniforms, dtype=torch.float64))
    (drawn * wanted).sum().backward()
    for part, rows in parts.items():
        assert float(head.bias.grad[list(rows)].abs().min()) > 0, part
