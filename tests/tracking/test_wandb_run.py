"""What an offline run of Weights & Biases holds, read by W&B's own reader of run folders."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hybridgen.cli import main
from hybridgen.commands.checking import _Checking, _Raising
from hybridgen.commands.training import training_cli

ROOT = Path(__file__).parents[2]
SMALL = {"stack": {"cell": "gru", "hidden_size": 8, "num_layers": 1}, "embedding_size": 8}


def inspect(folder, *options):
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", *options, "--json", str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Records and summary of a short training that was tracked."""
    folder = tmp_path_factory.mktemp("tracked")
    (folder / "text.txt").write_text("A line of a text that is learned.\n" * 60)
    config = {
        "model": {"class_path": "hybridgen.models.LanguageModel", "init_args": SMALL},
        "data": {
            "class_path": "hybridgen.data.TextData",
            "init_args": {"source": str(folder / "text.txt"), "batch_size": 2, "bptt": 16},
        },
        "trainer": {"max_epochs": 3, "limit_train_batches": 10, "log_every_n_steps": 5, "enable_progress_bar": False},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_DATA_DIR", str(folder / "staging"))
        labels = ["--wandb_project", "mine", "--wandb_group", "seeds", "--wandb_tags", "[small, gru]"]
        line = ["fit", "--config", str(folder / "small.yaml"), "--runs", str(folder / "runs"), "--wandb", "offline"]
        patch.setattr(sys, "argv", ["hybridgen", *line])
        assert main([*line, *labels, "--wandb_checkpoints", "true"]) == 0
    (run,) = (folder / "runs" / "small" / "0" / "wandb").glob("offline-run-*")
    records = [json.loads(line) for line in inspect(run).splitlines()]
    return records, json.loads(inspect(run, "--summary"))


def test_labels_and_the_whole_configuration(offline):
    records, summary = offline
    assert summary["project"] == "mine"
    assert summary["tags"] == ["small", "gru"]
    assert summary["state"] == "finished"
    (run,) = [record["run"] for record in records if "run" in record]
    assert run["run_group"] == "seeds"
    config = summary["config"] if isinstance(summary["config"], dict) else json.loads(summary["config"])
    written = config["configuration"].get("value", config["configuration"])
    assert written["model"]["init_args"]["stack"] == SMALL["stack"]
    assert {"trainer", "data", "seed_everything"} <= set(written)
    assert {"argv", "versions", "git"} <= set(config)


def test_axes_of_tokens_batches_and_epochs(offline):
    records, _ = offline
    metrics = [record["metric"] for record in records if "metric" in record]
    assert {"epoch", "batch", "train/tokens_seen"} <= {metric.get("name") for metric in metrics}
    globs = {metric["glob_name"]: metric.get("step_metric") for metric in metrics if "glob_name" in metric}
    assert globs["train/*"] == globs["val/*"] == "train/tokens_seen"
    rows = [record["history"]["item"] for record in records if "history" in record]
    trained = [(row["batch"], row["epoch"], row["train/tokens_seen"]) for row in rows if "train/loss" in row]
    assert trained == [(batch, (batch - 1) // 10, batch * 32) for batch in range(5, 31, 5)]
    # What is logged without tokens, as validations are, gets the last number of them from W&B (step_sync).
    assert all(m["options"].get("step_sync") for m in metrics if m.get("glob_name") in ("train/*", "val/*"))
    assert [row["batch"] for row in rows if "val/loss" in row] == [10, 20, 30]


def test_the_summary_has_the_best_value(offline):
    records, found = offline
    rows = [record["history"]["item"] for record in records if "history" in record]
    losses = [row["val/loss"] for row in rows if "val/loss" in row]
    summary = found["summary"]
    assert summary["best/val/loss"] == pytest.approx(min(losses))
    assert summary["best/epoch"] == losses.index(min(losses))
    assert summary["parameters"] > 0


def test_media_and_checkpoints_are_there(offline):
    records, found = offline
    assert found["summary"]["samples"]["ncols"] == 3
    kept = [record["artifact"] for record in records if record.get("artifact", {}).get("type") == "model"]
    (model,) = kept
    assert {each["path"] for each in model["manifest"]["contents"]} == {"best.ckpt", "last.ckpt"}
    assert json.loads(model["metadata"])["monitor"] == "val/loss"


def test_the_sweep_drives_fit(monkeypatch, tmp_path):
    sweep = yaml.safe_load((ROOT / "scripts" / "sweep_wandb.yaml").read_text())
    drawn = {
        name: each["values"][0] if "values" in each else (each["min"] + each["max"]) / 2
        for name, each in sweep["parameters"].items()
    }
    # As wandb_agent.py fills in its macros.
    filled = {"${env}": [], "${args}": [f"--{name}={value}" for name, value in drawn.items()]}
    command = [word for part in sweep["command"] for word in filled.get(part, [part])]
    assert command[0] == sweep["program"] == "hybridgen"
    monkeypatch.chdir(tmp_path)
    built = training_cli(command[1:], cli=_Checking, parser=_Raising)
    assert built.model.hparams.stack["hidden_size"] == 64
    assert built.model.hparams.stack["output_dropout"] == 0.2
    assert built.model.hparams.stack["cell"] == "lstm"
    assert built.model.hparams.learning_rate == pytest.approx(0.01025)
    assert built.config.fit.wandb == "online"
