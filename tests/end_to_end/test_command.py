"""The command `hybridgen` in processes of its own, as a user runs it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "experiments" / "language_model" / "embedded.yaml"
SMALL = [
    "--trainer.limit_train_batches",
    "8",
    "--trainer.log_every_n_steps",
    "4",
    "--trainer.limit_val_batches",
    "1",
    "--trainer.enable_progress_bar",
    "false",
]


def hybridgen(*arguments, cwd, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")} | {"OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-m", "hybridgen", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=240)


def mistake(finished):
    """The one sentence of a user's mistake; never a stack trace."""
    assert finished.returncode == 2, finished.stderr
    assert "Traceback" not in finished.stderr
    last = finished.stderr.strip().splitlines()[-1]
    assert last.startswith("hybridgen: error: ")
    return last


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of a short training."""
    folder = tmp_path_factory.mktemp("fit")
    finished = hybridgen("fit", "--config", CONFIG, "--trainer.max_epochs", 1, "--wandb", "offline", *SMALL, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder / "runs" / "embedded" / "0"


def test_a_run_folder_holds_everything(run):
    assert {"config.yaml", "checkpoints", "metrics.csv", "samples", "wandb"} <= {p.name for p in run.iterdir()}
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "val/loss", "val/perplexity", "val/bits_per_byte", "train/tokens_seen"} <= set(header)
    assert (run / "samples" / "epoch-000.txt").read_text().strip()
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["class_path"].endswith("LanguageModel")


def test_offline_wandb_files_hold_configuration_and_samples(run):
    (offline,) = (run / "wandb").glob("offline-run-*")
    inspected = subprocess.run(
        [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--summary", "--json", str(offline)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert inspected.returncode == 0, inspected.stderr
    assert '"val/loss"' in inspected.stdout
    assert "hybridgen.models.LanguageModel" in inspected.stdout
    assert list(offline.glob("files/media/table/*.json"))


def test_the_saved_configuration_trains_and_tests_again(run, tmp_path):
    config = run / "config.yaml"
    again = hybridgen(
        "fit", "--config", config, "--name", "again", "--runs", tmp_path / "runs", "--wandb", "off", cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr
    first, second = ((r / "metrics.csv").read_text() for r in (run, tmp_path / "runs" / "again" / "0"))
    assert first == second  # same seed, same numbers
    ckpt = run / "checkpoints" / "best.ckpt"
    tested = hybridgen("test", "--config", config, "--ckpt_path", ckpt, "--trainer.limit_test_batches", 2, cwd=tmp_path)
    assert tested.returncode == 0, tested.stderr
    assert "test/nats_carried" in tested.stdout


def test_sample(run, tmp_path):
    ckpt = run / "checkpoints" / "best.ckpt"
    options = ["--prompt", "The ", "--num_samples", 3, "--max_new_tokens", 20, "--top_k", 20, "--seed", 5]
    finished = hybridgen("sample", "--ckpt", ckpt, *options, "--out", "s.jsonl", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [row["sample"] for row in rows] == [0, 1, 2]
    assert all(row["prompt"] == "The " and row["tokens"] == 20 and row["nats"] > 0 for row in rows)
    alone = hybridgen("sample", "--ckpt", ckpt, *[o if o != 3 else 1 for o in options], cwd=tmp_path)
    assert alone.stdout == "The " + rows[0]["text"] + "\n"
    beams = hybridgen(
        "sample", "--ckpt", ckpt, "--prompt", "The ", "--num_beams", 2, "--max_new_tokens", 5, cwd=tmp_path
    )
    assert beams.returncode == 0, beams.stderr


def test_the_python_script_does_the_same(run, tmp_path):
    script = ROOT / "scripts" / "generate_text.py"
    command = [sys.executable, str(script), str(run / "checkpoints" / "best.ckpt"), "The "]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("nats]") == 3
    assert "most probable: The " in finished.stdout


def test_score(run, tmp_path):
    (tmp_path / "text.txt").write_text("The statement is a list of names.\n")
    ckpt = run / "checkpoints" / "best.ckpt"
    finished = hybridgen("score", "--ckpt", ckpt, "text.txt", "--out", "tokens.jsonl", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    score = json.loads(finished.stdout)
    rows = [json.loads(line) for line in (tmp_path / "tokens.jsonl").read_text().splitlines()]
    assert score["tokens"] == len(rows) == 33
    assert sum(row["nats"] for row in rows) / 33 == pytest.approx(score["nats_per_token"], rel=1e-5)


def test_help_answers_at_once_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('help imported torch')")
    start = time.monotonic()
    finished = hybridgen("--help", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.splitlines()) < 30
    assert "sample" in finished.stdout
    assert time.monotonic() - start < 30  # it takes a tenth of a second; the point is what it does not import


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fti"], "did you mean 'fit'"),
        (["fit", "--config", "nothing.yaml"], "nothing.yaml"),
        (["fit", "--config", CONFIG, "--model.init_args.learning_rat", "1"], "did you mean 'learning_rate'"),
        (["fit", "--config", CONFIG, "--model.init_args.learning_rate", "high"], "high"),
        (["fit", "--config", CONFIG, "--model.init_args.stack", '{"cell": "lstmm"}'], "did you mean 'lstm'"),
        (["fit", "--config", CONFIG, "--data.init_args.source", "/nowhere"], "/nowhere"),
        (["fit", "--config", CONFIG, "--data.init_args.source", "empty.txt"], "empty.txt"),
        (["fit", "--config", CONFIG, "--data.init_args.source", "latin.txt"], "offset 3"),
        (["fit", "--config", CONFIG, "--data.init_args.source", "short.txt"], "too short"),
        (["data", "pbt"], "did you mean 'ptb'"),
        (["data", "ptb", "--from", "/nowhere"], "/nowhere"),
        (["sample", "--ckpt", "nothing.ckpt"], "there is no checkpoint at nothing.ckpt"),
        (["sample", "--ckpt", "latin.txt"], "is no checkpoint"),
        (["sample", "--ckpt", "x", "--temperature", "0"], "temperature must be above 0"),
        (["sample", "--ckpt", "x", "--top_p", "1.5"], "top_p"),
        (["sample", "--ckpt", "x", "--num_samples", "0"], "num_samples is 0"),
        (["sample", "--ckpt", "x", "--temprature", "1"], "did you mean '--temperature'"),
        (["sample", "--ckpt", "x", "--prompt_file", "nothing"], "there is no file nothing"),
        (["score", "--ckpt", "x", "nothing.txt"], "there is no file nothing.txt"),
        (["score", "--ckpt", "x", "latin.txt"], "not UTF-8 at byte 3"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes("caf\xe9 au lait\n".encode("latin-1") * 100)
    (tmp_path / "short.txt").write_text("too short")
    assert sentence in mistake(
        hybridgen(*arguments, "--wandb", "off", cwd=tmp_path)
        if arguments[0] == "fit"
        else hybridgen(*arguments, cwd=tmp_path)
    )


def test_mistakes_about_a_real_checkpoint(run, tmp_path):
    ckpt = run / "checkpoints" / "best.ckpt"
    assert "U+6F22" in mistake(hybridgen("sample", "--ckpt", ckpt, "--prompt", "漢", cwd=tmp_path))
    assert "there is no folder" in mistake(hybridgen("sample", "--ckpt", ckpt, "--out", "no/where.jsonl", cwd=tmp_path))
