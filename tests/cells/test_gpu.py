"""On a GPU every cell gives what it gives on the CPU, and gradients of gradients exist."""

import pytest
import torch
from helpers import (
    BATCH,
    HIDDEN,
    IDS,
    INPUT,
    LENGTHS,
    VARIANTS,
    assert_close,
    gradients,
    make_cell,
    make_inputs,
    make_resets,
)

from hybridgen import cells
from hybridgen.cells import Stack
from hybridgen.cells.stepping import prepare_steps

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
@pytest.mark.parametrize("borders", ["", "lengths", "resets"])
def test_every_way_equals_the_cpu(name, options, borders):
    cell, inputs = make_cell(name, options), make_inputs()
    call = {"lengths": {"lengths": torch.tensor(LENGTHS)}, "resets": {"resets": make_resets()}}.get(borders, {})
    expected = cell(inputs, way="loop", **call)
    grads = gradients(cell, expected, inputs)
    there = make_cell(name, options)
    there.load_state_dict(cell.state_dict())
    there.cuda()
    on_gpu = inputs.detach().cuda().requires_grad_()
    call = {key: value.cuda() for key, value in call.items()}
    for way in (None, *cells.ways(there)):
        try:
            results = there(on_gpu, way=way, **call)
        except ValueError:  # torch's kernels know no resets
            assert way == "fused"
            continue
        assert_close((results[0].cpu(), tuple(s.cpu() for s in results[1])), (expected[0], tuple(expected[1])), 1e-9)
        there_grads = gradients(there, (results[0].cpu(), tuple(s.cpu() for s in results[1])), on_gpu)
        assert_close([g.cpu() for g in there_grads], grads, 1e-8)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
@pytest.mark.parametrize("prepared", [False, True], ids=["step", "prepared"])
def test_stepping_equals_the_sequence(name, options, prepared):
    cell = make_cell(name, options).cuda()
    inputs = make_inputs().cuda()
    with torch.no_grad():
        expected, last = cell(inputs)
        stack = Stack(name, INPUT, HIDDEN, cell_options=options).to(inputs)
        stack.cells[0].load_state_dict(cell.state_dict())
        step, state = (prepare_steps(stack.eval()), stack.initial_state(BATCH)) if prepared else (cell.step, None)
        for t in range(inputs.shape[1]):
            output, state = step(inputs[:, t], state)
            assert_close(output, expected[:, t], 1e-9)
    assert_close(tuple(state), tuple(last), 1e-9)


def test_the_fused_kernels_are_taken():
    for name in ("lstm", "gru", "rnn"):
        cell = cells.make(name, INPUT, HIDDEN).cuda()
        outputs, _ = cell(torch.randn(BATCH, 5, INPUT, device="cuda"))
        behind = outputs.grad_fn
        while behind is not None and "Cudnn" not in type(behind).__name__:
            behind = behind.next_functions[0][0] if behind.next_functions else None
        assert behind is not None, f"{name} was not walked by cuDNN"


def test_a_gradient_penalty():
    critic = Stack("lstm", INPUT, HIDDEN, num_layers=2, bidirectional=True).cuda()
    inputs = torch.randn(BATCH, 6, INPUT, device="cuda", requires_grad=True)
    with cells.double_backward():
        scores = critic(inputs)[0].mean((1, 2))
    (grad,) = torch.autograd.grad(scores.sum(), inputs, create_graph=True)
    (grad.flatten(1).norm(dim=1) - 1).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critic.parameters() if p.dim() > 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("name", cells.names())
def test_mixed_precision(name, lengths, dtype):
    stack = Stack(name, INPUT, HIDDEN, num_layers=2).cuda()
    inputs = make_inputs(torch.float32).cuda()
    lengths = lengths and torch.tensor(lengths).cuda()
    expected, _ = stack(inputs, lengths=lengths)
    with torch.autocast("cuda", dtype):
        outputs, _ = stack(inputs, lengths=lengths)
    assert_close(outputs.float(), expected, 0.05)
    outputs.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in stack.parameters() if p.grad is not None)
