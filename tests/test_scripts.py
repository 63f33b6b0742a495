"""The scripts run and write what they say."""

import json
import runpy
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


def test_the_table_of_results_is_that_of_the_result_files():
    finished = run(SCRIPTS / "results_table.py", "--check")
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_a_result_is_bold_where_it_is_as_good_as_what_was_published():
    table = runpy.run_path(str(SCRIPTS / "results_table.py"))
    published = {"system": "S", "metric": "m", "value": 5.0, "source": "P", "convention": "<eos> counted"}
    result = {
        "experiment": "family/none",
        "command": "command",
        "machine": "here",
        "metrics": {"m": {"mean": 4.5, "std": 0.25, "values": [4.25, 4.75]}, "other": {"mean": 1, "values": [1]}},
        "parameters": 12_345,
        "seconds": 90,
        "published": [published],
    }
    (row,) = table["rows_of"](result)
    assert row.startswith(
        "| family/none | m | **4.500 ± 0.250** (2 seeds) | 5: S (P; &lt;eos&gt; counted) | 12 k | 1.5"
    )
    (worse,) = table["rows_of"](result | {"published": [published | {"value": 4.0}]})
    assert "**" not in worse
    accuracy = {"a_accuracy": {"mean": 0.9, "values": [0.9]}}
    (more,) = table["rows_of"](
        result | {"metrics": accuracy, "published": [published | {"metric": "a_accuracy", "value": 0.8}]}
    )
    assert "**0.900**" in more
    variants = {
        "vae": {"metrics": {"train_recall": {"mean": 0.5, "std": None, "values": [0.5]}}},
        "gan": {"metrics": {}},
    }
    lines = table["own_table"]({"experiment": "family/ablation", "variants": variants})
    assert lines[-2:] == ["| vae | 0.500 |", "| gan |  |"]
    text = table["with_table"]("a <!-- results:begin -->old<!-- results:end --> b", [result], ["family/other"])
    assert text.startswith("a <!-- results:begin -->")
    assert text.endswith("<!-- results:end --> b")
    assert "old" not in text
    assert "Without a figure yet: `family/other`" in text
