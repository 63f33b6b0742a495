"""What a run folder has goes on with the run: its table of numbers and its place on the dashboard."""

import csv

import pytest
from pytorch_lightning.loggers import CSVLogger

from hybridgen.reliability.run_choice import automatic, saved_config
from hybridgen.tracking import run_folder
from hybridgen.tracking.metrics_table import MetricsTable


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if value != ""} for row in csv.DictReader(file)]


def table(folder, rows_before):
    place = {"save_dir": folder.parent.parent, "name": folder.parent.name, "version": folder.name}
    return MetricsTable(rows_before=rows_before, **place)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "runs" / "small" / "0"
    logger = CSVLogger(save_dir=folder.parent.parent, name=folder.parent.name, version=folder.name)
    for step in range(4):
        logger.log_metrics({"a": step}, step=step)
    logger.log_metrics({"val": 7}, step=3)
    logger.save()
    return folder


def test_rows_that_come_again_are_left_out_and_new_columns_found(folder):
    logger = table(folder, 2)
    logger.log_metrics({"a": 20, "new": 1}, step=2)
    logger.save()
    assert rows_of(folder) == [{"a": "0", "step": "0"}, {"a": "1", "step": "1"}, {"a": "20", "new": "1", "step": "2"}]
    assert not [*folder.glob(".metrics*")]


def test_a_start_that_was_killed_loses_no_row(folder):
    (folder / "metrics.csv").rename(folder / ".metrics.csv.kept")  # as far as the process that was killed had come
    assert table(folder, 9).experiment.metrics_keys == ["a", "step", "val"]
    assert len(rows_of(folder)) == 5
    (folder / ".metrics.csv.kept").write_text((folder / "metrics.csv").read_text())
    (folder / "metrics.csv").write_text("a,st")
    assert table(folder, 9).experiment.metrics_keys == ["a", "step", "val"]
    assert len(rows_of(folder)) == 5


def test_a_row_that_was_cut_short_is_left_out(folder):
    with (folder / "metrics.csv").open("a") as file:
        file.write("9")
    assert table(folder, 9).experiment.metrics_keys == ["a", "step", "val"]
    assert len(rows_of(folder)) == 5


def test_the_dashboard_goes_on_with_the_same_run(folder, monkeypatch):
    given = {}
    monkeypatch.setattr(run_folder, "wandb_logger", lambda *arguments, **options: given.update(options))
    for name in ("run-20260101_120000-older", "offline-run-20260102_120000-newer"):
        (folder / "wandb" / name).mkdir(parents=True)
    run_folder.loggers(folder, name="small", wandb_mode="offline", rows_before=2)
    assert given["run_id"] == "newer"
    run_folder.loggers(folder, name="small", wandb_mode="offline")
    assert given["run_id"] is None


def test_where_there_is_nothing_to_go_on_with(folder, tmp_path):
    choice, why = automatic(tmp_path / "runs", "small", {"max_epochs": 3})
    assert choice is None
    assert "no run of small with a checkpoint" in why
    assert automatic(tmp_path / "nothing", "small", {})[0] is None
    assert saved_config(folder) == {}
    (folder / "config.yaml").write_text("a: [")
    assert saved_config(folder) == {}
