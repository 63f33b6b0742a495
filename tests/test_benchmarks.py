"""The benchmarks of the language model run, and write figures that mean what they say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
    assert list(row["ratios"]) == [*gated, "mingru", "minlstm, rglru", "qrnn"]
    assert min(row["ratios"].values()) > 0
    assert row["ratios"]["products"] < row["ratios"]["layer norm"]


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
