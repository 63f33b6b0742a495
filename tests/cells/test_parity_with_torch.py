"""``torch.nn.RNN``, ``GRU`` and ``LSTM`` beside a stack with their weights: values, gradients, padding, conversion."""

import itertools

import pytest
import torch
from helpers import BATCH, HIDDEN, INPUT, TIME, assert_close, gradients
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hybridgen import cells
from hybridgen.cells import Stack, matmul

KINDS = {
    "rnn-tanh": (nn.RNN, {"nonlinearity": "tanh"}),
    "rnn-relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
    "lstm-projection": (nn.LSTM, {"proj_size": 3}),
}
LENGTHS = (3, TIME, 1, 5)  # not sorted, none empty: torch cannot pack an empty row
# Largest difference, as a share of the largest number compared: some units in the last place.
TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-13}

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
every_kind = pytest.mark.parametrize("kind", KINDS)
every_layout = pytest.mark.parametrize(
    ("num_layers", "bidirectional"), list(itertools.product([1, 2, 3], [False, True]))
)
every_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def make_module(kind, dtype=torch.float64, input_size=INPUT, hidden_size=HIDDEN, **options):
    cls, own = KINDS[kind]
    return cls(input_size, hidden_size, batch_first=True, dtype=dtype, **own, **options)


def make_roots(module, batch_size=BATCH, time=TIME):
    """Inputs and the initial state, in the order of a stack's components; all with gradients."""
    count = module.num_layers * (2 if module.bidirectional else 1)
    widths = [module.proj_size or module.hidden_size]
    if isinstance(module, nn.LSTM):
        widths.append(module.hidden_size)
    shapes = [(batch_size, time, module.input_size), *[(batch_size, w) for _ in range(count) for w in widths]]
    dtype = next(module.parameters()).dtype
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def run_module(module, inputs, *state, lengths=None):
    """Outputs and the last state of a torch module, as :func:`run_stack` gives them."""
    is_lstm = isinstance(module, nn.LSTM)
    parts = [torch.stack(state[k :: 1 + is_lstm]) for k in range(1 + is_lstm)]
    initial = tuple(parts) if is_lstm else parts[0]
    if lengths is None:
        outputs, last = module(inputs, initial)
    else:
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, last = module(packed, initial)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
    last = last if is_lstm else (last,)
    return outputs, *(component for layer in zip(*last, strict=True) for component in layer)


def run_stack(stack, inputs, *state, **call):
    outputs, last = stack(inputs, stack.State(*state), **call)
    return outputs, *last


def weight_gradients(module, found):
    """Gradients of a torch module's parameters as those of the stack's, by name.

    torch's two biases act as their sum: each of them has the gradient of the stack's one. In the candidate of a
    GRU they do not, there the stack has two as well.
    """
    grads = dict(zip((name for name, _ in module.named_parameters()), found, strict=True))
    directions = ("", "_reverse") if module.bidirectional else ("",)
    expected = {}
    for layer, (k, direction) in itertools.product(range(module.num_layers), enumerate(directions)):
        prefix, suffix = f"layers.{layer}.{k}", f"_l{layer}{direction}"
        for name in ("weight_ih", "weight_hh", "weight_hr"):
            if name + suffix in grads:
                expected[f"{prefix}.{name}"] = grads[name + suffix]
        if module.bias:
            of_ih, of_hh = grads["bias_ih" + suffix], grads["bias_hh" + suffix]
            expected[f"{prefix}.bias"] = of_ih
            if isinstance(module, nn.GRU):
                expected[f"{prefix}.bias_hn"] = of_hh[2 * module.hidden_size :]
    return expected


def assert_close_in_scale(actual, expected, tolerance):
    for a, e in zip(actual, expected, strict=True):
        assert_close(a / e.abs().max(), e / e.abs().max(), tolerance)


def compare(module, stack, roots, call, tolerance, lengths=None):
    """Values and the gradients of inputs, initial state and weights."""
    expected = run_module(module, *roots, lengths=lengths)
    results = run_stack(stack, *roots, **call)
    assert_close_in_scale(results, expected, tolerance)
    count = len(roots)
    of_module, of_stack = gradients(module, expected, *roots), gradients(stack, results, *roots)
    assert_close_in_scale(of_stack[:count], of_module[:count], tolerance)
    weights = weight_gradients(module, of_module[count:])
    names = [name for name, _ in stack.named_parameters()]
    assert set(names) == set(weights)
    assert_close_in_scale(of_stack[count:], [weights[name] for name in names], 3 * tolerance)


def ways(stack):
    """The way chosen by default, and every way; the fused one refuses a projection on a CPU."""
    found = [None, *cells.ways(stack.cells[0])]
    if getattr(stack.cells[0], "projection_size", 0):
        found.remove("fused")
    return found


@every_kind
@every_layout
@every_type
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_values_and_gradients(kind, num_layers, bidirectional, dtype, bias):
    module = make_module(kind, dtype, num_layers=num_layers, bidirectional=bidirectional, bias=bias)
    stack, roots = cells.from_torch(module), make_roots(module)
    for way in ways(stack):
        compare(module, stack, roots, {"way": way}, TOLERANCE[dtype])


@every_kind
@every_type
@pytest.mark.parametrize("bidirectional", [False, True], ids=["", "bidirectional"])
def test_lengths_are_a_packed_sequence(kind, dtype, bidirectional):
    module = make_module(kind, dtype, num_layers=2, bidirectional=bidirectional)
    stack, roots, lengths = cells.from_torch(module), make_roots(module), torch.tensor(LENGTHS)
    for way in ways(stack):
        compare(module, stack, roots, {"way": way, "lengths": lengths}, TOLERANCE[dtype], lengths)


@every_kind
def test_without_a_state_both_start_from_zeros(kind):
    module = make_module(kind, num_layers=2, bidirectional=True)
    stack, (inputs, *_) = cells.from_torch(module), make_roots(module)
    expected, _ = module(inputs)
    for way in ways(stack):
        assert_close(stack(inputs, way=way)[0], expected, 1e-13)


@every_kind
def test_steps_are_the_sequence_of_torch(kind):
    module = make_module(kind, num_layers=2)
    stack, (inputs, *state) = cells.from_torch(module), make_roots(module)
    expected, *last = run_module(module, inputs, *state)
    outputs, state = [], stack.State(*state)
    for x in inputs.unbind(1):
        output, state = stack.step(x, state)
        outputs.append(output)
    assert_close((torch.stack(outputs, 1), *state), (expected, *last), 1e-13)


@every_kind
def test_a_realistic_size_takes_onednn(kind, monkeypatch):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(matmul, "_BLAS_IS_WIDE", False)  # as on a processor with AVX-512
    batch_size, time, hidden = 20, 35, 200
    module = make_module(kind, torch.float32, hidden, hidden)
    stack, roots = cells.from_torch(module), make_roots(module, batch_size, time)
    weight = module.weight_hh_l0.detach().t()
    called, linear = [], matmul._ONEDNN_LINEAR
    monkeypatch.setattr(matmul, "_ONEDNN_LINEAR", lambda *arguments: called.append(1) or linear(*arguments))
    # A projection to 3 leaves the recurrent product of a step small; that of all inputs is large.
    assert matmul.uses_onednn(roots[1].detach(), weight) == (kind != "lstm-projection")
    for way in ways(stack):
        called.clear()
        compare(module, stack, roots, {"way": way}, 5e-6)
        if way in ("handwritten", "loop"):
            assert len(called) >= (2 if kind == "lstm-projection" else 2 * time)
    called.clear()
    module = module.double()
    roots = [root.detach().double().requires_grad_() for root in roots]
    compare(module, cells.from_torch(module), roots, {}, TOLERANCE[torch.float64])
    assert not called


@every_kind
@every_layout
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_there_and_back_again(kind, num_layers, bidirectional, bias):
    module = make_module(kind, num_layers=num_layers, bidirectional=bidirectional, bias=bias)
    stack = cells.from_torch(module)
    back = cells.to_torch(stack)
    assert type(back) is type(module)
    assert {n: p.shape for n, p in back.named_parameters()} == {n: p.shape for n, p in module.named_parameters()}
    roots = make_roots(module)
    assert_close(run_module(back, *roots), run_module(module, *roots), 1e-14)
    for name, value in back.named_parameters():
        if "weight" in name:
            assert torch.equal(value, module.get_parameter(name))
    # The sum of the two biases is kept in one of them: from here on nothing changes any more.
    again = cells.from_torch(back)
    assert_close(dict(again.named_parameters()), dict(stack.named_parameters()), 0)
    assert_close(dict(cells.to_torch(again).named_parameters()), dict(back.named_parameters()), 0)
    assert_close(run_stack(again, *roots), run_stack(stack, *roots), 0)


@every_kind
def test_a_single_cell_and_its_type_go_to_torch(kind):
    cell = cells.from_torch(make_module(kind, torch.bfloat16)).cells[0]
    module = cells.to_torch(cell)
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    cell, module = cell.double(), module.double()
    inputs, *state = make_roots(module)
    outputs, last = cell(inputs, cell.State(*state))
    assert_close((outputs, *last), run_module(module, inputs, *state), 1e-13)


def test_dropout_between_layers_is_kept():
    stack = cells.from_torch(nn.LSTM(INPUT, HIDDEN, num_layers=2, dropout=0.25))
    assert stack.dropout == 0.25
    assert not stack.variational
    assert cells.to_torch(stack).dropout == 0.25


def test_what_torch_lacks_is_refused():
    with pytest.raises(ValueError, match="not from Linear"):
        cells.from_torch(nn.Linear(2, 3))
    lacking = {
        "no cell like MGU": Stack("mgu", INPUT, HIDDEN),
        "no cell like GRU": Stack("gru", INPUT, HIDDEN, cell_options={"reset": "before"}),
        "no cell like LSTM": Stack("lstm", INPUT, HIDDEN, cell_options={"coupled_gates": True}),
        "one width": Stack("gru", INPUT, [4, 5]),
        "no residual": Stack("gru", INPUT, INPUT, residual=True),
        "no layer normalisation": Stack("gru", INPUT, HIDDEN, layer_norm=True),
        "no zoneout": Stack("gru", INPUT, HIDDEN, zoneout=0.1),
        "cannot be learned": Stack("gru", INPUT, HIDDEN, learn_initial_state=True),
    }
    for reason, stack in lacking.items():
        with pytest.raises(ValueError, match=reason):
            cells.to_torch(stack)
