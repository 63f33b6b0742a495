"""`hybridgen sample`, `reconstruct`, `interpolate` and `evaluate` on models of rolls, images, sketches and sounds."""

import csv
import json
from pathlib import Path

import mido
import numpy as np
import pytest
from PIL import Image

from hybridgen.cli import main

QUIET = ["--wandb", "off", "--trainer.enable_progress_bar", "false", "--trainer.num_sanity_val_steps", "0"]
HYBRID = "hybridgen.models.SequenceVAEGAN"
SMALL = "stack: {cell: gru, hidden_size: 6}"
#: Name of a run: model, its options, data, its options.
RUNS = {
    "rolls": (HYBRID, f"{SMALL}\n    latent_size: 4", "PianoRollData", "labels: true\n    max_length: 8"),
    "sketches": (
        HYBRID,
        f"{SMALL}\n    latent_size: 4\n    adversarial: false\n    reconstruction: likelihood\n"
        "    autoregressive: true",
        "SketchData",
        "labels: true\n    num_sketches: 40\n    batch_size: 20",
    ),
    "images": (
        "hybridgen.models.VariationalRNN",
        f"{SMALL}\n    latent_size: 4\n    head: mixture_of_logistics\n"
        "    head_options: {num_components: 2, num_levels: 17, low: 0.0, high: 1.0}",
        "ImageRowsData",
        "source: digits",
    ),
    "series": (
        HYBRID,
        f"{SMALL}\n    latent_size: 4",
        "SeriesData",
        "source: sines\n    num_series: 60\n    length: 6",
    ),
}


def write_tune(path):
    """A file of three notes."""
    tune = mido.MidiFile()
    tune.tracks.append(mido.MidiTrack())
    for key in (60, 64, 67):
        tune.tracks[0].append(mido.Message("note_on", note=key, velocity=64, time=0))
        tune.tracks[0].append(mido.Message("note_off", note=key, velocity=64, time=480))
    tune.save(path)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for name, (model, options, data, given) in RUNS.items():
        config = folder / f"{name}.yaml"
        config.write_text(
            f"model:\n  class_path: {model}\n  init_args:\n    {options}\n"
            f"data:\n  class_path: hybridgen.data.{data}\n  init_args:\n    {given}\n"
            "trainer:\n  max_steps: 2\n  accelerator: cpu\n  limit_val_batches: 1\n"
        )
        assert main(["fit", "--config", str(config), "--runs", str(folder), *QUIET]) == 0
        found[name] = str(folder / name / "0" / "checkpoints" / "last.ckpt")
    return found


def test_samples_become_files_of_their_kind(checkpoints, tmp_path):
    for name, out, files in (
        ("rolls", "music", {"sample-0.mid", "sample-1.mid", "samples.png"}),
        ("sketches", "drawings", {"sample-0.svg", "sample-1.svg", "samples.png"}),
        ("images", "digits", {"sample-0.png", "sample-1.png", "samples.png"}),
    ):
        label = {"rolls": "minor", "sketches": "star", "images": "7"}[name]
        few = ["--num_samples", "2", "--label", label, "--temperature", "0.7", "--out", str(tmp_path / out)]
        assert main(["sample", "--ckpt", checkpoints[name], *few]) == 0
        assert {path.name for path in (tmp_path / out).iterdir()} == files
    assert np.asarray(Image.open(tmp_path / "digits" / "sample-0.png")).shape == (8, 8)
    assert main(["sample", "--ckpt", checkpoints["series"], "--out", str(tmp_path / "new.csv")]) == 0
    assert len(list(csv.DictReader((tmp_path / "new.csv").open()))) == 6


def test_reconstructions_stand_beside_the_originals(checkpoints, tmp_path):
    out = tmp_path / "back"
    assert main(["reconstruct", "--ckpt", checkpoints["rolls"], "--num", "2", "--out", str(out)]) == 0
    for folder in ("original", "reconstruction"):
        assert {path.name for path in (out / folder).iterdir()} == {"sample-0.mid", "sample-1.mid", "samples.png"}
    assert mido.MidiFile(out / "original" / "sample-0.mid").length > 0
    # A file that a person has.
    one = [str(out / "original" / "sample-1.mid"), "--label", "major", "--out", str(tmp_path / "one")]
    assert main(["reconstruct", "--ckpt", checkpoints["rolls"], *one]) == 0
    digits = ["--part", "valid", "--num", "3", "--out", str(tmp_path / "digits")]
    assert main(["reconstruct", "--ckpt", checkpoints["images"], *digits]) == 0
    assert (tmp_path / "digits" / "reconstruction" / "sample-2.png").is_file()
    assert main(["reconstruct", "--ckpt", checkpoints["series"], "--num", "2", "--out", str(tmp_path / "series")]) == 0
    assert (tmp_path / "series" / "reconstruction" / "series.csv").is_file()


def test_interpolation_between_sketches_and_rolls(checkpoints, tmp_path):
    out = tmp_path / "between.svg"
    assert main(["interpolate", "--ckpt", checkpoints["sketches"], "0", "1", "--steps", "4", "--out", str(out)]) == 0
    assert out.read_text().count("<path") == 4
    drawn = ["--do_sample", "--temperature", "0.3", "--seed", "2", "--path", "lerp", "--out", str(tmp_path / "rolls")]
    assert main(["interpolate", "--ckpt", checkpoints["rolls"], "0", "2", "--steps", "3", *drawn]) == 0
    assert (tmp_path / "rolls" / "sample-2.mid").is_file()


def test_images_are_judged_by_a_classifier(checkpoints, tmp_path, capsys):
    few = ["--num_samples", "40", "--out", str(tmp_path / "report")]
    assert main(["evaluate", "--ckpt", checkpoints["images"], *few]) == 0
    assert "label accuracy" in capsys.readouterr().out
    found = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert set(found) == {"metrics", "details"}  # nothing is told of options that these scores do not have
    assert found["metrics"]["real_label_accuracy"] > 0.95
    assert (tmp_path / "report" / "samples.png").is_file()


@pytest.mark.parametrize(
    ("run", "arguments", "said"),
    [
        ("rolls", ["reconstruct", "--out", "afile"], "--out: afile is a file: give a folder"),
        ("rolls", ["reconstruct", "--out", "afile/x"], "--out: afile is a file: give a folder"),
        ("rolls", ["reconstruct", "--out", "x", "--label", "major"], "--label has no effect here"),
        ("rolls", ["reconstruct", "--out", "x", "--seed", "3"], "--seed is of draws: add --do_sample"),
        ("rolls", ["reconstruct", "a.mid", "--out", "x", "--num", "3"], "--num has no effect here, where a.mid is one"),
        ("rolls", ["reconstruct", "a.mid", "--out", "x", "--part", "test"], "--part has no effect here"),
        ("rolls", ["reconstruct", "a.mid", "--out", "x", "--config", "y"], "--config has no effect here"),
        ("rolls", ["reconstruct", "a.mid", "--out", "x", "--label", "majr"], "--label: there is no label 'majr'"),
        ("rolls", ["reconstruct", "tunes", "--out", "x", "--label", "major"], "where tunes has its own classes"),
        ("rolls", ["interpolate", "0", "1", "--out", "x", "--num", "3"], "--num has no effect here"),
        ("rolls", ["interpolate", "0", "1", "--out", "x", "--label", "major"], "--label has no effect here"),
        ("rolls", ["interpolate", "a.mid", "a.mid", "--out", "x", "--part", "test"], "--part has no effect here"),
        ("images", ["reconstruct", "--out", "x", "--do_sample"], "--do_sample is of draws, but a VariationalRNN"),
        ("images", ["reconstruct", "--out", "x", "--posterior_sample"], "--posterior_sample is of draws, but"),
        ("images", ["reconstruct", "--out", "x", "--seed", "3"], "--seed is of draws, but a VariationalRNN"),
        ("images", ["evaluate", "--iterations", "0.5"], "--iterations has no effect on the scores of images"),
        ("images", ["evaluate", "--runs", "3"], "--runs has no effect on the scores of images"),
        ("series", ["sample", "--out", "x.csv", "--start", "2020-01-01"], "--start is given, but the series that"),
        ("images", ["interpolate", "0", "1", "--out", "x.png"], "which has no latent of a whole sequence"),
        ("rolls", ["interpolate", "0", "9999", "--out", "x"], "END is 9999"),
        ("rolls", ["interpolate", "0", "no.mid", "--out", "x"], "no.mid"),
        ("rolls", ["reconstruct", "--out", "x", "--top_k", "3"], "--top_k"),
        ("rolls", ["reconstruct", "--out", "x", "--temperature", "0.5"], "add --do_sample"),
        ("rolls", ["reconstruct"], "--out"),
        ("rolls", ["reconstruct", "--out", "x", "--num", "0"], "--num is 0"),
        ("rolls", ["sample", "--out", "x.mid", "--num_samples", "2"], "give a folder"),
        ("rolls", ["sample", "--out", "x", "--label", "dorian"], "dorian"),
        ("sketches", ["evaluate"], "hybridgen test"),
        ("sketches", ["sample", "--out", "x.gif"], ".gif"),
        ("images", ["evaluate", "--window", "8"], "--window"),
    ],
)
def test_what_does_not_fit_is_named_in_one_sentence(run, arguments, said, checkpoints, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("here")
    (tmp_path / "tunes").mkdir()
    write_tune(tmp_path / "a.mid")
    before = sorted(tmp_path.rglob("*"))
    assert main([arguments[0], "--ckpt", checkpoints[run], *arguments[1:]]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_of_a_sequence_needs_its_class_where_the_model_knows_some(checkpoints, tmp_path, capsys):
    path = tmp_path / "a.mid"
    assert main(["sample", "--ckpt", checkpoints["rolls"], "--out", str(path)]) == 0
    capsys.readouterr()
    command = ["reconstruct", "--ckpt", checkpoints["rolls"], str(path), "--out", str(tmp_path / "x")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "--label" in said or "no notes" in said  # an untrained model may have written a silent file
    assert Path(path).is_file()
