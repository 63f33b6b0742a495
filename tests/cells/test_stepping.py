"""Steps that are prepared once: the same as the stack's own steps."""

import pytest
import torch
from helpers import BATCH, HIDDEN, IDS, INPUT, VARIANTS, assert_close

from hybridgen import cells
from hybridgen.cells import Stack
from hybridgen.cells.stepping import LARGEST_TABLE, prepare_steps

FEATURES = [
    {},
    {"num_layers": 3},
    {"num_layers": 2, "layer_norm": True},
    {"num_layers": 2, "residual": True},
    {"zoneout": 0.3},
    {"learn_initial_state": True, "dropout": 0.4, "num_layers": 2},
]


def walk(step, tokens, state):
    outputs = []
    for column in tokens.unbind(1):
        output, state = step(column, state)
        outputs.append(output)
    return torch.stack(outputs, 1), state


@torch.no_grad()
def check(stack, vocabulary, dtype=torch.float64, tolerance=1e-10):
    stack.to(dtype).eval()
    for parameter in stack.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    embedding = torch.randn(vocabulary, INPUT, dtype=dtype)
    tokens = torch.randint(vocabulary, (BATCH, 5))
    state = stack.initial_state(BATCH)
    expected = walk(lambda ids, s: stack.step(embedding[ids], s), tokens, state)
    assert_close(walk(prepare_steps(stack, embedding), tokens, state), expected, tolerance)
    plain = prepare_steps(stack)
    assert_close(walk(lambda ids, s: plain(embedding[ids], s), tokens, state), expected, tolerance)
    assert type(plain(embedding[tokens[:, 0]], state)[1]) is stack.State


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_every_cell(name, options):
    check(Stack(name, INPUT, HIDDEN, num_layers=2, cell_options=options), 9)


@pytest.mark.parametrize("features", FEATURES, ids=str)
@pytest.mark.parametrize("vocabulary", [9, LARGEST_TABLE + 1])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_feature(features, vocabulary, cell):
    check(Stack(cell, INPUT, HIDDEN, **features), vocabulary)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_float32_and_widths_of_whole_pages(cell):
    check(Stack(cell, INPUT, 256, num_layers=2), 9, torch.float32, 1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_states_stay_as_they_are_when_steps_go_on(cell):
    stack = Stack(cell, INPUT, HIDDEN).eval()
    step, x = prepare_steps(stack), torch.randn(3, INPUT)
    with torch.inference_mode():  # whose tensors could not be written to outside of it
        output, state = step(x, stack.initial_state(3))
    before = [part.clone() for part in (output, *state)]
    for rows in (3, 2, 3):
        step(torch.randn(rows, INPUT), stack.initial_state(rows))
    for part, was in zip((output, *state), before, strict=True):
        assert torch.equal(part, was)


def test_an_lstm_of_other_mathematics_is_stepped_by_it():
    class Halved(cells.LSTM):
        def advance(self, projected, state, read):
            return super().advance(projected * 0.5, state, read)

    stack = Stack("lstm", INPUT, HIDDEN)
    stack.layers[0][0].__class__ = Halved
    check(stack, 9)


def test_later_changes_of_the_weights_are_not_seen_and_gradients_not_taken():
    stack = Stack("lstm", INPUT, HIDDEN).eval()
    step, x, state = prepare_steps(stack), torch.randn(2, INPUT), stack.initial_state(2)
    before, _ = step(x, state)
    with torch.no_grad():
        stack.layers[0][0].weight_ih.zero_()
    assert torch.equal(step(x, state)[0], before)
    assert not before.requires_grad


def test_refusals():
    with pytest.raises(ValueError, match="training mode"):
        prepare_steps(Stack("lstm", INPUT, HIDDEN))
    with pytest.raises(ValueError, match="bidirectional"):
        prepare_steps(Stack("lstm", INPUT, HIDDEN, bidirectional=True).eval())
