"""`hybridgen fit`, `sample` and `evaluate` on series, sounds and piano rolls, as a person types them."""

import csv
import json
import runpy
import sys
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from hybridgen.cli import main

ROOT = Path(__file__).parent.parent.parent
QUIET = ["--wandb", "off", "--trainer.enable_progress_bar", "false", "--trainer.num_sanity_val_steps", "0"]


def fit(folder, family, name, *options):
    config = str(ROOT / "experiments" / family / f"{name}.yaml")
    few = ["--runs", str(folder), "--trainer.max_steps", "2", "--trainer.limit_val_batches", "1"]
    assert main(["fit", "--config", config, *few, *QUIET, *options]) == 0
    return folder / name / "0" / "checkpoints" / "last.ckpt"


def script(name, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    table = folder / "prices.csv"
    draws = np.random.default_rng(0).random((160, 2))
    rows = [f"{day},{7 * a:.3f},{30 + 15 * b:.2f}" for day, (a, b) in enumerate(draws)]
    table.write_text("\n".join(["day,open,volume", *rows]) + "\n")
    data = ["--data.init_args.source", str(table), "--data.init_args.window", "8", "--data.init_args.batch_size", "16"]
    small = ["--model.init_args.mode", "direct", "--model.init_args.stack.hidden_size", "8"]
    return fit(folder, "sequence_gan", "sines", *data, "--data.init_args.columns", "[open,volume]", *small)


@pytest.fixture(scope="module")
def rolls(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("rolls"), "variational_rnn", "embedded")


def test_series_are_written_in_the_units_and_columns_of_the_file(series, tmp_path):
    out = tmp_path / "new.csv"
    assert main(["sample", "--ckpt", str(series), "--num_samples", "3", "--length", "12", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 3 * 12
    assert {"open", "volume"} <= set(rows[0])
    assert all(0 <= float(row["open"]) <= 7 and 30 <= float(row["volume"]) <= 45 for row in rows)
    again = tmp_path / "again.csv"
    assert main(["sample", "--ckpt", str(series), "--num_samples", "3", "--length", "12", "--out", str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()


def test_the_script_for_series_shows_the_same_from_python(series, rolls, tmp_path, monkeypatch, capsys):
    script("generate_series.py", monkeypatch, series, tmp_path / "ten.csv")
    assert len((tmp_path / "ten.csv").read_text().splitlines()) == 1 + 10 * 2 * 8
    assert "(10, 8, 2)" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        script("generate_series.py", monkeypatch, rolls, tmp_path / "no.csv")
    assert "generates no series" in capsys.readouterr().err


def test_series_go_into_a_folder(series, tmp_path):
    assert main(["sample", "--ckpt", str(series), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "series.csv").is_file()


def test_series_are_compared_with_the_data_of_the_run(series, tmp_path, capsys):
    few = ["--runs", "1", "--iterations", "0.002", "--out", str(tmp_path / "report")]
    assert main(["evaluate", "--ckpt", str(series), *few]) == 0
    printed = capsys.readouterr().out
    assert "real vs real" in printed
    assert "memorisation" in printed
    found = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert {"discriminative_score", "predictive_score", "memorisation_ratio"} <= set(found["metrics"])
    assert (found["runs"], found["iterations"]) == (1, 0.002)
    assert (tmp_path / "report" / "pca.png").is_file()


def test_rolls_are_written_as_midi_and_picture(rolls, tmp_path):
    few = ["--num_samples", "2", "--length", "8", "--label", "minor"]
    assert main(["sample", "--ckpt", str(rolls), *few, "--out", str(tmp_path / "music")]) == 0
    assert (tmp_path / "music" / "samples.png").stat().st_size > 1000
    assert mido.MidiFile(tmp_path / "music" / "sample-1.mid").length >= 0


def test_sounds_are_written_as_wav_with_a_manifest_and_compared(tmp_path, monkeypatch, capsys):
    config = tmp_path / "notes.yaml"
    config.write_text(
        "model:\n  class_path: hybridgen.models.SequenceGAN\n  init_args:\n    mode: direct\n"
        "    stack: {cell: gru, hidden_size: 8}\n"
        "data:\n  class_path: hybridgen.data.AudioData\n  init_args:\n    source: notes\n    num_notes: 24\n"
        "    codec: log_mel\n    batch_size: 4\n"
        "trainer:\n  max_steps: 1\n  accelerator: cpu\n  limit_val_batches: 1\n"
    )
    assert main(["fit", "--config", str(config), "--runs", str(tmp_path), *QUIET]) == 0
    checkpoint = tmp_path / "notes" / "0" / "checkpoints" / "last.ckpt"
    out = tmp_path / "sounds"
    assert main(["sample", "--ckpt", str(checkpoint), "--num_samples", "2", "--length", "20", "--out", str(out)]) == 0
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line["sample"] for line in lines] == [0, 1]
    samples, rate = soundfile.read(out / lines[0]["file"])
    assert len(samples) > 0
    assert rate == lines[0]["sample_rate"]

    script("generate_audio.py", monkeypatch, checkpoint, tmp_path / "each")
    assert len(list((tmp_path / "each").glob("*.wav"))) == 2  # plucked and struck
    with pytest.raises(SystemExit, match="2"):
        script("generate_audio.py", monkeypatch, checkpoint, tmp_path / "none", "--label", "bowed")

    few = ["--num_samples", "6", "--iterations", "0.03", "--out", str(tmp_path / "report")]
    assert main(["evaluate", "--ckpt", str(checkpoint), *few]) == 0
    assert "label accuracy" in capsys.readouterr().out
    assert main(["evaluate", "--ckpt", str(checkpoint), "--runs", "3"]) == 2
    assert "--runs has no effect on the scores of sounds" in capsys.readouterr().err
    written = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    found = written["metrics"]
    assert "runs" not in written
    assert written["iterations"] == 0.03
    assert {"label_accuracy", "inception_score_ratio", "frechet_distance", "memorisation_ratio"} <= set(found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--out"),
        (["--out", "x.csv", "--prompt", "Once"], "--prompt"),
        (["--out", "x.csv", "--top_p", "0.5"], "--top_p"),
        (["--out", "x.csv", "--temperature", "0.5"], "--temperature"),
        (["--out", "x.csv", "--length", "0"], "length"),
        (["--out", "x.csv", "--length", "1000000000000"], "--length is 1000000000000: give at most 1000000"),
        (["--out", "x.csv", "--num_samples", "1000000000000"], "--num_samples is 1000000000000: give at most"),
        (["--out", "x.csv", "--label", "dog"], "label"),
        (["--out", "x.docx"], "x.docx"),
    ],
)
def test_options_that_do_not_fit_series_are_named(series, options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--ckpt", str(series), *options]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0
    assert not list(tmp_path.iterdir())


def test_rolls_are_compared_as_stretches(rolls, capsys):
    few = ["--runs", "1", "--iterations", "0.002", "--window", "8", "--num_samples", "40"]
    assert main(["evaluate", "--ckpt", str(rolls), *few]) == 0
    assert "memorisation" in capsys.readouterr().out


def test_a_checkpoint_without_its_data_is_refused(series, tmp_path, capsys):
    lone = tmp_path / "lone.ckpt"
    lone.write_bytes(series.read_bytes())
    assert main(["evaluate", "--ckpt", str(lone)]) == 2
    assert "--config" in capsys.readouterr().err
