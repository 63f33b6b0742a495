"""The scripts about gradient flow and scaling."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "scripts"


def script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gradient_flow_draws_each_cell(tmp_path, capsys):
    out = tmp_path / "flow.svg"
    few = ["--hidden_size", "8", "--steps", "20", "--rows", "2", "--out", str(out)]
    assert script("gradient_flow").main(["--cells", "rnn", "lstm", "--initialisation", "0.2", *few]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["rnn"]["factor_per_step"] < found["lstm"]["factor_per_step"] < 1
    assert out.stat().st_size > 5000


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--steps", "2"], "--steps is 2"), (["--out", "no/where.png"], "there is no folder"), (["--cells", "x"], "'x'")],
)
def test_gradient_flow_says_what_is_wrong(options, said, capsys):
    with pytest.raises(SystemExit) as leaving:
        script("gradient_flow").main(options)
    assert leaving.value.code == 2
    assert said in capsys.readouterr().err


def test_the_adding_problem_marks_two_numbers():
    inputs, sums = script("gradient_flow").adding_problem(50, 9, torch.Generator().manual_seed(0))
    assert inputs.shape == (50, 9, 2)
    assert torch.equal(inputs[..., 1].sum(1), torch.full((50,), 2.0))
    assert torch.allclose((inputs[..., 0] * inputs[..., 1]).sum(1), sums)


def test_the_estimate_is_its_arithmetic(capsys):
    scaling = script("benchmark_scaling")
    given = {"parameters": 1e6, "tokens": 1000, "flops": 6e9, "bandwidth": 1e6, "latency": 0.25, "overlap": 0.0}
    one, four = scaling.estimate(1, **given), scaling.estimate(4, **given)
    assert one["step_seconds"] == pytest.approx(1.0)
    assert one["efficiency"] == 1
    # 4 MB, of which each sends 2 * 3/4, and 4 hops.
    assert four["reduction_seconds"] == pytest.approx(6.0 + 4 * 0.25)
    assert four["step_seconds"] == pytest.approx(8.0)
    assert four["tokens_per_second"] == pytest.approx(500)
    hidden = scaling.estimate(4, **given | {"overlap": 1.0})
    assert hidden["step_seconds"] == pytest.approx(8.0 - 2 / 3)  # no longer than the backward pass
    assert scaling.main(["--estimate", "1", "1000"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["gpus"] for row in rows] == [1, 1000]


@pytest.mark.slow
@pytest.mark.distributed
def test_throughput_is_measured(capsys):
    few = ["--hidden_size", "8", "--num_layers", "1", "--batch_size", "2", "--bptt", "8", "--steps", "3"]
    assert script("benchmark_scaling").main(["--processes", "1", "2", *few]) == 0
    one, two = json.loads(capsys.readouterr().out)["rows"]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["efficiency"] == 1
    assert two["tokens_per_step"] == 2 * one["tokens_per_step"] == 32
    assert two["bytes_reduced_per_step"] == 4 * two["parameters"]
