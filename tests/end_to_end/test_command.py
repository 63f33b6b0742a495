"""The command `hybridgen`, as a user runs it: once in a process of its own, otherwise by its function `main`."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from command_line import hybridgen

from hybridgen.cli import main

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "experiments" / "language_model" / "embedded.yaml"
DYNAMIC = ["--dynamic_learning_rate"]
SMALL = [
    "--trainer.limit_train_batches",
    "8",
    "--trainer.log_every_n_steps",
    "4",
    "--trainer.limit_val_batches",
    "1",
]


def process(*arguments, cwd, **environment):
    """The command in a process of its own."""
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
    finished = process("fit", "--config", CONFIG, "--trainer.max_epochs", 1, "--wandb", "offline", *SMALL, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    (line,) = [line for line in finished.stdout.splitlines() if line.startswith("epoch 0")]  # no terminal: no bar
    assert "tokens/s" in line
    assert "end in 0:00" in line
    assert "train/loss" in line
    return folder / "runs" / "embedded" / "0"


def test_a_run_folder_holds_everything(run):
    assert {"config.yaml", "checkpoints", "metrics.csv", "samples", "wandb"} <= {p.name for p in run.iterdir()}
    assert {p.name for p in (run / "checkpoints").glob("*.ckpt")} == {"last.ckpt", "best.ckpt"}
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
    config = json.loads(inspected.stdout)["config"]
    config = config if "configuration" in config else json.loads(config)
    written = config["configuration"]
    written = written.get("value", written)
    assert written["model"]["class_path"] == "hybridgen.models.LanguageModel"
    assert written["data"]["init_args"]["source"] == "embedded"
    assert written["trainer"]["max_epochs"] == 1
    assert written["seed_everything"] == 0
    assert {"argv", "versions", "git"} <= set(config)
    assert list(offline.glob("files/media/table/*.json"))


def test_learning_curves_are_drawn_against_tokens(run):
    (offline,) = (run / "wandb").glob("offline-run-*")
    wandb = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(offline)]
    records = subprocess.run(wandb, capture_output=True, text=True, timeout=60)
    assert records.returncode == 0, records.stderr
    defined = [record["metric"] for record in map(json.loads, records.stdout.splitlines()) if "metric" in record]
    axes = {metric.get("glob_name"): metric.get("step_metric") for metric in defined}
    assert axes["train/*"] == axes["val/*"] == "train/tokens_seen"


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


@pytest.mark.parametrize(("command", "said"), [([], "sample"), (["fit"], "--resume"), (["test"], "--ckpt_path")])
def test_help_answers_at_once_without_torch(command, said, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('help imported torch')")
    # What takes long is importing torch, and this one stops the process.
    finished = process(*command, "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.splitlines()) < 32
    assert said in finished.stdout


def test_the_short_help_names_options_that_there_are(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--help_all"])
    known = set(re.findall(r"--([\w.]+)", capsys.readouterr().out)) | {"predictions"}
    for command in ("fit", "validate", "test", "predict"):
        assert main([command, "--help"]) == 0
        named = set(re.findall(r"--([a-z_]+)(?![\w.])", capsys.readouterr().out))
        assert named - known <= {"ckpt_path", "help_all", "print_config"}, command


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fti"], "did you mean 'fit'"),
        (["fit", "--config", CONFIG, "--trainer.max_eppochs", "1"], "did you mean 'trainer.max_epochs'"),
        (["fit", "--config", CONFIG, "--runs", "latin.txt"], "cannot be made"),
        (["fit", "--config", CONFIG, "--model.init_args.optimizer", "sgdd"], "did you mean 'sgd'"),
        (["fit", "--config", CONFIG, "--model.init_args.schedule_options", '{"after": 3}'], "has no option 'after'"),
        (["fit", "--config", CONFIG, "--data.source", "latin.txt"], "--data.errors replace"),
        (["fit", "--config", CONFIG, "--data.source", "lanes.txt"], "fewer than the 32 lanes"),
        (["predict", "--config", CONFIG], "predict takes a trained model: give --ckpt_path"),
        (["test", "--config", CONFIG], "test takes a trained model: give --ckpt_path"),
        (["validate", "--config", CONFIG], "validate takes a trained model: give --ckpt_path"),
        (["fit", "--config", CONFIG, "--seed_everything", "-1"], "--seed_everything is -1: give a whole number of at"),
        (["fit", "--config", CONFIG, "--seed_everything", "4294967296"], "--seed_everything is 4294967296: give"),
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
        (["sample", "--ckpt", "x", "--temperature", "-1"], "temperature must be above 0"),
        (["sample", "--ckpt", "x", "--top_p", "1.5"], "top_p"),
        (["sample", "--ckpt", "x", "--top_p", "0"], "top_p"),
        (["sample", "--ckpt", "x", "--num_samples", "0"], "num_samples is 0"),
        (["sample", "--ckpt", "x", "--temprature", "1"], "did you mean '--temperature'"),
        (["sample", "--ckpt", "x", "--prompt_file", "nothing"], "there is no file nothing"),
        (["score", "--ckpt", "x", "nothing.txt"], "there is no file nothing.txt"),
        (["score", "--ckpt", "x"], "either a FILE or --config"),
        (["score", "--ckpt", "x", "short.txt", "--part", "test"], "--part is of"),
        (["score", "--ckpt", "x", "short.txt", "--window", "0"], "--window is 0"),
        (["score", "--ckpt", "x", "short.txt", "--dynamic_rule", "rms"], "give --dynamic_learning_rate"),
        (
            ["score", "--ckpt", "x", "short.txt", "--dynamic_rule", "rms", "--dynamic_learning_rate", "1"],
            "on the training text",
        ),
        (["score", "--ckpt", "x", "short.txt", "--cache_widow", "5"], "did you mean '--cache_window'"),
        (
            ["score", "--ckpt", "x", "short.txt", "--cache_window", "0"],
            "--cache_window is 0: give a number of at least 1",
        ),
        (["score", "--ckpt", "x", "short.txt", "--cache_theta", "nan"], "--cache_theta is nan: give a number of"),
        (["score", "--ckpt", "x", "short.txt", *DYNAMIC, "nan"], "--dynamic_learning_rate is nan: give a number of"),
        (
            ["score", "--ckpt", "x", "short.txt", *DYNAMIC, "1", "--dynamic_segment", "0"],
            "--dynamic_segment is 0: give",
        ),
        (["score", "--ckpt", "x", "short.txt", *DYNAMIC, "1", "--dynamic_epsilon", "1"], "--dynamic_epsilon is of the"),
        (
            ["score", "--ckpt", "x", "short.txt", *DYNAMIC, "1", "--training_text", "short.txt"],
            "--training_text is of the",
        ),
        (["score", "--ckpt", "x", "short.txt", "--out", "."], "--out: . is a folder: give the path of a file"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes("caf\xe9 au lait\n".encode("latin-1") * 100)
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "lanes.txt").write_text("a line\n" * 4)
    assert sentence in mistake(
        hybridgen(*arguments, "--wandb", "off", cwd=tmp_path)
        if arguments[0] == "fit"
        else hybridgen(*arguments, cwd=tmp_path)
    )


def test_mistakes_about_a_real_checkpoint(run, tmp_path):
    ckpt = run / "checkpoints" / "best.ckpt"
    (tmp_path / "latin.txt").write_bytes("caf\xe9 au lait\n".encode("latin-1"))
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "strange.txt").write_text("ab 漢\n")
    assert "U+6F22" in mistake(hybridgen("sample", "--ckpt", ckpt, "--prompt", "漢", cwd=tmp_path))
    assert "there is no folder" in mistake(hybridgen("sample", "--ckpt", ckpt, "--out", "no/where.jsonl", cwd=tmp_path))
    for place, message in (("no/where.jsonl", "there is no folder"), (".", "is a folder")):
        options = ["--config", CONFIG, "--ckpt_path", ckpt, "--predictions", place]
        assert message in mistake(hybridgen("predict", *options, cwd=tmp_path))
    assert "at offset 3" in mistake(hybridgen("score", "--ckpt", ckpt, "latin.txt", cwd=tmp_path))
    assert "is empty" in mistake(hybridgen("score", "--ckpt", ckpt, "empty.txt", cwd=tmp_path))
    assert "U+6F22" in mistake(hybridgen("score", "--ckpt", ckpt, "strange.txt", cwd=tmp_path))
    assert "no configuration with data" in mistake(
        hybridgen("score", "--ckpt", ckpt, "--config", "strange.txt", cwd=tmp_path)
    )
    assert "interpolation is 1" in mistake(
        hybridgen("score", "--ckpt", ckpt, CONFIG, "--cache_interpolation", 1, cwd=tmp_path)
    )


def test_a_checkpoint_of_another_model(tmp_path):
    torch.save({"hybridgen_model": "Oracle", "options": {}, "codec": {}, "state_dict": {}}, tmp_path / "other.ckpt")
    torch.save({"weights": torch.ones(2)}, tmp_path / "foreign.ckpt")
    (tmp_path / "a.txt").write_text("a text")
    for command in (["sample"], ["score", "a.txt"]):
        other = mistake(hybridgen(*command, "--ckpt", "other.ckpt", cwd=tmp_path))
        assert "holds a Oracle, which this version of hybridgen does not know" in other
        foreign = mistake(hybridgen(*command, "--ckpt", "foreign.ckpt", cwd=tmp_path))
        assert "is no checkpoint of a hybridgen model" in foreign


# Scores by every protocol -----------------------------------------------------------------------------------------

#: Two of them are more than words to a reader of YAML.
WORDS = "the cat sat on a mat and the dog ran off while some bird sang of rain and wind over an old mill 10: {1}"
DATA = """
model:
  class_path: hybridgen.models.LanguageModel
  init_args:
    stack: {cell: gru, hidden_size: 16, num_layers: 1}
    embedding_size: 16
    optimizer: sgd
    learning_rate: 1.0
    schedule: step
    warmup_steps: 0
data:
  class_path: hybridgen.data.TextData
  init_args: {source: SOURCE, codec: words, batch_size: 4, bptt: 10, cold_windows: [7]}
trainer: {max_epochs: 2, accelerator: cpu, enable_progress_bar: false}
"""


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A folder with a text of lines of words and a small model of it."""
    folder = tmp_path_factory.mktemp("words")
    draw = random.Random(0)
    for part, lines in (("train", 120), ("valid", 20), ("test", 25)):
        text = [" ".join(draw.choices(WORDS.split(), k=draw.randint(3, 9))) for _ in range(lines)]
        (folder / f"{part}.txt").write_text("\n".join(text) + "\n")
    (folder / "words.yaml").write_text(DATA.replace("SOURCE", str(folder)))
    finished = hybridgen("fit", "--config", "words.yaml", "--wandb", "off", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    run = folder / "runs" / "words" / "0"
    return folder, run / "config.yaml", run / "checkpoints" / "best.ckpt"


def rows_of(finished):
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_score_and_test_agree_and_every_row_names_its_protocol(words):
    folder, config, ckpt = words
    tested = hybridgen("test", "--config", config, "--ckpt_path", ckpt, cwd=folder)
    assert tested.returncode == 0, tested.stderr
    cells = (re.findall(r"(test/\w+)\s+│?\s*([\d.]+)", tested.stdout)) or []
    logged = {name: float(value) for name, value in cells}
    everything = ["--window", 7, "--cache_window", 50, "--cache_theta", 0.5, "--dynamic_learning_rate", 0.01]
    rms = ["--dynamic_rule", "rms", "--dynamic_decay", 0.002, "--out", "tokens.jsonl"]
    rows = rows_of(
        hybridgen("score", "--ckpt", ckpt, "--config", config, "--part", "test", *everything, *rms, cwd=folder)
    )
    static, cold, cache, dynamic = rows
    assert static["protocol"] == "static, carried state"
    assert cold["protocol"] == "cold windows of 7"
    assert cache["protocol"] == "carried state, neural cache (window 50, theta 0.5, lambda 0.1)"
    assert dynamic["protocol"] == (
        "carried state, dynamic evaluation (RMS, learning rate 0.01, decay 0.002, segments of 5)"
    )
    assert static["nats_per_token"] == pytest.approx(logged["test/nats_carried"], abs=1e-4)
    assert static["perplexity"] == pytest.approx(logged["test/perplexity"], rel=1e-4)
    assert static["bits_per_byte"] == pytest.approx(logged["test/bits_per_byte"], abs=1e-4)
    assert cold["nats_per_token"] == pytest.approx(logged["test/nats_cold7"], abs=1e-4)
    text = (folder / "test.txt").read_text()
    expected = len(text.split()) + text.count("\n")  # every word and every <eos>
    assert {row["tokens"] for row in rows} == {expected}
    assert len({row["nats"] for row in rows}) == 4
    tokens = [json.loads(line) for line in (folder / "tokens.jsonl").read_text().splitlines()]
    assert sum(row["nats"] for row in tokens) == pytest.approx(static["nats"], rel=1e-5)
    of_file, by_sgd = rows_of(
        hybridgen("score", "--ckpt", ckpt, "test.txt", "--dynamic_learning_rate", 0.01, cwd=folder)
    )
    drop = ("seconds",)
    assert {k: v for k, v in of_file.items() if k not in drop} == {k: v for k, v in static.items() if k not in drop}
    assert "(SGD," in by_sgd["protocol"]
    given = ["--dynamic_learning_rate", 0.01, "--dynamic_rule", "rms", "--dynamic_decay", 0.002]
    again = rows_of(hybridgen("score", "--ckpt", ckpt, "test.txt", *given, "--training_text", "train.txt", cwd=folder))
    assert again[1]["nats"] == pytest.approx(dynamic["nats"], rel=1e-6)


def test_score_reads_bytes_that_are_not_text_on_request(words):
    folder, _, ckpt = words
    (folder / "latin.txt").write_bytes("the caf\xe9 sat\n".encode("latin-1"))
    (row,) = rows_of(hybridgen("score", "--ckpt", ckpt, "latin.txt", "--errors", "replace", cwd=folder))
    assert row["tokens"] == 4


def test_predict_writes_a_row_for_each_piece_of_the_text(words):
    folder, config, ckpt = words
    chunks = ["--data.evaluation_bptt", 30, "--predictions", "p.jsonl"]
    finished = hybridgen("predict", "--config", config, "--ckpt_path", ckpt, *chunks, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    rows = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()]
    (static,) = rows_of(hybridgen("score", "--ckpt", ckpt, "test.txt", cwd=folder))
    assert f"{len(rows)} predictions written to p.jsonl" in finished.stderr
    assert sum(row["tokens"] for row in rows) == static["tokens"]
    assert sum(row["nats"] for row in rows) == pytest.approx(static["nats"], rel=1e-5)
    assert [row["position"] for row in rows] == [1 + 30 * i for i in range(len(rows))]
    lines = ["--data.layout", "lines", "--data.cold_windows", "null", "--predictions", "lines.jsonl"]
    finished = hybridgen("predict", "--config", config, "--ckpt_path", ckpt, *lines, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    rows = [json.loads(line) for line in (folder / "lines.jsonl").read_text().splitlines()]
    by_place = sorted(rows, key=lambda row: row["position"])
    assert "".join(row["text"] for row in by_place) == (folder / "test.txt").read_text()
    assert not list(folder.glob(".*.partial"))
