"""Stacks: every cell under every pair of options, and the traps that popular code falls into."""

import copy
import itertools

import pytest
import torch
from helpers import BATCH, HIDDEN, INPUT, LENGTHS, TIME, assert_close, gradients, make_inputs, make_resets

from hybridgen import cells
from hybridgen.cells import Stack
from hybridgen.cells import state as states

FEATURES = [
    {"num_layers": 2},
    {"hidden_size": [HIDDEN, 8]},
    {"bidirectional": True},
    {"residual": True},
    {"layer_norm": True},
    {"input_dropout": 0.3, "output_dropout": 0.2},
    {"dropout": 0.4, "num_layers": 2},
    {"variational": False, "dropout": 0.3, "input_dropout": 0.3},
    {"state_dropout": 0.3},
    {"zoneout": 0.3},
    {"zoneout_cell": 0.3},
    {"weight_drop": 0.4},
    {"learn_initial_state": True},
    {"initialisation": "uniform"},
]


def make_stack(name, *features):
    """A stack in float64 with the features, or None where they do not fit the cell or each other."""
    options = {"hidden_size": HIDDEN}
    for feature in features:
        options |= feature
    if isinstance(options["hidden_size"], list):
        options.pop("num_layers", None)
    try:
        stack = Stack(name, INPUT, **options).double()
    except ValueError as error:
        if not any(reason in str(error) for reason in ("does not fit", "residual needs", "starts empty")):
            raise
        return None
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return stack


PAIRS = list(itertools.combinations(range(len(FEATURES)), 2))


@pytest.mark.parametrize("name", cells.names())
def test_every_pair_of_options(name):
    """In training, with the same masks: fastest way == loop == stepping == chunks, values and gradients."""
    tried = 0
    for first, second in PAIRS:
        stack = make_stack(name, FEATURES[first], FEATURES[second])
        if stack is None:
            continue
        tried += 1
        inputs = make_inputs()
        masks = stack.draw_masks(BATCH, TIME)
        results = stack(inputs, masks=masks)
        looped = stack(inputs, masks=masks, way="loop")
        where = f"{name} with {FEATURES[first]} and {FEATURES[second]}"
        torch.testing.assert_close(results, looped, atol=1e-10, rtol=1e-10, msg=lambda m, w=where: f"{w}: {m}")
        for g, h in zip(gradients(stack, results, inputs), gradients(stack, looped, inputs), strict=True):
            torch.testing.assert_close(g, h, atol=1e-9, rtol=1e-9, msg=lambda m, w=where: f"{w}: {m}")
        if not stack.bidirectional:
            state, outputs = None, []
            for t in range(TIME):
                output, state = stack.step(inputs[:, t], state, masks=masks.at(t))
                outputs.append(output)
            assert_close((torch.stack(outputs, 1), tuple(state)), (results[0], tuple(results[1])))
        # Padding, outside training: every row by itself gives what it gives in the batch.
        stack.eval()
        padded = inputs.detach().clone()
        for row, length in enumerate(LENGTHS):
            padded[row, length:] = torch.nan
        outputs, last = stack(padded, lengths=torch.tensor(LENGTHS))
        for row, length in enumerate(LENGTHS):
            alone, end = stack(padded[row : row + 1, :length])
            assert_close(outputs[row, :length], alone[0])
            assert not outputs[row, length:].any()
            assert_close(tuple(s[row] for s in last), tuple(s[0] for s in end))
    assert tried > 30


@pytest.mark.parametrize("name", cells.names())
def test_both_directions_with_lengths_and_resets(name):
    stack = make_stack(name, {"bidirectional": True, "num_layers": 2})
    inputs, resets = make_inputs(), make_resets()
    outputs, last, everything = stack(inputs, lengths=torch.tensor(LENGTHS), resets=resets, return_states=True)
    assert outputs.shape == (BATCH, TIME, 2 * stack.hidden_size)
    assert everything._fields == last._fields
    for row, length in enumerate(LENGTHS):
        borders = [0, *(t for t in range(1, length) if resets[row, t]), length]
        for begin, end in itertools.pairwise(borders):
            part, _ = stack(inputs[row : row + 1, begin:end])
            assert_close(outputs[row, begin:end], part[0])


def test_a_stack_is_used_like_a_cell():
    stack = Stack("lstm", INPUT, [HIDDEN, 8])
    assert (stack.input_size, stack.hidden_size, stack.output_size, stack.num_layers) == (INPUT, 8, 8, 2)
    state = stack.initial_state(3)
    assert state._fields == ("layer0_h", "layer0_c", "layer1_h", "layer1_c")
    assert [s.shape for s in state] == [(3, HIDDEN), (3, HIDDEN), (3, 8), (3, 8)]
    assert stack.state_widths() == {"layer0_h": HIDDEN, "layer0_c": HIDDEN, "layer1_h": 8, "layer1_c": 8}


def test_what_can_be_done_with_a_state():
    stack = Stack("lstm", INPUT, HIDDEN, num_layers=2)
    _, state = stack(torch.randn(3, 4, INPUT))
    assert not any(s.requires_grad for s in states.detach(state))
    picked = states.select(state, torch.tensor([2, 2, 0, 1]))
    assert_close(picked.layer1_c[1], state.layer1_c[2])
    kept = states.where(torch.tensor([True, False, True]), state, stack.initial_state(3))
    assert_close(kept.layer0_h[0], state.layer0_h[0])
    assert not kept.layer0_h[1].any()
    assert_close(tuple(states.from_dict(stack, states.to_dict(state))), tuple(state.__class__(*states.detach(state))))
    with pytest.raises(ValueError, match="components of this state"):
        states.from_dict(stack, {"h": state[0]})
    assert_close(tuple(copy.deepcopy(states.detach(state))), tuple(states.detach(state)))


def test_dropout_uses_one_mask_for_all_steps_and_none_outside_training():
    stack = Stack("gru", INPUT, HIDDEN, output_dropout=0.5)
    zeros = (stack(torch.randn(8, 50, INPUT))[0] == 0).float().mean(1)
    assert set(zeros.unique().tolist()) == {0.0, 1.0}
    stack.variational = False
    zeros = (stack(torch.randn(8, 50, INPUT))[0] == 0).float().mean(1)
    assert ((zeros > 0.2) & (zeros < 0.8)).all()
    stack.eval()
    assert (stack(torch.randn(8, 50, INPUT))[0] != 0).all()


def test_dropout_keeps_the_mean():
    stack = Stack("rnn", 1, 1, input_dropout=0.3)
    mask = stack.draw_masks(200_000, 1).inputs[0]
    assert abs(mask.mean() - 1) < 0.01
    assert abs((mask == 0).float().mean() - 0.3) < 0.01


@pytest.mark.parametrize("name", ["lstm", "gru", "mingru"])
def test_zoneout_keeps_units_in_training_and_takes_the_expectation_outside(name):
    stack = Stack(name, INPUT, 500, zoneout=0.25)
    start = stack.State(*(torch.full((1, 500), 7.0) for _ in stack.State._fields))
    output, _ = stack.step(torch.randn(1, INPUT), start)
    kept = (output == 7.0).float().mean()
    assert 0.15 < kept < 0.35
    stack.eval()
    x = torch.randn(1, INPUT)
    expected, _ = stack.cells[0].step(x, stack.cells[0].State(*start))
    output, _ = stack.step(x, start)
    assert_close(output, 0.25 * 7.0 + 0.75 * expected, 1e-5)


def test_zoneout_on_the_cell_state_is_its_own():
    stack = Stack("lstm", INPUT, 400, zoneout_cell=0.5)
    start = stack.State(torch.full((1, 400), 7.0), torch.full((1, 400), 5.0))
    _, state = stack.step(torch.randn(1, INPUT), start)
    assert 0.4 < (state.layer0_c == 5.0).float().mean() < 0.6
    assert not (state.layer0_h == 7.0).any()


class TestWeightDrop:
    """Two widely copied versions crash after an evaluation, or wear the weights down to zero."""

    def stack(self):
        return Stack("lstm", INPUT, HIDDEN, weight_drop=0.5, cell_options={"bias": False})

    def test_train_eval_train(self):
        stack = self.stack()
        before = {name: p.clone() for name, p in stack.named_parameters()}
        inputs = torch.randn(BATCH, TIME, INPUT)
        dropped = stack(inputs)[0]
        stack.eval()
        whole = stack(inputs)[0]
        assert_close(whole, stack(inputs)[0], 0)
        stack.train()
        assert not torch.equal(stack(inputs)[0], dropped)
        assert set(stack.state_dict()) == set(before)
        plain = Stack("lstm", INPUT, HIDDEN, cell_options={"bias": False})
        plain.load_state_dict(stack.state_dict())
        assert_close(plain(inputs)[0], whole, 1e-6)

    def test_the_weights_are_never_overwritten(self):
        stack = self.stack()
        before = {name: p.clone() for name, p in stack.named_parameters()}
        for _ in range(20):
            stack(torch.randn(BATCH, TIME, INPUT))[0].sum().backward()
        assert_close(dict(stack.named_parameters()), before, 0)

    def test_the_gradient_reaches_the_weights_through_the_mask(self):
        stack = self.stack()
        masks = stack.draw_masks(BATCH, TIME)
        stack(torch.randn(BATCH, TIME, INPUT), masks=masks)[0].sum().backward()
        dropped = masks.weights[0]["weight_hh"] == 0
        assert 0.2 < dropped.float().mean() < 0.8
        grad = stack.cells[0].weight_hh.grad
        assert not grad[dropped].any()
        assert grad[~dropped].all()

    def test_under_autocast_and_deepcopy(self):
        stack = copy.deepcopy(self.stack())
        with torch.autocast("cpu", torch.bfloat16):
            outputs, _ = stack(torch.randn(BATCH, TIME, INPUT))
        outputs.float().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in stack.parameters())


def test_the_forget_bias_counts_once():
    cell = cells.make("lstm", INPUT, HIDDEN, forget_bias=1.0)
    module = cells.to_torch(cell)
    forget = slice(HIDDEN, 2 * HIDDEN)
    assert_close(module.bias_ih_l0[forget] + module.bias_hh_l0[forget], torch.ones(HIDDEN), 0)


def test_orthogonal_initialisation():
    for name in ("rnn", "gru", "lstm", "mgu", "layernorm_gru", "peephole_lstm"):
        cell = cells.make(name, INPUT, HIDDEN)
        for block in cell.weight_hh.split(HIDDEN):
            assert_close(block @ block.T, torch.eye(HIDDEN), 1e-5)
    with pytest.raises(ValueError, match="initialisation is 'xavier'"):
        Stack("gru", INPUT, HIDDEN, initialisation="xavier")


def test_a_number_is_the_range_of_a_uniform_initialisation():
    for name in ("rnn", "gru", "mgu", "lstm", "peephole_lstm", "sru"):
        stack = Stack(name, INPUT, HIDDEN, initialisation=0.05)
        weights = torch.cat([p.flatten() for p in stack.parameters() if p.dim() > 1])
        assert 0.04 < weights.abs().max() <= 0.05, name
    with pytest.raises(ValueError, match="initialisation is -1: give a number above 0"):
        Stack("gru", INPUT, HIDDEN, initialisation=-1)
    with pytest.raises(ValueError, match="initialisation is True"):
        Stack("gru", INPUT, HIDDEN, initialisation=True)


def test_a_critic_of_stacks_takes_a_gradient_penalty():
    """WGAN-GP: the gradient of a gradient, through two layers in both directions, equals the loop's."""
    results = []
    for way in (None, "loop"):
        torch.manual_seed(1)
        critic = Stack("lstm", INPUT, HIDDEN, num_layers=2, bidirectional=True).double()
        real = make_inputs()
        with cells.double_backward():
            scores = critic(real, way=way)[0].mean((1, 2))
        (grad,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        penalty = (grad.flatten(1).norm(dim=1) - 1).square().mean()
        penalty.backward()
        results.append([penalty, *(p.grad for p in critic.parameters() if p.grad is not None)])
    assert len(results[0]) > 8
    assert_close(results[0], results[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"zoneout": -0.1}, "zoneout is -0.1"),
        ({"num_layers": 0}, "at least one layer"),
        ({"hidden_size": []}, "empty list"),
        ({"hidden_size": [4, 4], "num_layers": 3}, "lists 2 layers"),
        ({"hidden_size": [4, 8], "residual": True}, "residual needs layers of equal width"),
        ({"cell": "mingru", "weight_drop": 0.5}, "weight_drop does not fit the cell 'mingru'"),
        ({"cell": "rglru", "state_dropout": 0.5}, "state_dropout does not fit"),
        ({"cell": "gru", "zoneout_cell": 0.5}, "zoneout_cell does not fit"),
        ({"cell": "mlstm", "zoneout": 0.5}, "zoneout does not fit"),
        ({"cell": "gruu"}, "did you mean 'gru'"),
        ({"cell_options": {"forget": 1}}, "has no option 'forget'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    options = {"cell": "lstm", "hidden_size": HIDDEN} | options
    with pytest.raises(ValueError, match=message):
        Stack(options.pop("cell"), INPUT, options.pop("hidden_size"), **options)


def test_a_bidirectional_stack_has_no_step():
    with pytest.raises(ValueError, match="no step"):
        Stack("gru", INPUT, HIDDEN, bidirectional=True).step(torch.zeros(1, INPUT))
    with pytest.raises(ValueError, match="make one with initial_state"):
        Stack("gru", INPUT, HIDDEN)(torch.zeros(1, 2, INPUT), (torch.zeros(1, HIDDEN),) * 2)


def test_a_cell_of_ones_own_is_found_by_name():
    class Leaky(cells.Cell):
        """h[t] = 0.9 h[t-1] + x[t]."""

        linear_in_time = True

        def __init__(self, input_size: int, hidden_size: int) -> None:
            super().__init__(input_size, hidden_size)
            self.weight_ih = torch.nn.Parameter(torch.eye(hidden_size, input_size))

        def reset_parameters(self, scheme: str = "orthogonal") -> None:
            pass

        def project(self, inputs):
            return inputs @ self.weight_ih.T

        def coefficients(self, projected):
            return torch.full_like(projected, 0.9), projected

    cells.register("leaky", Leaky)
    try:
        stack = Stack("leaky", 1, 1)
        outputs, _ = stack(torch.ones(1, 3, 1), resets=torch.tensor([[False, False, True]]))
        assert_close(outputs.flatten(), torch.tensor([1.0, 1.9, 1.0]), 1e-6)
    finally:
        cells.registry._CELLS.pop("leaky")
