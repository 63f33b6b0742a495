"""Faults that were found once, each with the smallest case that showed it."""

import gc
import pickle
import resource
from typing import ClassVar

import pytest
import torch
from helpers import BATCH, HIDDEN, INPUT, TIME, assert_close, make_inputs
from torch.nn.utils import parametrizations
from torch.utils._python_dispatch import TorchDispatchMode

from hybridgen import cells
from hybridgen.cells import Stack


@pytest.mark.parametrize("normed", [parametrizations.spectral_norm, parametrizations.weight_norm])
def test_a_second_derivative_leaves_parametrised_weights_alone(normed):
    cell = cells.make("gru", INPUT, HIDDEN).double()
    normed(cell, "weight_hh")
    cell.eval()  # spectral norm iterates in training
    before = {name: p.clone() for name, p in cell.named_parameters()}
    inputs = make_inputs()
    (grad,) = torch.autograd.grad(cell(inputs)[0].sum(), inputs, create_graph=True)
    (looped,) = torch.autograd.grad(cell(inputs, way="loop")[0].sum(), inputs, create_graph=True)
    assert_close(dict(cell.named_parameters()), before, 0)
    parameters = list(cell.parameters())
    assert_close(
        torch.autograd.grad(grad.square().sum(), parameters, allow_unused=True),
        torch.autograd.grad(looped.square().sum(), parameters, allow_unused=True),
    )


def test_weight_drop_of_a_parametrised_weight():
    stack = Stack("lstm", INPUT, HIDDEN, weight_drop=0.5)
    parametrizations.spectral_norm(stack.cells[0], "weight_hh")
    before = stack.cells[0].parametrizations.weight_hh.original.clone()
    stack(torch.randn(BATCH, TIME, INPUT))[0].sum().backward()
    assert_close(stack.cells[0].parametrizations.weight_hh.original, before, 0)


def test_a_subclass_that_changes_the_mathematics_is_not_overruled_by_a_fast_way():
    class Sevens(cells.GRU):
        def advance(self, projected, state, read):
            return cells.Hidden(torch.full_like(state.h, 7.0))

    class Doubled(cells.LSTM):
        def project(self, inputs):
            return super().project(inputs) * 2

    assert cells.ways(Sevens(INPUT, HIDDEN)) == ("loop",)
    assert (Sevens(INPUT, HIDDEN)(torch.randn(2, 3, INPUT))[0] == 7).all()
    doubled = Doubled(INPUT, HIDDEN)
    inputs = torch.randn(2, 3, INPUT)
    assert_close(doubled(inputs)[0][:, 0], doubled.step(inputs[:, 0])[0], 1e-6)


@pytest.mark.parametrize("name", ["lengths", "resets"])
def test_buffers_may_be_reused_before_the_gradient_is_taken(name):
    cell = cells.make("gru", INPUT, HIDDEN).double()
    inputs = make_inputs()
    given = {"lengths": torch.tensor([2, 3, 4, 5]), "resets": torch.rand(BATCH, TIME) < 0.5}[name]
    (expected,) = torch.autograd.grad(cell(inputs, **{name: given.clone()})[0].sum(), inputs)
    outputs, _ = cell(inputs, **{name: given})
    given.fill_(1)
    assert_close(torch.autograd.grad(outputs.sum(), inputs)[0], expected)


def test_gradients_of_inputs_alone_leak_nothing():
    cell = cells.make("slstm", 32, 64)

    def once():
        inputs = torch.randn(16, 50, 32, requires_grad=True)
        torch.autograd.grad(cell(inputs)[0].sum(), inputs)

    for _ in range(5):
        once()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(60):
        once()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024  # MiB on Linux
    assert grown < 60


def test_the_state_keeps_its_type_under_autocast():
    for name in cells.names():
        cell = cells.make(name, INPUT, HIDDEN)
        with torch.autocast("cpu", torch.bfloat16):
            _, state = cell(torch.randn(2, 3, INPUT))
            assert all(s.dtype is torch.float32 for s in state)
            cell.step(torch.randn(2, INPUT), state)
        cell(torch.randn(2, 3, INPUT), state)


def test_stacks_and_their_states_can_be_pickled():
    stack = Stack("lstm", INPUT, HIDDEN, num_layers=2, weight_drop=0.1)
    _, state = stack.eval()(torch.randn(2, 3, INPUT))
    again = pickle.loads(pickle.dumps(stack))
    assert_close(tuple(pickle.loads(pickle.dumps(state))), tuple(state))
    assert again.State is stack.State


@pytest.mark.parametrize("name", cells.names())
def test_small_signals_survive_in_16_bits(name):
    cell = cells.make(name, INPUT, HIDDEN)
    inputs = torch.randn(BATCH, TIME, INPUT) * 0.01
    exact = cell(inputs)[0]
    low = cell.bfloat16()(inputs.bfloat16())[0].float()
    assert (low - exact).abs().max() < 0.06 * exact.abs().max()


def test_rglru_keeps_its_precision_where_decay_is_slow():
    cell = cells.make("rglru", 1, 1, slowest=0.9999999, fastest=0.9999999)
    wide = cells.make("rglru", 1, 1, slowest=0.9999999, fastest=0.9999999).double()
    wide.load_state_dict(cell.state_dict())
    inputs = torch.ones(1, 1, 1)
    assert_close(cell(inputs)[0].double(), wide(inputs.double())[0], 1e-6)


@pytest.mark.parametrize(("dtype", "value"), [(torch.float32, -80.0), (torch.float16, -12.0), (torch.bfloat16, -80.0)])
def test_minlstm_shares_evenly_between_equal_gates(dtype, value):
    cell = cells.make("minlstm", 1, 1).to(dtype)
    gates = torch.tensor([[value, value, 1.0]], dtype=dtype)
    gain, addition = cell.coefficients(gates)
    assert_close((gain.item(), addition.item()), (0.5, 0.5), 1e-2)


def test_cells_can_be_made_in_half_precision():
    torch.set_default_dtype(torch.bfloat16)
    for name in cells.names():
        cell = cells.make(name, INPUT, HIDDEN)
        assert cell(torch.randn(2, 3, INPUT))[0].dtype is torch.bfloat16


def test_a_default_device_elsewhere_poisons_nothing():
    with torch.device("meta"):
        cells.make("lstm", INPUT, HIDDEN)(torch.empty(2, 3, INPUT, device="meta"), way="loop")
        masks = Stack("gru", INPUT, HIDDEN, output_dropout=0.5).to_empty(device="cpu").draw_masks(2, 3)
        assert masks.output.device.type == "cpu"
        outputs = cells.make("gru", INPUT, HIDDEN).to_empty(device="cpu")(torch.zeros(2, 3, INPUT, device="cpu"))[0]
    assert outputs.device.type == "cpu"
    assert cells.make("gru", INPUT, HIDDEN)(torch.randn(2, 3, INPUT))[0].isfinite().all()


def test_types_that_do_not_fit_are_refused():
    for name in ("lstm", "gru", "mingru"):
        cell = cells.make(name, INPUT, HIDDEN)
        with pytest.raises(ValueError, match=r"inputs are torch\.float64"):
            cell(torch.zeros(2, 3, INPUT, dtype=torch.float64))
        with pytest.raises(ValueError, match=r"inputs are torch\.int64"):
            cell.step(torch.zeros(2, INPUT, dtype=torch.int64))
        state = cell.initial_state(2, dtype=torch.float64)
        with pytest.raises(ValueError, match=r"is torch\.float64 but this cell"):
            cell(torch.zeros(2, 3, INPUT), state)
        with pytest.raises(ValueError, match="must be a tensor"):
            cell(torch.zeros(2, 3, INPUT), lengths=[1, 2])


def test_transforms_of_torch_func():
    cell = cells.make("gru", INPUT, HIDDEN).double()
    inputs = make_inputs().detach()
    (expected,) = torch.autograd.grad(cell(x := inputs.clone().requires_grad_())[0].sum(), x)
    assert_close(torch.func.grad(lambda x: cell(x)[0].sum())(inputs), expected)
    batched = torch.func.vmap(lambda x: cell(x)[0])(torch.stack([inputs, inputs * 2]))
    assert_close(batched[1], cell(inputs * 2)[0])


def test_conversion_keeps_mode_and_frozen_weights():
    module = torch.nn.LSTM(INPUT, HIDDEN, num_layers=2, dropout=0.5).eval()
    module.weight_hh_l0.requires_grad_(False)
    stack = cells.from_torch(module)
    assert not stack.training
    assert not stack.cells[0].weight_hh.requires_grad
    assert stack.cells[1].weight_hh.requires_grad
    assert not cells.to_torch(stack).training


def test_the_initial_state_is_never_the_parameter_itself():
    cell = cells.make("gru", INPUT, HIDDEN)
    cell.learn_initial_state()
    with torch.no_grad():
        cell.initial_state(1).h.add_(5.0)
    assert not cell.learned_state["h"].any()


def test_masks_of_a_sequence_are_not_those_of_a_step():
    for options in ({"output_dropout": 0.5}, {"zoneout": 0.5}):
        stack = Stack("gru", INPUT, HIDDEN, **options)
        with pytest.raises(ValueError, match=r"masks\.at\(t\)"):
            stack.step(torch.zeros(2, INPUT), masks=stack.draw_masks(2, 2))


def test_a_zoneout_of_everything():
    cell = cells.make("gru", INPUT, HIDDEN)
    start = cells.Hidden(torch.ones(2, HIDDEN))
    outputs, _ = cell(torch.randn(2, 3, INPUT), start, noise=cells.Noise(None, {"h": 0.0}))
    assert (outputs == 1).all()


def nodes(tensor):
    """Names of all autograd nodes behind a tensor."""
    seen, todo = set(), [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [following for following, _ in node.next_functions]
    return [type(node).__name__ for node in seen]


def test_the_loop_takes_its_elements_by_unbind():
    """The gradient of every inputs[:, t] would be a tensor of zeros of the whole sequence's size."""
    cell = cells.make("slstm", INPUT, HIDDEN)

    def count(time):
        names = nodes(cell(torch.randn(2, time, INPUT, requires_grad=True), way="loop")[0].sum())
        return sum("Select" in name or name.startswith("Slice") for name in names), "UnbindBackward0" in names

    assert count(4) == (count(12)[0], True)


def test_one_step_does_not_set_up_a_fused_kernel():
    """torch.nn.LSTM sets oneDNN up anew for every generated element, which costs more than the element."""

    class Recorded(TorchDispatchMode):
        names: ClassVar[list[str]] = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.names.append(str(function))
            return function(*args, **(kwargs or {}))

    cell = cells.make("lstm", 64, 64).eval()
    with torch.no_grad(), Recorded():
        cell.step(torch.randn(1, 64), cell.initial_state(1))
        in_a_step = list(Recorded.names)
        cell(torch.randn(1, 8, 64))
    assert in_a_step
    assert not any("mkldnn_rnn" in name for name in in_a_step)
    assert any("mkldnn_rnn" in name for name in Recorded.names) or not torch.backends.mkldnn.is_available()
