"""Discriminative and predictive score: the networks, the protocol, and what they must say of known sets."""

import numpy as np
import pytest
import torch
from torch import nn

from hybridgen.evaluation.series import discriminative_score, predictive_score
from hybridgen.evaluation.series.tensorflow_gru import GRUs, draw, rows


def waves(number, features=3, steps=10, seed=0, shift=0.0):
    random = np.random.default_rng(seed)
    frequency, phase = random.uniform(0.1, 0.6, (2, number, 1, features))
    return (np.sin(frequency * np.arange(steps)[:, None] + phase) + 1) / 2 + shift


def reference_gru(networks, run, inputs, lengths=None):
    """TensorFlow 1's GRUCell from its equations, one network, one step after the other."""
    hidden = networks.candidate_weight.shape[1]
    w, g, c, b = (
        p[run] for p in (networks.input_weight, networks.gate_weight, networks.candidate_weight, networks.bias)
    )
    state = torch.zeros(len(inputs), hidden, dtype=inputs.dtype)
    outputs = []
    for t in range(inputs.shape[1]):
        x = inputs[:, t] @ w.T + b.squeeze(1)
        gates = torch.sigmoid(x[:, : 2 * hidden] + state @ g.T)
        reset, update = gates.chunk(2, 1)
        candidate = torch.tanh(x[:, 2 * hidden :] + (reset * state) @ c.T)
        new = update * state + (1 - update) * candidate
        state = new if lengths is None else torch.where((t < lengths)[:, None], new, state)
        outputs.append(state @ networks.output_weight[run].T + networks.output_bias[run].squeeze(1))
    return torch.stack(outputs, 1).squeeze(-1)  # (B, T)


def networks_of(runs=3, inputs=2, hidden=4, seed=0):
    return GRUs([np.random.default_rng([seed, r]) for r in range(runs)], inputs, hidden).double()


@pytest.mark.parametrize("ragged", [False, True])
def test_networks_are_tensorflows_gru(ragged):
    networks = networks_of()
    with torch.no_grad():
        networks.bias += torch.randn_like(networks.bias)
    series = torch.randn(6, 5, 2, dtype=torch.float64)
    chosen = torch.stack([torch.randperm(6)[:4] for _ in range(3)])
    lengths = torch.tensor([5, 2, 3, 1, 4, 5]) if ragged else None
    got = networks(rows(series, chosen), None if lengths is None else lengths[chosen])  # (T, R, B)
    expected = torch.stack(
        [
            reference_gru(networks, r, series[chosen[r]], None if lengths is None else lengths[chosen[r]])
            for r in range(3)
        ]
    )
    torch.testing.assert_close(got.permute(1, 2, 0), expected)
    weights = torch.randn_like(expected)
    parameters = list(networks.parameters())
    got_gradients = torch.autograd.grad((got.permute(1, 2, 0) * weights).sum(), parameters)
    torch.testing.assert_close(got_gradients, torch.autograd.grad((expected * weights).sum(), parameters))


def test_networks_start_as_tensorflows():
    networks = GRUs([np.random.default_rng(r) for r in range(50)], 6, 3)
    kernel = torch.cat([networks.input_weight[:, :6], networks.gate_weight], 2)
    bound = (6 / (6 + 3 + 6)) ** 0.5
    assert kernel.abs().max() <= bound
    assert kernel.abs().max() > 0.95 * bound
    candidate = torch.cat([networks.input_weight[:, 6:], networks.candidate_weight], 2)
    bound = (6 / (6 + 3 + 3)) ** 0.5
    assert 0.95 * bound < candidate.abs().max() <= bound
    assert (networks.bias[:, :6] == 1).all()
    assert not networks.bias[:, 6:].any()


def test_batches_are_different_rows_of_the_population():
    population = np.arange(100, 120)
    chosen = draw([np.random.default_rng(0), np.random.default_rng(1)], [population, population], 15)
    assert chosen.shape == (2, 15)
    assert all(len(set(row)) == 15 and set(row) <= set(population) for row in chosen.tolist())
    assert chosen[0].tolist() != chosen[1].tolist()


@pytest.mark.parametrize("score", [discriminative_score, predictive_score])
def test_runs_together_are_the_runs_alone(score):
    real, fake = waves(40), waves(40, seed=1, shift=0.1)
    together = score(real, fake, runs=3, iterations=30, batch_size=16)
    fewer = score(real, fake, runs=2, iterations=30, batch_size=16)
    np.testing.assert_allclose(together.values[:2], fewer.values, rtol=1e-4, atol=1e-6)
    again = score(real, fake, runs=3, iterations=30, batch_size=16)
    assert again == together
    assert score(real, fake, runs=3, iterations=30, batch_size=16, seed=1).values != together.values


def test_training_is_adam_on_the_published_loss():
    """One network of the batch against torch's Adam on the reference, same draws."""
    real, fake = waves(20, steps=5), waves(20, steps=5, seed=1)
    score = predictive_score(real, fake, runs=2, iterations=20, batch_size=8, hidden_size=2)
    generators = [np.random.default_rng([0, r]) for r in range(2)]
    networks = GRUs(generators, 2, 2)
    weights = nn.ParameterList(networks.parameters())
    optimizer = torch.optim.Adam(weights, lr=1e-3)
    series = torch.tensor(fake, dtype=torch.float32)
    for _ in range(20):
        chosen = draw(generators, [np.arange(20)] * 2, 8)[1]
        predicted = reference_gru(networks, 1, series[chosen][:, :-1, :2]).sigmoid()
        loss = (predicted - series[chosen][:, 1:, 2]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = torch.tensor(real, dtype=torch.float32)
    expected = (reference_gru(networks, 1, test[:, :-1, :2]).sigmoid() - test[:, 1:, 2]).abs().mean()
    np.testing.assert_allclose(score.values[1], float(expected.detach()), rtol=1e-4)


def test_the_same_set_scores_about_zero_and_a_shifted_one_does_not():
    real = waves(300)
    options = {"runs": 2, "iterations": 250, "batch_size": 32, "hidden_size": 4}
    assert discriminative_score(real, waves(300, seed=1), **options).mean < 0.1
    shifted = discriminative_score(real, waves(300, seed=1, shift=2.0), **options)
    assert shifted.mean > 0.3
    assert min(shifted.training_accuracy) > 0.8


def test_predictive_score_prefers_the_real_series():
    real = waves(300)
    options = {"runs": 2, "iterations": 250, "batch_size": 32}
    original = predictive_score(real, real, **options).mean
    noise = predictive_score(real, np.random.default_rng(0).uniform(0, 1, real.shape), **options).mean
    assert original < 0.9 * noise


@pytest.mark.parametrize("score", [discriminative_score, predictive_score])
def test_padding_has_no_influence(score):
    real, fake = waves(30), waves(30, seed=1)
    lengths = np.random.default_rng(0).integers(3, 11, (2, 30))
    options = {"runs": 2, "iterations": 10, "batch_size": 8, "real_lengths": lengths[0], "fake_lengths": lengths[1]}
    junk = [s.copy() for s in (real, fake)]
    for series, ends in zip(junk, lengths, strict=True):
        for row, end in zip(series, ends, strict=True):
            row[end:] = 1e6
    assert score(*junk, **options) == score(real, fake, **options)
    full = {**options, "real_lengths": np.full(30, 10), "fake_lengths": np.full(30, 10)}
    assert score(real, fake, **full) == score(real, fake, runs=2, iterations=10, batch_size=8)


def test_one_feature_and_tiny_sets():
    real = waves(6, features=1)
    for score in (discriminative_score, predictive_score):
        found = score(real, real, runs=1, iterations=2)
        assert found.std == 0
        assert np.isfinite(found.mean)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((np.zeros((6, 4)), np.zeros((6, 4))), r"real must have shape \(N, T, F\)"),
        ((np.zeros((6, 4, 2)), np.zeros((6, 5, 2))), "differ in steps or features"),
        ((np.full((6, 4, 2), np.nan), np.zeros((6, 4, 2))), "real holds numbers that are not finite"),
        ((np.zeros((3, 4, 2)), np.zeros((6, 4, 2))), "real has 3 series"),
    ],
)
def test_misuse(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        discriminative_score(*arguments)


def test_misuse_of_options():
    real = np.zeros((6, 4, 2))
    with pytest.raises(ValueError, match="runs is 0"):
        discriminative_score(real, real, runs=0)
    with pytest.raises(ValueError, match="nothing to predict"):
        predictive_score(real[:, :1], real[:, :1])
    with pytest.raises(ValueError, match="real_lengths must lie in"):
        predictive_score(real, real, real_lengths=[5] * 6)
