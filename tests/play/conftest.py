"""Small models of every kind, trained for two steps when a test first asks for them."""

import functools

import pytest

from hybridgen.cli import main

QUIET = ["--wandb", "off", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
TEXT = "the cat sat on the mat\na dog ran to the cat\nthe dog sat\na cat ran\n" * 6
STACK = "stack: {cell: gru, hidden_size: 6}"
#: Name of a run: model, its options, data, its options.
RUNS = {
    "language": (
        "LanguageModel",
        f"{STACK}\n    embedding_size: 4",
        "TextData",
        "source: FOLDER/text\n    cache_dir: FOLDER/cache\n    batch_size: 2\n    bptt: 8",
    ),
    "sentences": (
        "TextVAE",
        "encoder: {cell: gru, hidden_size: 8}\n    decoder: {cell: gru, hidden_size: 8}\n"
        "    embedding_size: 8\n    latent_size: 4",
        "TextData",
        "source: FOLDER/text\n    cache_dir: FOLDER/cache\n    codec: words\n    layout: lines\n    batch_size: 4",
    ),
    "sounds": (
        "SequenceGAN",
        f"mode: direct\n    {STACK}\n    sequence_noise: 4\n    step_noise: 2",
        "AudioData",
        "source: notes\n    num_notes: 24\n    note_seconds: 0.1\n    batch_size: 6",
    ),
    "series": (
        "SequenceVAEGAN",
        f"{STACK}\n    latent_size: 6",
        "SeriesData",
        "source: sines\n    num_series: 60\n    length: 12",
    ),
    "rolls": ("SequenceModel", f"{STACK}\n    head: bernoulli", "PianoRollData", "labels: true\n    max_length: 8"),
    "frames": (
        "VariationalRNN",
        f"{STACK}\n    latent_size: 4\n    head: gaussian",
        "SeriesData",
        "source: sines\n    num_series: 60\n    length: 12",
    ),
    "images": (
        "DRAW",
        f"{STACK}\n    latent_size: 4\n    glimpses: 2",
        "ImageRowsData",
        "source: digits\n    levels: 2\n    labels: true",
    ),
    "sketches": (
        "SequenceVAEGAN",
        f"{STACK}\n    latent_size: 4\n    adversarial: false\n    reconstruction: likelihood\n"
        "    autoregressive: true",
        "SketchData",
        "labels: true\n    num_sketches: 40\n    batch_size: 20",
    ),
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The path of the checkpoint of a run, by its name."""
    folder = tmp_path_factory.mktemp("play")
    (folder / "text").mkdir()
    for part in ("train", "valid", "test"):
        (folder / "text" / f"{part}.txt").write_text(TEXT)

    @functools.cache
    def trained(name):
        model, options, data, given = RUNS[name]
        config = folder / f"{name}.yaml"
        config.write_text(
            f"model:\n  class_path: hybridgen.models.{model}\n  init_args:\n    {options}\n"
            f"data:\n  class_path: hybridgen.data.{data}\n  init_args:\n    {given}\n".replace("FOLDER", str(folder))
            + "trainer:\n  max_steps: 2\n  accelerator: cpu\n  limit_val_batches: 1\n  num_sanity_val_steps: 0\n"
        )
        assert main(["fit", "--config", str(config), "--runs", str(folder / "runs"), *QUIET]) == 0
        return str(folder / "runs" / name / "0" / "checkpoints" / "last.ckpt")

    return trained
