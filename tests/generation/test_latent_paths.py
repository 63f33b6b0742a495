"""Paths through a latent space: ends, equal angles, degenerate cases; attribute vectors and neighbours."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen.generation.latent_paths import attribute_vector, lerp, nearest, path_between, slerp


def two(seed, size=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, size, generator=generator, dtype=torch.float64)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 9999), steps=st.integers(2, 12), path=st.sampled_from(["lerp", "slerp"]))
def test_paths_go_from_end_to_end_and_back(seed, steps, path):
    a, b = two(seed)
    points = path_between(a, b, steps, path)
    assert points.shape == (steps, 5)
    torch.testing.assert_close(points[0], a, rtol=0, atol=0)
    torch.testing.assert_close(points[-1], b, rtol=0, atol=0)
    torch.testing.assert_close(path_between(b, a, steps, path), points.flip(0))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 9999), steps=st.integers(3, 12))
def test_slerp_turns_by_equal_angles_and_its_norm_is_straight(seed, steps):
    a, b = two(seed)
    points = slerp(a, b, steps)
    norms = points.norm(dim=1)
    torch.testing.assert_close(norms, torch.linspace(float(a.norm()), float(b.norm()), steps, dtype=norms.dtype))
    unit = points / norms.unsqueeze(1)
    angles = (unit[1:] * unit[:-1]).sum(1).clamp(-1, 1).arccos()
    torch.testing.assert_close(angles, angles.mean().expand_as(angles), rtol=1e-6, atol=1e-6)


def test_slerp_is_shoemakes_formula_for_equal_norms():
    a, b = two(3)
    b = b / b.norm() * a.norm()
    omega = torch.arccos(a @ b / a.norm() ** 2)
    t = torch.linspace(0, 1, 6, dtype=a.dtype).unsqueeze(1)
    by_hand = (torch.sin((1 - t) * omega) * a + torch.sin(t * omega) * b) / torch.sin(omega)
    torch.testing.assert_close(slerp(a, b, 6), by_hand)


def test_a_quarter_of_a_circle():
    points = slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 3)
    torch.testing.assert_close(points[1], torch.full((2,), math.sqrt(0.5)))
    assert points.dtype == torch.float32


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]),  # parallel
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),  # equal
        ([0.0, 0.0, 0.0], [1.0, 2.0, 3.0]),  # no direction
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([1.0, 0.0, 0.0], [1.0, 1e-9, 0.0]),
    ],
)
def test_slerp_without_an_arc_is_the_line(a, b):
    a, b = torch.tensor(a), torch.tensor(b)
    points = slerp(a, b, 5)
    assert points.isfinite().all()
    torch.testing.assert_close(points, lerp(a, b, 5))


def test_slerp_is_continuous_where_arc_becomes_line():
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for angle in (0.99e-4, 1.01e-4):
        b = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        torch.testing.assert_close(slerp(a, b, 5), lerp(a, b, 5), atol=1e-8, rtol=0)


def test_opposite_latents_have_no_shortest_arc():
    a = torch.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match=r"opposite directions.*use lerp"):
        slerp(a, -3 * a, 4)
    torch.testing.assert_close(lerp(a, -a, 3)[1], torch.zeros(2))


@pytest.mark.parametrize("path", ["lerp", "slerp"])
def test_paths_refuse_what_does_not_fit(path):
    a = torch.ones(3)
    with pytest.raises(ValueError, match="steps is 1"):
        path_between(a, a, 1, path)
    with pytest.raises(ValueError, match=r"\(D,\)"):
        path_between(a, torch.ones(4), 3, path)
    with pytest.raises(ValueError, match="choose one of slerp, lerp"):
        path_between(a, a, 3, "bezier")


def test_an_attribute_is_the_difference_of_means():
    base = torch.randn(40, 6)
    direction = torch.tensor([0.0, 0, 3, 0, 0, 0])
    found = attribute_vector(base + direction, base)
    torch.testing.assert_close(found, direction, atol=1e-5, rtol=0)
    torch.testing.assert_close(attribute_vector(base, base + direction), -found)
    with pytest.raises(ValueError, match="minus must have shape"):
        attribute_vector(base, base[:0])
    with pytest.raises(ValueError, match="size 6 and minus of size 2"):
        attribute_vector(base, base[:, :2])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_nearest_of_a_corpus(metric):
    corpus = torch.randn(30, 4)
    found = nearest(corpus[7] * 1.0001, corpus, 30, metric=metric)
    assert int(found.indices[0]) == 7
    assert float(found.distances[0]) == pytest.approx(0, abs=1e-3)
    assert bool((found.distances.diff() >= 0).all())
    assert sorted(found.indices.tolist()) == list(range(30))


def test_neighbours_of_equal_distance_keep_their_order():
    found = nearest(torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 0.0], [0.0, 0.0]]), 4)
    assert found.indices.tolist() == [1, 2, 0, 3]


def test_nearest_refuses_what_does_not_fit():
    corpus = torch.randn(3, 2)
    for k in (0, 4, -1):
        with pytest.raises(ValueError, match=f"k is {k}: give 1 to 3"):
            nearest(corpus[0], corpus, k)
    with pytest.raises(ValueError, match="choose one of cosine, euclidean"):
        nearest(corpus[0], corpus, 1, metric="manhattan")
    with pytest.raises(ValueError, match="query must be"):
        nearest(torch.zeros(3), corpus, 1)
