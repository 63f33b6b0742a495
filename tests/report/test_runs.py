"""Reading run folders, however far a run came."""

import json
import math
import os
import socket
import time

import pytest
import torch
import yaml

from hybridgen.cli import main
from hybridgen.reliability.run_choice import automatic
from hybridgen.report import run_folder
from hybridgen.report.metrics import against, read_curves
from hybridgen.report.run_folder import Run, find_runs, open_run, run_state, summary
from hybridgen.report.wording import count, duration
from hybridgen.run_record import process_started
from hybridgen.tracking.run_folder import next_run_folder

from .made_runs import TEXT, made_run, write_checkpoint


def test_curves_leave_out_what_is_no_number_and_a_line_that_is_cut_short(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss,val/loss\n0,9,1.5,\n0,9,,nan\n,,1,\n1,19,oops,2.5\n1,19,1,2,3,4\n1,29,0.12")
    curves = read_curves(path)
    assert curves["train/loss"].steps == [9]
    assert curves["train/loss"].values == [1.5]
    assert curves["val/loss"].steps == [9, 19]
    assert math.isnan(curves["val/loss"].values[0])
    assert curves["val/loss"].best == 2.5
    assert read_curves(tmp_path / "none.csv") == {}
    path.write_bytes(b"\x00\xff\xfe garbage\n\n,,,")
    assert read_curves(path) == {}


def test_a_counter_is_read_between_its_points(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/tokens_seen,val/loss\n0,10,1000.0,\n0,20,3000.0,\n0,15,,1\n0,30,,1\n0,0,,1\n")
    curves = read_curves(path)
    assert against(curves, "train/tokens_seen", [10, 15, 20, 30, 0]) == [1000, 2000, 3000, 5000, 0]
    assert against(curves, "train/other", [1]) is None


def test_states(tmp_path):
    now = time.time()
    here = {"host": socket.gethostname(), "process": os.getpid(), "process_started": process_started(os.getpid())}

    def state(name, **record):
        return run_state(Run(made_run(tmp_path / name / "0", model=False, **record)))

    assert state("a") == "finished"
    assert state("b", state="interrupted") == "interrupted"
    assert state("c", state="running", **here) == "running"
    assert state("d", state="running", **(here | {"process_started": "1"})) == "died"  # a later process of that number
    assert state("e", state="running", **(here | {"process": 2**22 + 1})) == "died"
    far = Run(made_run(tmp_path / "f" / "0", model=False, state="running", host="elsewhere", updated=now))
    assert run_state(far) == "running"
    assert run_state(far, now=now + 7200) == "died"


def test_a_run_without_a_record_is_judged_by_its_configuration(tmp_path):
    folder = made_run(tmp_path / "a" / "0", model=False)
    (folder / "run.json").unlink()
    assert Run(folder).state == "finished"
    assert Run(folder).monitor == "val/loss"
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("max_epochs: 3", "max_epochs: 30"))
    assert Run(folder).state == "running"
    assert run_state(Run(folder), now=time.time() + 7200) == "died"
    write_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert summary(Run(folder))["parameters"] > 100


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"state": "running", "process": "x", "host": 3}']
)
def test_half_written_folders_are_listed_all_the_same(tmp_path, capsys, content):
    made_run(tmp_path / "whole" / "0", model=False)
    broken = tmp_path / "broken" / "0"
    (broken / "checkpoints").mkdir(parents=True)
    for name in ("run.json", "config.yaml", "metrics.csv", "checkpoints/best.ckpt"):
        (broken / name).write_bytes(content)
    (tmp_path / "notes").mkdir()
    assert main(["runs", "--runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert any(line.startswith("broken/0") for line in lines)
    assert main(["report", str(broken), "--out", str(tmp_path / "r.html")]) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("started", "yesterday"),
        ("started", 1e300),
        ("updated", [1]),
        ("seconds", float("nan")),
        ("epochs", "x"),
        ("parameters", {"a": 1}),
        ("monitor", ["val/loss"]),
        ("host", 3),
        ("step_metric", ["a"]),
        ("argv", 5),
        ("versions", ["a"]),
    ],
)
def test_a_record_that_no_run_writes_is_unreadable_and_hides_no_other_run(tmp_path, capsys, name, value):
    made_run(tmp_path / "whole" / "0", model=False)
    odd = made_run(tmp_path / "odd" / "0", model=False, **{name: value})
    config = yaml.safe_load((odd / "config.yaml").read_text())
    (odd / "config.yaml").write_text(yaml.safe_dump(config | {"monitor": ["val/loss"]}))
    assert main(["runs", "--runs", str(tmp_path)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "unreadable" in lines["odd/0"]
    assert "finished" in lines["whole/0"]
    assert main(["runs", "--runs", str(tmp_path), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out, parse_constant=pytest.fail)}
    assert rows["odd/0"]["error"] == f"{odd / 'run.json'} is damaged at {name}"
    assert main(["report", str(odd), "--out", str(tmp_path / "r.html")]) == 0


@pytest.mark.parametrize("metrics", [["a"], "a", 5, None])
def test_figures_that_are_no_table_are_left_out(metrics, tmp_path):
    folder = made_run(tmp_path / "a" / "0", model=False)
    for name in ("test.json", "evaluation.json"):
        (folder / name).write_text(json.dumps({"metrics": metrics}))
    assert main(["report", str(folder), "--out", str(tmp_path / "r.html")]) == 0


def test_a_model_whose_weights_are_no_numbers_has_a_page_without_its_units(tmp_path):
    folder = made_run(tmp_path / "a" / "0")
    path = folder / "checkpoints" / "best.ckpt"
    contents = torch.load(path, weights_only=True)
    torch.save(contents | {"state_dict": {k: v * float("nan") for k, v in contents["state_dict"].items()}}, path)
    (tmp_path / "text.txt").write_text(TEXT * 4)
    out = tmp_path / "r.html"
    assert main(["report", str(folder), "--text", str(tmp_path / "text.txt"), "--out", str(out)]) == 0
    assert "Hidden units and latents are not shown: what the model computes is not finite" in out.read_text()


def test_a_folder_named_by_what_is_no_number_is_no_version(tmp_path):
    made_run(tmp_path / "a" / "0", model=False)
    made_run(tmp_path / "a" / "²", model=False)
    assert open_run(tmp_path / "a").folder.name == "0"
    assert [run.name for run in find_runs(tmp_path)] == ["a/0"]
    assert next_run_folder(tmp_path, "a").name == "1"
    write_checkpoint(tmp_path / "a" / "0" / "checkpoints" / "last.ckpt")
    assert automatic(tmp_path, "a", {"max_epochs": 5})[0].folder == tmp_path / "a" / "0"


def test_no_signal_is_sent_where_it_would_end_the_run(tmp_path, monkeypatch):
    record = {"state": "running", "host": socket.gethostname(), "process": os.getpid(), "updated": time.time()}
    run = Run(made_run(tmp_path / "a" / "0", model=False, **record))
    monkeypatch.setattr(run_folder.os, "name", "nt")
    monkeypatch.setattr(run_folder.os, "kill", lambda *arguments: pytest.fail("a signal was sent"))
    states = run_state(run), run_state(run, now=time.time() + 7200)
    monkeypatch.undo()
    assert states == ("running", "died")


def test_runs_newest_first_and_as_json(tmp_path, capsys):
    for number, name in enumerate(("old", "new", "group/newest")):
        made_run(tmp_path / name / "0", model=False, started=1.7e9 + number)
    assert main(["runs", "--runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["newest/0", "new/0", "old/0"]
    assert "1,234,567" in lines[2]
    assert "13 min" in lines[2]
    assert main(["runs", "--runs", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["best"] for row in rows] == [pytest.approx(rows[0]["best"])] * 3
    assert rows[0]["monitor"] == "val/loss"
    assert main(["runs", "--runs", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["runs", "--runs", str(tmp_path / "empty")]) == 0
    assert "no runs in" in capsys.readouterr().out


def test_a_name_is_its_newest_version_and_a_checkpoint_its_run(tmp_path):
    for version in ("0", "2", "10"):
        made_run(tmp_path / "a" / version, model=False)
    assert open_run(tmp_path / "a").folder.name == "10"
    assert find_runs(tmp_path)[0].name.startswith("a/")
    write_checkpoint(tmp_path / "a" / "2" / "checkpoints" / "last.ckpt")
    assert open_run(tmp_path / "a" / "2" / "checkpoints" / "last.ckpt").name == "a/2"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "there is no run folder nothing"),
        (["."], "is no run folder"),
        (["a", "a/0"], "is given twice"),
        (["a", "--out", "no/where.html"], "there is no folder no"),
        (["a", "--out", "a"], "a is a folder"),
        (["a", "--text", "none.txt"], "there is no file none.txt"),
        (["a", "--stages", "0"], "--stages is 0"),
        (["a", "--outt", "b"], "did you mean '--out'"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "0").mkdir(parents=True)
    (tmp_path / "a" / "0" / "metrics.csv").write_text("")
    try:
        code = main(["report", *arguments])
    except SystemExit as leaving:
        code = leaving.code
    err = capsys.readouterr().err
    assert code == 2
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


def test_wording():
    assert [duration(each) for each in (3, 99, 754, 6000, 200000)] == ["3 s", "99 s", "13 min", "1 h 40 min", "2 d 7 h"]
    assert [count(each) for each in (950, 12345, 4651600)] == ["950", "12.3 k", "4.65 M"]
