"""`hybridgen tune`: the space file, real trials in real processes, going on, and results."""

import csv
from pathlib import Path

import pytest
import yaml

from hybridgen.cli import main
from hybridgen.tuning import read_space, with_options
from hybridgen.tuning.space import Range
from hybridgen.tuning.trial import read_values

pytest.importorskip("optuna", reason="tuning needs the extra `tune`")
ROOT = Path(__file__).parent.parent.parent


def space_file(folder, text):
    path = folder / "space.yaml"
    path.write_text(text)
    return path


def config_file(folder, **model):
    text = folder / "text.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log. " * 40)
    config = {
        "model": {
            "class_path": "hybridgen.models.LanguageModel",
            "init_args": {"stack": {"cell": "rnn", "hidden_size": 4}, "embedding_size": 4, **model},
        },
        "data": {
            "class_path": "hybridgen.data.TextData",
            "init_args": {"source": str(text), "codec": "characters", "batch_size": 4, "bptt": 16},
        },
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 2, "num_sanity_val_steps": 0},
    }
    path = folder / "base.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (Range(1, 4), [1, 2, 3, 4]),
        (Range(0, 10, step=5), [0, 5, 10]),
        (Range(0.0, 0.3, step=0.1), [0.0, 0.1, 0.2, 0.3]),
        (Range(0, 1, step=0.25), [0, 0.25, 0.5, 0.75, 1.0]),
        (Range(0.0, 1.0), None),
        (Range(1, 100, log=True), None),
    ],
)
def test_a_range_is_counted_where_it_can_be(given, values):
    assert given.values() == (values if values is None else pytest.approx(values))


def test_options_find_their_place_with_and_without_init_args():
    config = {"model": {"class_path": "M", "init_args": {"stack": {"cell": "gru"}}}, "trainer": {"max_epochs": 3}}
    changed = with_options(
        config,
        {
            "model.stack.hidden_size": 7,
            "model.init_args.learning_rate": 0.1,
            "trainer.max_epochs": 5,
            "data.batch_size": 2,
            "seed_everything": 1,
        },
    )
    assert changed["model"]["init_args"] == {"stack": {"cell": "gru", "hidden_size": 7}, "learning_rate": 0.1}
    assert (changed["trainer"], changed["data"], changed["seed_everything"]) == (
        {"max_epochs": 5},
        {"batch_size": 2},
        1,
    )
    assert config["trainer"] == {"max_epochs": 3}
    assert with_options({"model": {"class_path": "M", "init_args": None}}, {"model.x": 1})["model"]["init_args"] == {
        "x": 1
    }
    with pytest.raises(ValueError, match=r"max_epochs\.more: max_epochs of the configuration is 3, which has no parts"):
        with_options(config, {"trainer.max_epochs.more": 1})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "no YAML file"),
        ("space: {}", "no entry `space`"),
        ("space: {model.x: [1]}\nsampeler: grid", "did you mean 'sampler'"),
        ("space: {model.x: [1]}\nsampler: best", "choose one of tpe, random, grid"),
        ("space: {modle.x: [1]}", "must start with one of model"),
        ("space: {model.x: []}", "model.x has no values"),
        ("space: {model.x: 3}", "give a list of values"),
        ("space: {model.x: {low: 3}}", "needs low and high"),
        ("space: {model.x: {low: 3, high: 2}}", "the lower one first"),
        ("space: {model.x: {low: a, high: 2}}", "low of model.x is 'a'"),
        ("space: {model.x: {low: 0, high: 2, log: true}}", "low must be above 0"),
        ("space: {model.x: {low: 0, hihg: 2}}", "did you mean 'high'"),
        ("space: {model.x: [1]}\nfixed: 5", "fixed of"),
        ("space: {model.x: [1]}\nfixed: [a]", "is ['a']: give options with their values"),
        ("space: {model.x: [1]}\nfixed: {model.x: 2}", "model.x is both fixed and in the space: choose one"),
        ("space: {model.x: [1]}\nconfig: 5", "config of"),
        ("space: {model.x: {low: 0, high: .inf, step: 1}}\nsampler: grid", "high of model.x is inf: give a number"),
        ("space: {model.x: {low: 0, high: 1e400}}", "high of model.x is '1e400': give a number"),
        ("space: {model.x: {low: 0, high: 1" + "0" * 400 + "}}", "high of model.x is 1000"),
        ("space: {model.x: [2020-01-01]}", "model.x has the value 2020-01-01, which YAML takes for a date"),
        ("space: {model.x: [1]}\nfixed: {model.y: {a: [2020-01-01]}}", "model.y.a has the value 2020-01-01"),
        ("space: {model.x: [{1: a}]}", "1 in model.x is no name: put it in quotes"),
        ("space: {model.x: [.nan]}", "model.x has the value .nan"),
        ("space: {model.x: {low: 0, high: 1000000000000}}\nsampler: grid", "the grid has 1000000000001 points"),
        ("space: {model.x: {low: 0.0, high: 1.0}}\nsampler: grid", "model.x has no steps, but sampler is grid"),
    ],
)
def test_a_space_that_does_not_fit_is_one_sentence(text, said, tmp_path, capsys):
    path = space_file(tmp_path, text)
    assert (
        main(["tune", "--space", str(path), "--config", str(config_file(tmp_path)), "--out", str(tmp_path / "o")]) == 2
    )
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            "{class_path: SequenceVAEGAN, init_args: {latent_sise: 3}}",
            "no option 'latent_sise': did you mean 'latent_size'",
        ),
        ("{class_path: SequenceVAEGAN, init_args: [3]}", "model.init_args is [3]: give options with their values"),
        (
            "{class_path: LanguageModel, init_args: {stack: 2020-01-01}}",
            "model.init_args.stack has the value 2020-01-01",
        ),
    ],
)
@pytest.mark.parametrize("trials", [[], ["--trials", "2"]])
def test_a_configuration_that_does_not_fit_is_one_sentence(model, said, trials, tmp_path, capsys):
    space, base = space_file(tmp_path, "space: {model.x: [1]}"), tmp_path / "base.yaml"
    base.write_text(f"model: {model.replace('class_path: ', 'class_path: hybridgen.models.')}\n")
    assert main(["tune", "--space", str(space), "--config", str(base), "--out", str(tmp_path / "o"), *trials]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0
    assert not (tmp_path / "o").exists()


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path):
    space = read_space(space_file(tmp_path, "space: {model.learning_rate: {low: 1e-4, high: 1e-2, log: true}}"))
    assert space.options["model.learning_rate"] == Range(1e-4, 1e-2, log=True)


def test_a_half_written_table_of_metrics_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "metrics.csv"
    assert read_values(path, "val/loss") == []
    path.write_text("epoch,train/loss,val/loss\n0,3.0,\n0,,2.5\n1,2.0,\n1,,1.")
    assert read_values(path, "val/loss") == [2.5, 1.0]
    assert read_values(path, "val/elbo") == []


def test_a_grid_is_tried_once_and_an_interrupted_study_goes_on(tmp_path, capsys):
    base, out = config_file(tmp_path), tmp_path / "study"
    space = space_file(tmp_path, "sampler: grid\nspace: {model.stack.hidden_size: [3, [2, 4]]}")
    command = ["tune", "--space", str(space), "--config", str(base), "--out", str(out)]
    assert main([*command, "--trials", "1"]) == 0
    first = list(csv.DictReader((out / "trials.csv").open()))
    assert [row["state"] for row in first] == ["complete"]
    assert main(command) == 0
    assert "going on after 1 finished" in capsys.readouterr().err
    rows = list(csv.DictReader((out / "trials.csv").open()))
    assert {row["model.stack.hidden_size"] for row in rows} == {"3", "[2, 4]"}
    assert [float(row["val/loss"]) for row in rows] == sorted(float(row["val/loss"]) for row in rows)
    best = yaml.safe_load((out / "best.yaml").read_text())
    assert best["model"]["init_args"]["stack"]["hidden_size"] in (3, [2, 4])
    run = out / rows[0]["run"]
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert (
        yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["stack"]["hidden_size"]
        == (best["model"]["init_args"]["stack"]["hidden_size"])
    )
    assert (out / "validation_curve.png").stat().st_size > 1000

    # The same study with another space would mix two questions.
    other = space_file(tmp_path, "sampler: grid\nspace: {model.stack.hidden_size: [5]}")
    assert main(["tune", "--space", str(other), "--config", str(base), "--out", str(out)]) == 2
    assert "another space" in capsys.readouterr().err
    assert main([*command, "--config", str(config_file(tmp_path, embedding_size=5))]) == 2
    assert "another space, configuration or monitor" in capsys.readouterr().err


def test_trials_of_a_study_with_a_dot_in_its_name_have_a_log_each(tmp_path, capsys):
    space = tmp_path / "lr.v2.yaml"
    space.write_text("space: {model.stack.cell: [lstn]}")
    command = ["tune", "--space", str(space), "--config", str(config_file(tmp_path)), "--out", str(tmp_path / "out")]
    for _ in range(2):
        assert main([*command, "--trials", "2"]) == 2
    assert sorted(path.name for path in (tmp_path / "out").glob("*.log")) == [
        "lr.v2-trial-0000.log", "lr.v2-trial-0001.log",
    ]  # fmt: skip
    assert "trial 1 cannot be trained" in capsys.readouterr().err


def test_what_fit_refuses_ends_the_study_with_what_it_said(tmp_path, capsys):
    space = space_file(tmp_path, "space: {model.stack.cell: [lstn]}")
    command = ["tune", "--space", str(space), "--config", str(config_file(tmp_path)), "--out", str(tmp_path / "out")]
    assert main([*command, "--trials", "2"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "trial 0 cannot be trained" in error  # and no second one is begun
    assert "lstm" in error  # the nearest


def test_a_trial_without_a_finite_value_is_a_failure_and_an_older_run_is_not_taken_for_it(tmp_path, monkeypatch):
    from hybridgen.tuning import Study
    from hybridgen.tuning import study as module
    from hybridgen.tuning.trial import Outcome

    (tmp_path / "s-trial-0000" / "0").mkdir(parents=True)
    seen = []

    def run_trial(config, folder, monitor, *, hopeless):
        seen.append(folder)
        values = [float("nan")] if len(seen) < 3 else [float("nan"), 2.0]
        return Outcome(values, 0, False, 1.0, "")

    monkeypatch.setattr(module, "run_trial", run_trial)
    space = read_space(space_file(tmp_path, "sampler: random\npruner: none\nspace: {model.x: [1, 2]}"))
    study = Study({"model": {}}, space, tmp_path, monitor="val/loss", name="s")
    study.run(1, lambda line: None)
    assert seen[0] == tmp_path / "s-trial-0000" / "1"
    assert [trial.state.name for trial in study.study.trials] == ["FAIL", "FAIL", "COMPLETE"]
    monkeypatch.setattr(module, "run_trial", lambda *a, **k: Outcome([float("nan")], 0, False, 1.0, ""))
    with pytest.raises(ValueError, match=r"3 trials in a row failed.*finite val/loss"):
        study.run(2, lambda line: None)


def test_the_monitor_may_depend_on_options():
    from hybridgen.commands.tune import monitor_of

    model = {"class_path": "hybridgen.models.SequenceVAEGAN", "init_args": {}}
    assert monitor_of({"model": model}).startswith("val/")
    assert monitor_of({"model": {"class_path": "hybridgen.models.LanguageModel"}}) == "val/loss"


def test_the_space_of_the_experiments_is_whole():
    space = read_space(ROOT / "experiments" / "tuning" / "hidden_size.yaml")
    assert space.size() == 6
