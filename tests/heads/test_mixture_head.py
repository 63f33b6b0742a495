"""The mixture of softmaxes: against probabilities mixed by hand, one expert, and rare words."""

import pytest
import torch
from head_examples import CLASSES, HIDDEN, assert_close, batch, build
from torch import nn

from hybridgen.heads import CategoricalHead, MixtureOfSoftmaxesHead


def test_one_expert_is_the_full_softmax_of_its_latent_vector():
    mixture, (hidden, targets) = build("mixture-tied", num_experts=1), batch()
    plain = CategoricalHead(4, CLASSES, tied=mixture.weight).double()
    with torch.no_grad():
        plain.bias.copy_(mixture.bias)
    latent = torch.tanh(hidden @ mixture.latent_weight.t() + mixture.latent_bias)
    assert_close(mixture.nll(hidden, targets), plain.nll(latent, targets))
    assert_close(mixture.log_probs(hidden), plain.log_probs(latent))
    found = torch.autograd.grad(mixture.nll(hidden, targets).mean(), (hidden, mixture.weight, mixture.bias))
    assert_close(found, torch.autograd.grad(plain.nll(latent, targets).mean(), (hidden, plain.weight, plain.bias)))


def test_probabilities_are_mixed():
    head, (hidden, _) = build("mixture"), batch(rows=4)
    shares = torch.softmax(hidden @ head.prior_weight.t(), -1)
    expected = 0
    for k in range(3):
        part = slice(k * HIDDEN, (k + 1) * HIDDEN)
        latent = torch.tanh(hidden @ head.latent_weight[part].t() + head.latent_bias[part])
        expected = expected + shares[:, k : k + 1] * torch.softmax(latent @ head.weight.t() + head.bias, -1)
    assert_close(head.log_probs(hidden), expected.log())


def test_a_very_rare_class_keeps_its_likelihood_and_gradient():
    head, (hidden, targets) = build("mixture", torch.float32), batch(torch.float32)
    with torch.no_grad():
        head.bias[3] = -200.0  # its probability is zero in single precision
    targets[:] = 3
    nll = head.nll(hidden, targets)
    assert torch.isfinite(nll).all()
    assert (nll > 150).all()  # log(p + 1e-8) would say 18.4
    (grad,) = torch.autograd.grad(nll.sum(), head.bias)
    torch.testing.assert_close(grad[3], torch.tensor(-float(len(targets))))
    torch.testing.assert_close(head.log_probs(hidden)[:, 3], -nll)


def test_options_that_do_not_fit():
    with pytest.raises(ValueError, match="num_experts is 0"):
        MixtureOfSoftmaxesHead(HIDDEN, CLASSES, num_experts=0)
    with pytest.raises(ValueError, match="latent_size is 5 but tied is 4 wide"):
        MixtureOfSoftmaxesHead(HIDDEN, CLASSES, latent_size=5, tied=nn.Embedding(CLASSES, 4))
