"""The figures of a run beside recorded and published ones."""

import json

import pytest
import yaml

from hybridgen import experiments
from hybridgen.report.results import experiment_of, results_of
from hybridgen.report.run_folder import Run

from .made_runs import made_run


def config_of(name):
    return yaml.safe_load(experiments.find(name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", experiments.names())
def test_a_configuration_is_known_again_with_what_fit_adds(name):
    config = config_of(name)
    config["model"]["init_args"]["something_new"] = 1
    config["trainer"] = {"max_epochs": 1}
    assert experiment_of(config) == name


def test_another_configuration_is_none():
    config = config_of("variational_rnn/jsb_lstm")
    config["model"]["init_args"]["learning_rate"] = 0.5
    assert experiment_of(config) == ""
    assert experiment_of({}) == ""


def test_own_recorded_and_published_figures_stand_together(tmp_path):
    folder = made_run(tmp_path / "jsb" / "0", model=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(config_of("variational_rnn/jsb_lstm")))
    own = {"checkpoint": "best.ckpt", "limit_test_batches": None, "metrics": {"test/nats_per_frame_skip_first": 8.25}}
    (folder / "test.json").write_text(json.dumps(own))
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "evaluation.json").write_text(json.dumps({"metrics": {"a_score": 0.1}, "iterations": 0.5}))
    found = results_of(Run(folder))
    assert found.experiment == "variational_rnn/jsb_lstm"
    rows = [(row.kind, row.system, row.value) for row in found.rows if row.metric == "test/nats_per_frame_skip_first"]
    assert rows[0] == ("own", "this run", "8.25")
    recorded = json.loads((experiments.experiments_folder() / "results" / "variational_rnn-jsb_lstm.json").read_text())
    figure = recorded["metrics"]["test/nats_per_frame_skip_first"]
    assert rows[1] == (
        "recorded",
        "recorded for variational_rnn/jsb_lstm",
        f"{figure['mean']:.4g} ± {figure['std']:.4g}",
    )
    assert ("published", "LSTM", "8.45") in rows
    assert ("published", "TCN", "8.1") in rows
    others = {row.metric: row for row in found.rows}
    assert others["a_score"].note == "hybridgen evaluate, 0.5 of the published iterations"
    assert others["val/loss"].note == "best validation"


def test_a_run_of_no_experiment_has_its_own_figures_alone(tmp_path):
    found = results_of(Run(made_run(tmp_path / "own" / "0", model=False)))
    assert found.experiment == ""
    assert [row.metric for row in found.rows] == ["val/loss"]
