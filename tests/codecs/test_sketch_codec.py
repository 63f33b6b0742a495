"""Sketches as elements, and back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen import codecs
from hybridgen.codecs import CodecError, SketchCodec


@given(seed=st.integers(0, 1000), points=st.integers(1, 12), scale=st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_moves_come_back(seed, points, scale):
    random = np.random.default_rng(seed)
    strokes = np.column_stack([random.normal(0, 10, (points, 2)), random.integers(0, 2, points)])
    codec = SketchCodec(scale=scale)
    elements = codec.encode(strokes)
    assert elements.shape == (points + 1, 5)
    assert bool((elements[:, 2:].sum(1) == 1).all())
    np.testing.assert_allclose(codec.decode(elements), strokes, rtol=1e-4, atol=1e-4)


def test_what_comes_after_the_end_is_left_out():
    elements = torch.zeros(4, 5)
    elements[:, :2] = 1.0
    elements[0, 2] = elements[1, 4] = elements[2, 2] = elements[3, 2] = 1
    assert len(SketchCodec().decode(elements)) == 1


def test_lines_end_where_the_pen_is_lifted():
    strokes = np.array([[1, 0, 0], [1, 0, 1], [5, 5, 1], [0, 1, 0]])
    lines = SketchCodec().lines(SketchCodec().encode(strokes))
    assert [line.tolist() for line in lines] == [[[1, 0], [2, 0]], [[7, 5]], [[7, 6]]]


def test_it_is_rebuilt_from_plain_values():
    codec = SketchCodec(scale=3.5, max_length=20, labels=["cat"])
    assert codecs.from_config(codec.to_config()).to_config() == codec.to_config()


@pytest.mark.parametrize(
    ("strokes", "said"),
    [
        (np.zeros((0, 3)), "has the shape"),
        (np.zeros((3, 2)), "has the shape"),
        (np.array([[np.inf, 0, 0]]), "not finite"),
        (np.array([[0, 0, 2]]), "neither lifted"),
        (np.array([["a", "b", "c"]]), "has the shape"),
    ],
)
def test_what_is_no_sketch_ends_in_one_sentence(strokes, said):
    with pytest.raises(CodecError, match=said):
        SketchCodec().encode(strokes)
    with pytest.raises(CodecError, match="scale"):
        SketchCodec(scale=0.0)
