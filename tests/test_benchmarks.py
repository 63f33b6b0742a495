"""The benchmarks of the language model run, and write figures that mean what they say."""

import importlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hybridgen import cells

SCRIPTS = Path(__file__).parent.parent / "scripts"


def run(script, *arguments):
    command = [sys.executable, str(SCRIPTS / script), "--threads", "1", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def figures(script, out, *arguments):
    finished = run(script, "--quick", "--out", out, *arguments)
    assert finished.returncode == 0, finished.stderr
    return json.loads(out.read_text())


def test_sampling(tmp_path):
    found = figures("benchmark_sampling.py", tmp_path / "sampling.json")
    rows = {(row["model"], row["head"], row["batch_size"]): row for row in found["sampling"]}
    assert {size for _, _, size in rows} == {1, 64}
    assert {head for _, head, _ in rows} == {"categorical", "adaptive"}
    for row in rows.values():
        low, high = row["ratio_quartiles"]
        assert 0 < low <= row["ratio"] <= high
        assert row["tokens_per_second"] > 0
        assert row["plain_tokens_per_second"] > 0


def test_floor_of_the_cells(tmp_path):
    (row,) = figures("benchmark_cells_floor.py", tmp_path / "floor.json")["floor"]
    assert row["shape"] == [20, 35, 200]
    gated = ["products", "lstm", "zoneout", "layer norm", "peephole"]
    assert list(row["ratios"]) == [*gated, "mingru", "minlstm", "rglru", "qrnn"]


class Calls(TorchDispatchMode):
    """Counts the operations that do something: no views, no empty memory."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        is_view = any(r.alias_info and not r.alias_info.is_write for r in function._schema.returns)
        if not is_view and not name.startswith(("empty", "new_empty")):
            self.count[name] += 1
        return results


@pytest.mark.parametrize(
    ("floor", "cell", "options"),
    [
        ("Zoneout", "lstm", {"zoneout": 0.1, "zoneout_cell": 0.1}),
        ("LayerNorm", "layernorm_lstm", {}),
        ("Peephole", "peephole_lstm", {}),
    ],
)
def test_a_cell_makes_the_calls_of_its_floor_and_more(monkeypatch, floor, cell, options):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    floors = importlib.import_module("benchmark_cells_floor")
    shape = (20, 35, 200)
    stack = cells.Stack(cell, 200, 200, **options)
    inputs, grads = torch.randn(20, 35, 200, requires_grad=True), torch.randn(20, 35, 200)
    with torch.no_grad():
        least = getattr(floors, floor)(*shape)
        with Calls() as of_floor:
            least()
    with Calls() as of_cell:
        stack(inputs)[0].backward(grads)
    of_floor, of_cell = sum(of_floor.count.values()), sum(of_cell.count.values())
    assert 14 * 35 < of_floor < of_cell < 2.5 * of_floor


def test_throughput_of_training(tmp_path):
    found = figures("benchmark_language_model.py", tmp_path / "throughput.json")
    rows = {row["model"]: row for row in found["throughput"]}
    assert list(rows) == ["plain", "full", "adaptive"]
    assert rows["plain"]["ratio"] == 1
    assert all(row["of_peak"] > 0 for row in rows.values())
    # The LSTM and the full softmax, by hand; fewer with the adaptive one.
    assert rows["plain"]["flops_per_token"] == rows["full"]["flops_per_token"] == 6 * (2 * 4 * 16 * 32 + 16 * 500)
    assert rows["adaptive"]["flops_per_token"] < 0.8 * rows["plain"]["flops_per_token"]


def test_training_to_a_loss(tmp_path):
    found = figures("benchmark_language_model.py", tmp_path / "train.json", "--train")
    rows = {row["model"]: row for row in found["train"]}
    uniform = torch.tensor(500.0).log()
    assert {"plain", "full", "adaptive"} == set(rows)
    for row in rows.values():
        assert row["steps"] == rows["plain"]["steps"]
        assert 0 < row["valid_nats"] < uniform
        assert "carried" in row["protocol"]


def test_beside_a_transformer(tmp_path):
    found = figures("benchmark_transformer.py", tmp_path / "transformer.json")
    transformer, ours = found["models"]
    assert transformer["characters_read"] == 20 * 12 * 64
    assert ours["characters_read"] > 0
    # Twenty steps are enough to know which characters are frequent.
    assert transformer["nats_cold64"] < 4.5
    assert ours["nats_cold64"] < 4.5


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("benchmark_sampling.py", ["--models", "words"]),
        ("benchmark_language_model.py", ["--train", "--epochs", "0"]),
        ("benchmark_transformer.py", ["--iterations", "0"]),
    ],
)
def test_a_wrong_option_is_named(script, arguments):
    finished = run(script, *arguments)
    assert finished.returncode == 2
    assert finished.stderr.strip().splitlines()[-1].count("error:") == 1
    assert "Traceback" not in finished.stderr
