"""A small model to train by the command."""

from command_line import hybridgen
from harness import TEXT

CONFIG = """
model:
  class_path: hybridgen.models.LanguageModel
  init_args:
    stack: {cell: lstm, hidden_size: 6, num_layers: 1, output_dropout: 0.2}
    embedding_size: 4
    warmup_steps: 3
data:
  class_path: hybridgen.data.TextData
  init_args: {source: SOURCE, cache_dir: SOURCE/cache, batch_size: 4, bptt: 9}
trainer:
  max_epochs: 3
  accelerator: cpu
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
"""


def write_config(folder):
    """A text, and a configuration of a small model of it; returns the configuration's path."""
    for part in ("train", "valid", "test"):
        (folder / f"{part}.txt").write_text(TEXT if part == "train" else TEXT[:90])
    path = folder / "small.yaml"
    path.write_text(CONFIG.replace("SOURCE", str(folder)))
    return path


def fit(*arguments, cwd):
    """`hybridgen fit` of the small model."""
    return hybridgen("fit", "--config", cwd / "small.yaml", "--wandb", "off", *arguments, cwd=cwd)


def mistake(finished):
    """The one sentence of a user's mistake; never a stack trace, never bad advice."""
    assert finished.returncode == 2, finished.stderr
    assert "Traceback" not in finished.stderr
    assert "weights_only" not in finished.stderr + finished.stdout
    last = finished.stderr.strip().splitlines()[-1]
    assert last.startswith("hybridgen: error: ")
    return last
