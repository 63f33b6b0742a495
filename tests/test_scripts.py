"""The scripts run and write what they say."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent.parent / "scripts"


def run(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_benchmark_cells_writes_every_entry(tmp_path):
    out = tmp_path / "cells.json"
    options = ["--shapes", "2,3,8", "--rounds", "2", "--threads", "1", "--no-memory", "--out", out]
    finished = run(SCRIPTS / "benchmark_cells.py", *options)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(out.read_text())
    entries = {row["entry"] for row in found["sequences"]}
    assert {"nn.LSTM", "lstm", "gru", "lstm + zoneout", "mlstm"} <= entries
    assert all(row["ratio"] > 0 and row["entry"] in finished.stdout for row in found["sequences"])
    assert {"nn.LSTM", "lstm", "mingru"} <= {row["entry"] for row in found["steps"]}
    assert found["machine"]["threads"] == 1


def test_benchmark_cells_measures_memory(tmp_path):
    out = tmp_path / "cells.json"
    options = ["--shapes", "8,64,128", "--rounds", "1", "--cells", "lstm", "--out", out]
    assert run(SCRIPTS / "benchmark_cells.py", *options).returncode == 0
    peaks = {row["entry"]: row["peak_mib"] for row in json.loads(out.read_text())["sequences"]}
    if peaks["lstm"] is not None:  # only Linux tells
        assert 1 < peaks["lstm"] < 500


def test_benchmark_cells_names_a_wrong_option():
    for options in (["--cells", "lstn"], ["--shapes", "1,2"]):
        finished = run(SCRIPTS / "benchmark_cells.py", *options)
        assert finished.returncode == 2
        assert finished.stderr.strip().splitlines()[-1].count("error:") == 1
        assert "Traceback" not in finished.stderr
