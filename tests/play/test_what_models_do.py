"""What models do for the page, without Gradio: the same as the commands do, and something to see and to hear."""

import csv
import itertools
import json
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import hybridgen
from hybridgen.cli import main
from hybridgen.generation import DecodingOptions
from hybridgen.play import sentences, sequences
from hybridgen.play.opened import names_of, open_models
from hybridgen.play.text import continue_text


def model_of(checkpoint, name):
    return hybridgen.load(checkpoint(name))


# Text -----------------------------------------------------------------------------------------------------------


def test_a_text_grows_to_what_sample_writes(checkpoint, capsys):
    settings = {"temperature": 0.8, "top_p": 0.9, "top_k": 12, "max_new_tokens": 30, "seed": 3}
    states = list(continue_text(model_of(checkpoint, "language"), "the ", DecodingOptions(**settings), refresh=0))
    assert len(states) > 5
    for before, after in itertools.pairwise(states):
        assert after.text.startswith(before.text)
    capsys.readouterr()
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    assert main(["sample", "--ckpt", checkpoint("language"), "--prompt", "the ", *options]) == 0
    assert capsys.readouterr().out == states[-1].text + "\n"
    assert states[0].note.startswith("1 token, ")
    assert states[-1].note.startswith("30 tokens, ")
    assert states[-1].note.endswith("max_new_tokens ended it")


def test_a_browser_need_not_draw_every_token(checkpoint):
    model = model_of(checkpoint, "language")
    assert len(list(continue_text(model, "", DecodingOptions(max_new_tokens=20), refresh=60))) == 1


def test_a_prompt_with_an_unknown_character_is_named(checkpoint):
    with pytest.raises(ValueError, match="☃"):
        next(continue_text(model_of(checkpoint, "language"), "☃", DecodingOptions()))


# Sentences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["slerp", "lerp"])
def test_the_way_between_two_sentences_is_that_of_interpolate(checkpoint, path, tmp_path):
    ends = "the cat sat", "a dog ran to the cat"
    out = tmp_path / "way.jsonl"
    shape = ["--path", path, "--max_new_tokens", str(sentences.LONGEST), "--out", str(out)]
    assert main(["interpolate", "--ckpt", checkpoint("sentences"), *ends, "--steps", "5", *shape]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    model = model_of(checkpoint, "sentences")
    found = sentences.way(model, *ends, 5, path=path)
    assert [place.text for place in found] == [row["text"] for row in rows]
    assert [place.share for place in found] == [0, 0.25, 0.5, 0.75, 1]
    for place in found:
        here = sentences.between(model, *ends, place.share, path=path)
        assert (here.text, here.nats) == (place.text, pytest.approx(place.nats, rel=1e-3))


def test_words_that_the_model_does_not_know_are_counted(checkpoint):
    model = model_of(checkpoint, "sentences")
    assert sentences.unknown_words(model, "the cat sat", "a dog") == ""
    said = sentences.unknown_words(model, "the xyzzy sat", "plugh")
    assert said.count("does not know 1 of the") == 2


def test_a_sentence_must_be_one(checkpoint):
    model = model_of(checkpoint, "sentences")
    with pytest.raises(ValueError, match="the second sentence is empty"):
        sentences.between(model, "a cat", " ", 0.5)
    with pytest.raises(ValueError, match="the first sentence has more than one line"):
        sentences.way(model, "a\ncat", "dog", 3)


def test_sentences_from_the_prior_are_those_of_sample(checkpoint, capsys):
    options = DecodingOptions(max_new_tokens=12, seed=5)
    drawn = sentences.from_prior(model_of(checkpoint, "sentences"), 3, options)
    capsys.readouterr()
    few = ["--num_samples", "3", "--max_new_tokens", "12", "--seed", "5"]
    assert main(["sample", "--ckpt", checkpoint("sentences"), *few]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith("---")] == drawn


# Sequences ------------------------------------------------------------------------------------------------------


def test_series_are_those_of_sample_and_are_drawn(checkpoint, tmp_path):
    made = sequences.make(model_of(checkpoint, "series"), tmp_path / "made", num_samples=2, length=9, seed=4)
    assert [path.name for path in made.files] == ["series.csv"]
    out = tmp_path / "sampled.csv"
    few = ["--num_samples", "2", "--length", "9", "--seed", "4", "--out", str(out)]
    assert main(["sample", "--ckpt", checkpoint("series"), *few]) == 0
    assert made.files[0].read_text() == out.read_text()
    assert np.asarray(Image.open(made.picture).convert("L")).std() > 5
    assert made.sounds == []


def test_a_point_of_the_latent_moves_a_series(checkpoint, tmp_path):
    model = model_of(checkpoint, "series")
    dimensions = sequences.controls_of(model).dimensions
    assert len(set(dimensions)) == sequences.SLIDERS

    def values(name, latents):
        made = sequences.make(model, tmp_path / name, seed=1, temperature=0, latents=latents)
        return [[float(cell) for cell in row[1:]] for row in list(csv.reader(made.files[0].open()))[1:]]

    middle, moved = values("middle", {dimensions[0]: 0.0}), values("moved", {dimensions[0]: 3.0})
    assert np.abs(np.subtract(middle, moved)).max() > 1e-4
    assert values("again", {dimensions[0]: 3.0}) == moved
    with pytest.raises(ValueError, match="no dimension 6: it has 6"):
        values("wrong", {6: 1.0})


def test_the_dimension_that_tells_most_comes_first(checkpoint):
    model = model_of(checkpoint, "series")
    size = model.latent_size
    assert sorted(sequences.leading_dimensions(model, size)) == list(range(size))
    decode = model.decode_rows

    def nearly_deaf(z, rows, **options):
        """All dimensions but the fifth and, less so, the third are ignored, as in a latent that has collapsed."""
        return decode(z * torch.tensor([0.0, 0.0, 0.3, 0.0, 1.0, 0.0]), rows, **options)

    model.decode_rows = nearly_deaf
    assert sequences.leading_dimensions(model)[:2] == [4, 2]


def test_sounds_are_written_by_label_with_their_spectra(checkpoint, tmp_path):
    model = model_of(checkpoint, "sounds")
    controls = sequences.controls_of(model)
    assert controls.labels == ["plucked", "struck"]
    assert controls.sounds
    assert not controls.temperature
    assert controls.dimensions == [0, 1, 2, 3]
    made = sequences.make(model, tmp_path / "made", num_samples=2, label="struck", latents={0: 2.0})
    assert [path.name for path in made.sounds] == ["0000_struck.wav", "0001_struck.wav"]
    for path in made.sounds:
        samples, rate = soundfile.read(path)
        assert rate == model.codec.sample_rate
        assert len(samples) > 100
    assert Image.open(made.picture).size[0] > 300
    with pytest.raises(ValueError, match="bowed"):
        sequences.make(model, tmp_path / "wrong", label="bowed")


def test_rolls_are_seen_heard_and_kept(checkpoint, tmp_path):
    model = model_of(checkpoint, "rolls")
    with torch.no_grad():  # so that keys sound, which two steps of training do not ensure
        for name, parameter in model.head.named_parameters():
            parameter.fill_(-1.0 if name.endswith("bias") else 0.0)
    made = sequences.make(model, tmp_path / "made", num_samples=2, length=16, label=model.codec.labels[0])
    assert [path.suffix for path in made.files] == [".mid", ".mid"]
    assert mido.MidiFile(made.files[1]).length > 0
    assert [len(soundfile.read(path)[0]) > 1000 for path in made.sounds] == [True, True]
    assert Image.open(made.picture).size[0] > 100


def test_a_roll_without_a_note_is_seen_but_not_heard(checkpoint, tmp_path):
    model = model_of(checkpoint, "rolls")
    with torch.no_grad():
        for name, parameter in model.head.named_parameters():
            parameter.fill_(-50.0 if name.endswith("bias") else 0.0)
    made = sequences.make(model, tmp_path / "made", length=8)
    assert made.sounds == []
    assert made.picture.is_file()
    assert len(made.files) == 1


def test_images_and_sketches_are_drawn(checkpoint, tmp_path):
    images = model_of(checkpoint, "images")
    assert sequences.controls_of(images) == sequences.Controls(list("0123456789"), False, True, [], 20, False)
    made = sequences.make(images, tmp_path / "images", num_samples=4, label="7", temperature=0.5)
    assert {path.name for path in made.files} == {*(f"sample-{n}.png" for n in range(4)), "samples.png"}
    assert np.asarray(Image.open(made.picture)).shape[0] > 100
    sketches = model_of(checkpoint, "sketches")
    assert sequences.controls_of(sketches).dimensions
    assert not sequences.controls_of(sketches).length
    made = sequences.make(sketches, tmp_path / "sketches", num_samples=3, label="star", latents={1: -1.0})
    assert (tmp_path / "sketches" / "samples.svg").read_text().count("<path") == 3
    assert Image.open(made.picture).size[0] > 100
    assert {path.suffix for path in made.files} == {".svg"}
    assert len(made.files) == 4


def test_a_model_with_a_latent_at_every_step_has_no_sliders(checkpoint, tmp_path):
    model = model_of(checkpoint, "frames")
    controls = sequences.controls_of(model)
    assert (controls.dimensions, controls.temperature, controls.length) == ([], True, True)
    made = sequences.make(model, tmp_path / "made", length=7)
    assert len(made.files[0].read_text().splitlines()) == 1 + 7


# Which models ---------------------------------------------------------------------------------------------------


def test_models_are_named_by_their_runs(checkpoint):
    one, other = "runs/ptb/0/checkpoints/best.ckpt", "runs/ptb/0/checkpoints/last.ckpt"
    assert names_of([one]) == ["ptb/0"]
    assert names_of([one, "runs/ptb/1/checkpoints/best.ckpt", "kept.ckpt"]) == ["ptb/0", "ptb/1", "kept"]
    assert names_of([one, other]) == ["ptb/0 best", "ptb/0 last"]
    assert names_of(["a/kept.ckpt", "b/kept.ckpt"]) == ["a/kept.ckpt", "b/kept.ckpt"]
    opened = open_models([checkpoint("language"), checkpoint("sentences"), checkpoint("images")])
    assert [each.kind for each in opened] == ["text", "sentences", "sequences"]
    assert opened[0].name == "language/0"
    assert opened[0].about.startswith("LanguageModel · ")
    assert Path(opened[0].path).name == "last.ckpt"
