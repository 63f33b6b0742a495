"""The benchmark of reliability runs, and its figures are what they are said to be."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick", "--threads", "1", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as leaving:
        runpy.run_path(str(SCRIPTS / "benchmark_reliability.py"), run_name="__main__")
    assert leaving.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["parameters"] for row in found["checkpoint"]] == [50_000, 200_000]
    for row in found["checkpoint"]:
        assert row["megabytes"] == pytest.approx(12 * row["parameters"] / 1e6, rel=0.1)
        assert min(value for name, value in row.items() if name.endswith("_seconds")) > 0
    guards = found["guards"]
    assert set(guards["percent"]) == {"SkipNonFinite", "NoiseByRank", "KeepLast", "ExactResume"}
    assert sum(guards["percent"].values()) == pytest.approx(guards["percent_together"], abs=0.01)
    assert 0 < guards["percent_together"] < 100
    assert not [*tmp_path.iterdir()]
