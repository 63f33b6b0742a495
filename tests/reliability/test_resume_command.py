"""`hybridgen fit --resume`, killed by every signal, through the real command."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import hybridgen
from harness import bits
from small_command import fit, mistake, write_config

from hybridgen import models
from hybridgen.models import LanguageModel
from hybridgen.reliability import saving
from hybridgen.reliability.verify import read, verify
from hybridgen.tracking.record import read_record

ROOT = Path(__file__).parents[2]
#: The command, sending itself a signal in the training step of a batch.
SIGNALLED = """
import os, sys
from hybridgen.models import LanguageModel
from hybridgen.cli import main
plain = LanguageModel.training_step
def step(self, batch, batch_index):
    if self.global_step == {batch}:
        os.kill(os.getpid(), {signal})
    return plain(self, batch, batch_index)
LanguageModel.training_step = step
sys.exit(main(sys.argv[1:]))
"""


def signalled(batch, number, *arguments, cwd):
    """`hybridgen fit` in a process of its own, which gets a signal in a batch."""
    program = SIGNALLED.format(batch=batch, signal=int(number))
    config = ["fit", "--config", str(cwd / "small.yaml"), "--wandb", "off", *map(str, arguments)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *config]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=240)


@pytest.fixture
def signal_in(monkeypatch):
    """Have the next training in this process get a signal in a batch."""
    plain = LanguageModel.training_step

    def arrange(batch, number):
        def step(self, batch_, index):
            if self.global_step == batch:
                os.kill(os.getpid(), number)
            return plain(self, batch_, index)

        monkeypatch.setattr(LanguageModel, "training_step", step)

    return arrange


def table(run):
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_training(run, other):
    """The same numbers logged, and the same last checkpoint of weights and optimiser."""
    assert table(run) == table(other)
    one, two = (read(folder / "checkpoints" / "last.ckpt") for folder in (run, other))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        assert bits(one[part]) == bits(two[part]), part
    assert bits(one["hybridgen_resume"]["ranks"]) == bits(two["hybridgen_resume"]["ranks"])
    assert bits(read(run / "checkpoints" / "best.ckpt")["state_dict"]) == bits(
        read(other / "checkpoints" / "best.ckpt")["state_dict"]
    )


def test_a_monitor_that_nothing_logs_costs_no_training(trained, tmp_path):
    shutil.copy(trained / "small.yaml", tmp_path / "small.yaml")
    with pytest.warns(UserWarning, match=r"--monitor is val/nope, which the check before .*\(.*val/loss"):
        sentence = mistake(fit("--monitor", "val/nope", cwd=tmp_path))
    assert "--monitor is val/nope, which nothing logs: give one of " in sentence
    assert "val/loss" in sentence
    run = tmp_path / "runs" / "small" / "0"
    assert sentence.endswith(f"go on from {run / 'checkpoints' / 'last.ckpt'} by --resume")
    assert [path.name for path in (run / "checkpoints").glob("*.ckpt")] == ["last.ckpt"]
    assert read(run / "checkpoints" / "last.ckpt")["epoch"] == 0
    assert read_record(run)["state"] == "failed"
    again = fit("--resume", run, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    one, two = (read(folder / "checkpoints" / "last.ckpt") for folder in (run, trained / "runs" / "small" / "0"))
    assert bits(one["state_dict"]) == bits(two["state_dict"])


def test_killed_stopped_and_interrupted_it_is_the_same_training(trained, signal_in, tmp_path):
    write_config(tmp_path)
    shutil.copy(trained / "small.yaml", tmp_path / "small.yaml")  # the same text, from the same place
    options = ("--resume", "auto", "--save_every_batches", 3)
    run = tmp_path / "runs" / "small" / "0"

    killed = signalled(6, signal.SIGKILL, *options, cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "there is no run of small with a checkpoint" in killed.stderr
    assert read(run / "checkpoints" / "last.ckpt")["global_step"] == 6  # of 8 batches of the epoch
    (run / "checkpoints" / ".last.ckpt.123.partial").write_text("what a save that was killed leaves")

    signal_in(9, signal.SIGTERM)
    stopped = fit(*options, cwd=tmp_path)
    assert stopped.returncode == 143, stopped.stderr
    assert "going on with runs/small/0" in stopped.stderr
    assert "stopped by SIGTERM: saved runs/small/0/checkpoints/last.ckpt, go on from it" in stopped.stderr
    assert not [*(run / "checkpoints").glob(".*")]
    assert read_record(run)["state"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    signal_in(15, signal.SIGINT)  # the last batch of an epoch, before its validation
    assert fit(*options, cwd=tmp_path).returncode == 130
    assert read(run / "checkpoints" / "last.ckpt")["hybridgen_resume"]["place"] == "validation due"

    signal_in(None, None)
    assert fit(*options, cwd=tmp_path).returncode == 0
    assert_same_training(run, trained / "runs" / "small" / "0")
    assert [path.name for path in run.parent.iterdir()] == ["0"]

    again = fit(*options, "--trainer.max_epochs", 3, "--trainer.fast_dev_run", "true", cwd=tmp_path)
    assert "runs/small/0 is finished: a new run" in again.stderr


OTHERS = {
    "TextVAE": """
model:
  class_path: hybridgen.models.TextVAE
  init_args:
    encoder: &stack {cell: gru, hidden_size: 6, num_layers: 1}
    decoder: *stack
    embedding_size: 4
    latent_size: 2
    kl: {schedule: {kind: cyclical, steps: 12}}
    aggressive: {window: 2}
    monitor_sentences: 4
data:
  class_path: hybridgen.data.TextData
  init_args: {source: SOURCE, cache_dir: SOURCE/cache, layout: lines, codec: words, batch_size: 2, valid_batch_size: 2}
""",
    "VariationalRNN": """
model:
  class_path: hybridgen.models.VariationalRNN
  init_args: {latent_size: 2, stack: {cell: gru, hidden_size: 6, num_layers: 1}, evaluation_particles: 1}
data:
  class_path: hybridgen.data.PianoRollData
  init_args: {source: embedded, batch_size: 2, max_length: 6}
""",
    "SequenceGAN": """
model:
  class_path: hybridgen.models.SequenceGAN
  init_args:
    stack: {cell: gru, hidden_size: 6, num_layers: 1}
    hidden_size: 6
    code_size: 3
    autoencoder_steps: 3  # the first epoch: what is not logged any more stands in the table till the end of an epoch
    latent_updates: 2
data:
  class_path: hybridgen.data.SeriesData
  init_args: {source: sines, num_series: 32, length: 5, num_features: 2, batch_size: 8}
""",
}
TRAINER = """
trainer: {max_epochs: 2, limit_train_batches: 3, limit_val_batches: 1, accelerator: cpu, log_every_n_steps: 1}
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_models_go_on_exactly_with_all_that_the_command_adds(name, tmp_path, monkeypatch):
    write_config(tmp_path)
    (tmp_path / "small.yaml").write_text((OTHERS[name] + TRAINER).replace("SOURCE", str(tmp_path)))
    cls = getattr(models, name)
    plain, signals = cls.training_step, {}

    def step(self, batch, index):
        if self.global_step in signals:
            os.kill(os.getpid(), signals.pop(self.global_step))
        return plain(self, batch, index)

    monkeypatch.setattr(cls, "training_step", step)
    quiet = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false")
    assert fit(*quiet, "--name", "whole", cwd=tmp_path).returncode == 0
    options = (*quiet, "--name", "stopped", "--resume", "auto")
    signals |= {1: signal.SIGTERM, 4: signal.SIGINT}
    assert [fit(*options, cwd=tmp_path).returncode for _ in range(3)] == [143, 130, 0]
    assert_same_training(*(tmp_path / "runs" / run / "0" for run in ("stopped", "whole")))


@pytest.mark.slow
def test_signals_from_outside(tmp_path):
    write_config(tmp_path)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        name = signal.Signals(number).name
        assert signalled(4, number, "--name", name, cwd=tmp_path).returncode == code
        assert read(tmp_path / "runs" / name / "0" / "checkpoints" / "last.ckpt")["global_step"] == 5


@pytest.mark.slow
def test_a_second_signal_ends_the_process_at_once(tmp_path):
    write_config(tmp_path)
    program = SIGNALLED.replace(
        "os.kill(os.getpid(), {signal})",
        "os.kill(os.getpid(), 15); import time; time.sleep(2.1); os.kill(os.getpid(), 2)",
    )
    config = ["fit", "--config", "small.yaml", "--wandb", "off"]
    command = [sys.executable, "-c", program.format(batch=4), *config]
    finished = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert finished.returncode == 130
    assert not (tmp_path / "runs" / "small" / "0" / "checkpoints" / "last.ckpt").exists()


def test_a_signal_without_checkpoints(signal_in, tmp_path):
    write_config(tmp_path)
    signal_in(3, signal.SIGTERM)
    stopped = fit("--trainer.enable_checkpointing", "false", cwd=tmp_path)
    assert stopped.returncode == 143
    assert "stopped by SIGTERM: nothing was saved" in stopped.stderr


@pytest.mark.parametrize("keeps", [True, False], ids=["checkpoints", "none"])
def test_a_signal_within_a_long_validation_does_not_wait_for_its_end(keeps, trained, tmp_path, monkeypatch):
    write_config(tmp_path)
    monkeypatch.setattr(saving, "_PATIENCE", 0)  # all of them are long
    plain, seen = LanguageModel.validation_step, []

    def step(self, batch, index):
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking and self.current_epoch == 1:
            seen.append(index)
            if index == 0:
                os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, batch, index)

    monkeypatch.setattr(LanguageModel, "validation_step", step)
    stopped = fit("--trainer.enable_checkpointing", str(keeps).lower(), cwd=tmp_path)
    assert stopped.returncode == 143, stopped.stderr
    assert seen == [0]
    if not keeps:
        assert "nothing was saved" in stopped.stderr
        return
    assert "go on from it with --resume auto" in stopped.stderr
    monkeypatch.setattr(LanguageModel, "validation_step", plain)
    finished = fit("--resume", "auto", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert_same_training(tmp_path / "runs" / "small" / "0", trained / "runs" / "small" / "0")


def test_what_is_changed_is_told_and_holds(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "copy")
    folder = tmp_path / "copy"
    run = folder / "runs" / "small" / "0"
    before = table(run)
    changes = ("--model.learning_rate", 0.03, "--model.weight_decay", 0.5, "--trainer.max_epochs", 4)
    # No --config: that of the run is taken.
    finished = hybridgen("fit", "--wandb", "off", "--resume", "runs/small/0", *changes, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    for line in (
        "model.learning_rate: 0.003 -> 0.03",
        "model.weight_decay: 0.01 -> 0.5",
        "trainer.max_epochs: 3 -> 4",
    ):
        assert f"  {line}\n" in finished.stderr
    after = table(run)
    assert after[: len(before)] == before
    assert {row["epoch"] for row in after[len(before) :]} == {"3"}
    (optimizer,) = read(run / "checkpoints" / "last.ckpt")["optimizer_states"]
    assert {group["initial_lr"] for group in optimizer["param_groups"]} == {0.03}
    assert {group["weight_decay"] for group in optimizer["param_groups"]} == {0.5, 0.0}
    # The end of the cosine, which was at the end of epoch 3 and is at that of epoch 4 now.
    assert {round(group["lr"], 6) for group in optimizer["param_groups"]} == {0.05 * 0.03}
    assert (run / "config-0.yaml").read_text().count("learning_rate: 0.003") == 1
    assert "learning_rate: 0.03" in (run / "config.yaml").read_text()
    assert "resume: never" in (run / "config.yaml").read_text()
    assert "\nname: small\n" in (run / "config.yaml").read_text()
    # It has the name of the run, not its own: config.
    again = hybridgen("fit", "--config", "runs/small/0/config.yaml", "--trainer.max_epochs", 1, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert (folder / "runs" / "small" / "1" / "config.yaml").is_file()
    assert not (folder / "runs" / "config").exists()


def test_going_back_to_an_earlier_checkpoint_loses_nothing(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "copy")
    run = tmp_path / "copy" / "runs" / "small" / "0"
    checkpoints = run / "checkpoints"
    last, before = (checkpoints / "last.ckpt").read_bytes(), table(run)
    earlier = read(checkpoints / "previous.ckpt")["global_step"]
    finished = fit("--resume", checkpoints / "previous.ckpt", cwd=tmp_path / "copy")
    assert finished.returncode == 0, finished.stderr
    assert "what the run did after it is kept" in finished.stderr
    assert (checkpoints / "last-0.ckpt").read_bytes() == last
    assert verify(checkpoints / "last-0.ckpt") == verify(checkpoints / "last.ckpt") == "sha256"
    assert (
        0 < earlier < read(checkpoints / "last.ckpt")["global_step"] == read(checkpoints / "last-0.ckpt")["global_step"]
    )
    assert_same_training(run, trained / "runs" / "small" / "0")  # nothing was changed, so it is the same again
    with (run / "metrics-0.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == before


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--model.stack.hidden_size", 8), "model.stack.hidden_size was 6 and is 8"),
        (("--model.tie_weights", "false"), "model.tie_weights was True and is False"),
        (("--model.optimizer", "sgd"), "model.optimizer was adamw and is sgd"),
        (("--model.schedule", "plateau"), "model.schedule was cosine and is plateau"),
        (("--data.codec", "bytes"), "the data's codec is not the one"),
        (("--resume", "runs/nothing"), "there is no checkpoint at runs/nothing"),
        (("--ckpt_path", "runs/small/0/checkpoints/best.ckpt"), "--resume and --ckpt_path are both given"),
    ],
)
def test_what_cannot_change_is_one_sentence(option, sentence, trained):
    run = trained / "runs" / "small" / "0"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "run.json"}
    found = mistake(fit("--resume", "runs/small/0", "--trainer.max_epochs", 4, *option, cwd=trained))
    assert sentence in found
    assert {path: path.read_bytes() for path in before} == before


def test_another_division_of_the_data_within_an_epoch(signal_in, tmp_path):
    write_config(tmp_path)
    signal_in(3, signal.SIGTERM)
    assert fit(cwd=tmp_path).returncode == 143
    signal_in(None, None)
    found = mistake(fit("--resume", "auto", "--data.batch_size", 2, cwd=tmp_path))
    assert "in the middle of an epoch" in found or "from the middle of an epoch with lanes=4 but now lanes=2" in found
    assert "data.batch_size times the number of processes" in found


def test_a_run_folder_is_for_one_training(trained):
    from hybridgen.reliability.run_choice import lock, unlock

    lock(trained / "runs" / "small" / "0")
    try:
        found = mistake(fit("--resume", "runs/small/0", "--trainer.max_epochs", 4, cwd=trained))
    finally:
        unlock()
    assert f"is in use by process {os.getpid()}" in found


def test_a_checkpoint_may_start_a_new_run(trained, tmp_path):
    checkpoint = trained / "runs" / "small" / "0" / "checkpoints" / "best.ckpt"
    finished = fit("--ckpt_path", checkpoint, "--runs", tmp_path, "--trainer.max_epochs", 4, cwd=trained)
    assert finished.returncode == 0, finished.stderr
    assert f"starting a new run from {checkpoint}" in finished.stderr
    assert "trainer.max_epochs: 3 -> 4" in finished.stderr
    rows = table(tmp_path / "small" / "0")
    assert {row["epoch"] for row in rows} == {"3"}


def test_weights_are_those_of_the_average_and_training_goes_on_with_its_own(trained, tmp_path):
    """The diary of an averaged training is in test_exact_resume; here, that its checkpoint evaluates the average."""
    write_config(tmp_path)
    averaged = ("--trainer.callbacks+", "hybridgen.tracking.averaging.ExponentialAveraging")
    assert fit(*averaged, "--trainer.max_epochs", 1, cwd=tmp_path).returncode == 0
    contents = read(tmp_path / "runs" / "small" / "0" / "checkpoints" / "last.ckpt")
    own = contents["current_model_state"]
    assert not torch.equal(contents["state_dict"]["embedding.weight"], own["embedding.weight"])
