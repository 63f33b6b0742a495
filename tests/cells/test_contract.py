"""The cell contract, for every cell and every set of options it declares."""

import copy
import io
import itertools
import pickle

import pytest
import torch
from helpers import (
    BATCH,
    HIDDEN,
    IDS,
    INPUT,
    LENGTHS,
    TIME,
    VARIANTS,
    assert_close,
    gradients,
    make_cell,
    make_inputs,
    make_resets,
    make_state,
)

from hybridgen import cells
from hybridgen.cells import through_time

every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)


def available(cell, **call):
    """The ways that serve a call."""
    found = []
    for way in cells.ways(cell):
        try:
            cell(
                torch.zeros(1, 1, INPUT, dtype=next(cell.parameters()).dtype),
                way=way,
                **{k: v[:1, :1] for k, v in call.items()},
            )
        except ValueError:
            continue
        found.append(way)
    return found


@every_variant
def test_sequence_equals_stepping_equals_chunks(name, options):
    cell = make_cell(name, options)
    inputs, start = make_inputs(), make_state(cell)
    state, stepped = start, []
    for element in inputs.unbind(1):
        output, state = cell.step(element, state)
        stepped.append(output)
    expected = torch.stack(stepped, 1)
    assert expected.shape == (BATCH, TIME, cell.output_size)
    for way in available(cell):
        outputs, last = cell(inputs, start, way=way)
        assert_close(outputs, expected)
        assert_close(tuple(last), tuple(state))
        first, carried = cell(inputs[:, :3], start, way=way)
        second, carried = cell(inputs[:, 3:], carried, way=way)
        assert_close(torch.cat([first, second], 1), expected)
        assert_close(tuple(carried), tuple(state))


@every_variant
@pytest.mark.parametrize("with_lengths", [False, True], ids=["", "lengths"])
@pytest.mark.parametrize("with_resets", [False, True], ids=["", "resets"])
def test_every_way_gives_the_same_values_and_gradients(name, options, with_lengths, with_resets):
    cell = make_cell(name, options)
    inputs, start = make_inputs(), make_state(cell)
    call = {}
    if with_lengths:
        call["lengths"] = torch.tensor(LENGTHS)
    resets = {"resets": make_resets()} if with_resets else {}
    reference = cell(inputs, start, way="loop", return_states=True, **call, **resets)
    expected = gradients(cell, reference, inputs, *start)
    for way in available(cell, **resets):
        try:
            results = cell(inputs, start, way=way, return_states=True, **call, **resets)
        except ValueError:  # torch's LSTM does not return its cell states
            assert way == "fused"
            results = cell(inputs, start, way=way, **call, **resets)
            assert_close(results, reference[:2])
            plain = gradients(cell, cell(inputs, start, way="loop", **call, **resets), inputs, *start)
            assert_close(gradients(cell, results, inputs, *start), plain)
            continue
        assert_close(results, reference)
        assert_close(gradients(cell, results, inputs, *start), expected)


@every_variant
def test_padding_is_never_read(name, options):
    cell = make_cell(name, options)
    start = make_state(cell)
    inputs = make_inputs().detach()
    for row, length in enumerate(LENGTHS):
        inputs[row, length:] = torch.nan
    lengths = torch.tensor(LENGTHS)
    for way in available(cell):
        outputs, last = cell(inputs, start, lengths=lengths, way=way)
        grads = gradients(cell, (outputs, last), *start)
        assert all(g.isfinite().all() for g in grads)
        for row, length in enumerate(LENGTHS):
            own = cell.State(*(s[row : row + 1] for s in start))
            alone, end = cell(inputs[row : row + 1, :length], own, way=way)
            assert_close(outputs[row, :length], alone[0])
            assert not outputs[row, length:].any()
            assert_close(tuple(s[row] for s in last), tuple(s[0] for s in end))


@every_variant
@pytest.mark.parametrize("learned", [False, True], ids=["", "learned initial state"])
def test_a_reset_equals_a_split(name, options, learned):
    cell = make_cell(name, options)
    if learned:
        try:
            cell.learn_initial_state()
        except ValueError:
            assert name == "mlstm"
            pytest.skip("its memory starts empty")
        with torch.no_grad():
            for value in cell.learned_state.values():
                value.add_(torch.rand_like(value))
    inputs, start, resets = make_inputs(), make_state(cell), make_resets()
    for way in available(cell, resets=resets):
        outputs, last = cell(inputs, start, resets=resets, way=way)
        for row in range(BATCH):
            state = cell.State(*(s[row : row + 1] for s in start))
            borders = [0, *(t for t in range(TIME) if resets[row, t]), TIME]
            for begin, end in itertools.pairwise(borders):
                if begin or resets[row, 0]:
                    state = cell.initial_state(1)
                part, state = cell(inputs[row : row + 1, begin:end], state, way="loop")
                assert_close(outputs[row, begin:end], part[0])
            assert_close(tuple(s[row] for s in last), tuple(s[0] for s in state))
        grads = gradients(cell, (outputs, last), inputs, *start)
        looped = gradients(cell, cell(inputs, start, resets=resets, way="loop"), inputs, *start)
        assert_close(grads, looped)


@every_variant
def test_all_states_are_the_states_of_stepping(name, options):
    cell = make_cell(name, options)
    inputs = make_inputs()
    _, last, states = cell(inputs, lengths=torch.tensor(LENGTHS), return_states=True)
    state = cell.initial_state(BATCH)
    for t in range(TIME):
        _, new = cell.step(inputs[:, t], state)
        inside = torch.tensor(LENGTHS) > t
        state = cells.state.where(inside, new, state)
        assert_close(tuple(s[:, t] for s in states), tuple(state))
    assert_close(tuple(last), tuple(state))


@every_variant
def test_gradients_are_right_to_second_order(name, options):
    cell = make_cell(name, options)
    inputs = torch.randn(2, 3, INPUT, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        _, start = cell(torch.randn(2, 2, INPUT, dtype=torch.float64))
    start = [s.clone().requires_grad_() for s in start]
    parameters = list(cell.parameters())
    extra = {"lengths": torch.tensor([3, 2]), "resets": torch.tensor([[False, True, False], [False, False, True]])}
    for way in available(cell):
        call = {} if way == "fused" else extra

        def run(x, *rest, way=way, call=call):
            state = cell.State(*rest[: len(start)])
            outputs, last = cell(x, state, way=way, **call)
            return (outputs, *(s for s in last if s.requires_grad and s.numel()))

        arguments = (inputs, *start, *parameters)
        used = [a for a in arguments if a.numel()]
        assert len(used) >= 3
        assert torch.autograd.gradcheck(run, arguments, fast_mode=True, check_batched_grad=False)
        assert torch.autograd.gradgradcheck(run, arguments, fast_mode=True, atol=1e-4)


@every_variant
def test_no_elements_change_nothing(name, options):
    cell = make_cell(name, options)
    start = make_state(cell)
    outputs, last, states = cell(make_inputs()[:, :0], start, return_states=True)
    assert outputs.shape == (BATCH, 0, cell.output_size)
    assert_close(tuple(last), tuple(start))
    assert all(s.shape[:2] == (BATCH, 0) for s in states)
    assert cell(torch.zeros(0, 3, INPUT, dtype=torch.float64))[0].shape == (0, 3, cell.output_size)


@every_variant
def test_copies_and_files_give_the_same_cell(name, options):
    cell = make_cell(name, options)
    inputs = make_inputs()
    expected = cell(inputs)
    file = io.BytesIO()
    torch.save(cell.state_dict(), file)
    file.seek(0)
    loaded = cells.make(name, INPUT, HIDDEN, **options).double()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(cell), loaded, pickle.loads(pickle.dumps(cell))):
        assert_close(other(inputs), expected, 0)


@every_variant
def test_train_eval_train_changes_nothing(name, options):
    cell = make_cell(name, options)
    inputs = make_inputs()
    before = {n: p.clone() for n, p in cell.named_parameters()}
    results = []
    for mode in (True, False, True):
        cell.train(mode)
        results.append(cell(inputs))
        gradients(cell, results[-1])
    assert_close(results[1], results[0], 0)
    assert_close(results[2], results[0], 0)
    assert {n: p.clone() for n, p in cell.named_parameters()}.keys() == before.keys()
    assert_close(dict(cell.named_parameters()), before, 0)


@every_variant
def test_bfloat16_autocast(name, options):
    cell = make_cell(name, options, torch.float32)
    inputs = make_inputs(torch.float32)
    expected, _ = cell(inputs)
    for way in available(cell):
        with torch.autocast("cpu", torch.bfloat16):
            outputs, state = cell(inputs, way=way)
            stepped, _ = cell.step(inputs[:, 0])
        assert (outputs.float() - expected).abs().max() < 0.1 * expected.abs().max() + 0.02
        assert_close(stepped.float(), outputs[:, 0].float(), 0.05)
        grads = gradients(cell, (outputs.float(), tuple(s.float() for s in state)), inputs)
        assert all(g.isfinite().all() and g.dtype is torch.float32 for g in grads)


@every_variant
def test_a_step_can_be_compiled_and_exported(name, options):
    cell = make_cell(name, options, torch.float32).eval()
    inputs = make_inputs(torch.float32)[:, 0].detach()
    state = cell.initial_state(BATCH)
    expected = cell.step(inputs, state)
    compiled = torch.compile(cell.step, backend="aot_eager", fullgraph=True)
    assert_close(compiled(inputs, state), expected, 1e-6)

    class Sampler(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = cell

        def forward(self, x, *state):
            output, new = self.cell.step(x, self.cell.State(*state))
            return (output, *new)

    batch = torch.export.Dim("batch", min=2, max=64)
    dynamic = {"x": {0: batch}, "state": tuple({0: batch} for _ in state)}
    program = torch.export.export(Sampler(), (inputs, *state), dynamic_shapes=dynamic)
    few = program.module()(inputs[:3], *(s[:3] for s in state))
    assert_close(few[0], expected[0][:3], 1e-6)


@every_variant
def test_a_sequence_can_be_compiled(name, options):
    cell = make_cell(name, options, torch.float32)
    inputs = make_inputs(torch.float32)
    compiled = torch.compile(cell, backend="aot_eager", fullgraph=True)
    expected = cell(inputs, way="loop")
    results = compiled(inputs)
    assert_close(results, expected, 1e-5)
    assert_close(gradients(cell, results, inputs), gradients(cell, expected, inputs), 1e-4)


@every_variant
def test_the_initial_state_can_be_learned(name, options):
    cell = make_cell(name, options)
    if name == "mlstm":
        with pytest.raises(ValueError, match="starts empty"):
            cell.learn_initial_state()
        return
    cell.learn_initial_state()
    assert set(cell.learned_state) == set(cell.learnable_components or cell.State._fields)
    outputs, _ = cell(make_inputs())
    outputs.square().sum().backward()
    assert any(value.grad is not None and value.grad.any() for value in cell.learned_state.values())


@every_variant
def test_large_inputs_stay_finite(name, options):
    cell = make_cell(name, options, torch.float32)
    # A gate closed or open to nothing must not turn into a division by zero or an overflow.
    inputs = torch.cat([torch.full((2, 3, INPUT), 40.0), torch.full((2, 3, INPUT), -40.0)], 1).requires_grad_()
    for way in available(cell):
        results = cell(inputs, way=way)
        assert all(r.isfinite().all() for r in (results[0], *results[1]))
        assert all(g.isfinite().all() for g in gradients(cell, results, inputs))


def test_what_does_not_fit_is_refused_in_one_sentence():
    cell = cells.make("lstm", INPUT, HIDDEN)
    inputs = torch.zeros(BATCH, TIME, INPUT)
    with pytest.raises(ValueError, match="must have shape"):
        cell(inputs[0])
    with pytest.raises(ValueError, match="must have shape"):
        cell(inputs[..., 1:])
    with pytest.raises(ValueError, match="step takes one element"):
        cell.step(inputs)
    with pytest.raises(ValueError, match=r"0\.\.7"):
        cell(inputs, lengths=torch.full((BATCH,), TIME + 1))
    with pytest.raises(ValueError, match="whole numbers"):
        cell(inputs, lengths=torch.ones(BATCH))
    with pytest.raises(ValueError, match="resets must be bool"):
        cell(inputs, resets=torch.zeros(BATCH, TIME))
    with pytest.raises(ValueError, match="make one with initial_state"):
        cell(inputs, torch.zeros(BATCH, HIDDEN))
    with pytest.raises(ValueError, match="component 'h'"):
        cell(inputs, cell.initial_state(BATCH + 1))
    with pytest.raises(ValueError, match="cannot be walked by 'parallel'"):
        cell(inputs, way="parallel")
    with pytest.raises(ValueError, match="knows no resets"):
        cell(inputs, resets=torch.ones(BATCH, TIME, dtype=torch.bool), way="fused")


@pytest.mark.parametrize("sizes", [(0, 4), (4, 0), (4, -1), (4, 2.0), (True, 4)])
def test_sizes_are_checked(sizes):
    with pytest.raises(ValueError, match="_size is"):
        cells.make("gru", *sizes)


def test_names_and_options_are_checked():
    with pytest.raises(ValueError, match="did you mean 'lstm'"):
        cells.make("lstn", 2, 3)
    with pytest.raises(ValueError, match="did you mean 'forget_bias'"):
        cells.make("lstm", 2, 3, forget_bais=1.0)
    with pytest.raises(ValueError, match="already a cell"):
        cells.register("gru", cells.GRU)


def test_the_choice_follows_the_documented_rule():
    lstm, gru, mingru = (cells.make(name, INPUT, HIDDEN) for name in ("lstm", "gru", "mingru"))
    inputs, lengths = torch.zeros(BATCH, TIME, INPUT), torch.tensor(LENGTHS)

    def chosen(cell, inputs=inputs, **extra):
        settings = {"lengths": None, "resets": None, "noise": cells.Noise(), "return_states": False, **extra}
        return through_time.choose(through_time.Call(cell, inputs, cell.initial_state(BATCH), **settings))

    assert chosen(lstm) == "fused"
    assert chosen(lstm, lengths=lengths) == "fused"
    assert chosen(lstm, return_states=True) == "handwritten"
    assert chosen(lstm, inputs.double()) == "handwritten"
    assert chosen(lstm, resets=make_resets()) == "handwritten"
    assert chosen(gru) == "handwritten"
    assert chosen(mingru) == "parallel"
    assert chosen(cells.make("slstm", INPUT, HIDDEN)) == "handwritten"
    assert chosen(cells.make("slstm", INPUT, HIDDEN, num_heads=2)) == "loop"
    assert chosen(cells.make("lstm", INPUT, HIDDEN, coupled_gates=True)) == "loop"
