"""The distribution of a row of a table."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal

from hybridgen.codecs import SeriesCodec
from hybridgen.heads.relaxed import relaxed_sample
from hybridgen.models.feature_head import FeatureHead


@pytest.fixture
def codec():
    columns = {
        "height": np.array([1.0, 2.0, np.nan, 4.0]),  # a number that is sometimes missing: two features
        "kind": np.array(["a", "b", "c", "a"], dtype=object),
        "level": np.array([0.0, 1.0, 2.0, 5.0]),
    }
    return SeriesCodec.fit(columns, categorical=["kind"], scaling={"level": "standard"})


def head_of(codec):
    torch.manual_seed(0)
    return FeatureHead(4, codec.groups, codec.neutral).double()


def test_the_likelihood_is_the_sum_of_what_each_kind_has(codec):
    head = head_of(codec)
    hidden = torch.randn(1, 4, dtype=torch.float64)
    outputs = torch.nn.functional.linear(hidden, head.weight, head.bias)[0]
    place = {(group.name, group.kind): slice(group.start, group.stop) for group in codec.groups}
    height, there = place["height", "unit"], place["height", "observed"]
    kind, level = place["kind", "categorical"], place["level", "real"]
    scales = torch.exp(head._split(outputs[None])[1][0])
    parts = {
        "height": Normal(outputs[height].sigmoid(), scales[0]),
        "kind": Categorical(logits=outputs[kind]),
        "level": Normal(outputs[level], scales[1]),
    }
    row = torch.zeros(1, codec.num_features, dtype=torch.float64)
    row[0, height], row[0, there], row[0, kind.start + 1], row[0, level] = 0.3, 1.0, 1.0, -0.7
    shared = parts["kind"].log_prob(torch.tensor(1)) + parts["level"].log_prob(torch.tensor(-0.7)).sum()
    log_there = outputs[there].sigmoid().log().sum()
    expected = -(shared + log_there + parts["height"].log_prob(torch.tensor(0.3)).sum())
    torch.testing.assert_close(head.nll(hidden, row)[0], expected.double())
    # A missing cell has no density: only that it is missing counts, whatever stands there.
    missing = -(shared + (-outputs[there]).sigmoid().log().sum())
    row[0, there] = 0.0
    for value in (0.0, 0.9):
        row[0, height] = value
        torch.testing.assert_close(head.nll(hidden, row)[0], missing.double())


def test_what_is_masked_counts_for_nothing(codec):
    head = head_of(codec)
    hidden, rows = torch.randn(3, 4).double(), torch.rand(3, codec.num_features).double()
    nothing = head.nll(hidden, rows, torch.zeros(rows.shape, dtype=torch.bool))
    torch.testing.assert_close(nothing, torch.zeros(3, dtype=torch.float64))
    everything = head.nll(hidden, rows, torch.ones(rows.shape, dtype=torch.bool))
    torch.testing.assert_close(everything, head.nll(hidden, rows))


def test_draws_have_the_moments_of_the_distribution(codec):
    head = head_of(codec)
    head.requires_grad_(False)
    hidden = torch.randn(1, 4, dtype=torch.float64).expand(40_000, -1)
    drawn = head.sample(hidden, generator=torch.Generator().manual_seed(1))
    logits, log_scales = head._split(head._outputs(hidden[:1]))
    kinds = {group.kind: slice(group.start, group.stop) for group in codec.groups}
    level = drawn[:, kinds["real"]]
    assert float(level.mean()) == pytest.approx(float(logits[0, kinds["real"]]), abs=0.05)
    assert float(level.std()) == pytest.approx(math.exp(float(log_scales[0, 1])), rel=0.05)
    shares = drawn[:, kinds["categorical"]].mean(0)
    torch.testing.assert_close(shares, logits[0, kinds["categorical"]].softmax(0), atol=0.02, rtol=0)
    missing = drawn[:, kinds["observed"].start] < 0.5
    torch.testing.assert_close(
        (~missing).double().mean(), logits[0, kinds["observed"].start].sigmoid(), atol=0.02, rtol=0
    )
    # Where a cell is drawn as missing its value is the codec's neutral one.
    assert bool((drawn[missing][:, kinds["unit"]] == codec.neutral[kinds["unit"]].double()).all())


def test_relaxed_draws_are_draws_with_a_gradient(codec):
    head = head_of(codec)
    hidden = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    uniforms = torch.rand(5, head.num_uniforms, dtype=torch.float64)
    drawn = relaxed_sample(head, hidden, uniforms)
    torch.testing.assert_close(drawn, head.sample(hidden, uniforms=uniforms))
    drawn.square().sum().backward()
    assert float(hidden.grad.abs().sum()) > 0


def test_values_are_brought_into_the_range_of_the_codec(codec):
    head = head_of(codec)
    wild = torch.full((1, codec.num_features), 7.0, dtype=torch.float64)
    tame = head.within_range(wild)
    for group in codec.groups:
        expected = 1.0 if group.kind == "unit" else 7.0
        assert bool((tame[0, group.start : group.stop] == expected).all())
