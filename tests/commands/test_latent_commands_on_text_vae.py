"""The commands on a latent space with the model they are made for, and with one they are not."""

import io
import json
import sys

import pytest
import torch

from hybridgen.cli import main
from hybridgen.codecs import WordCodec
from hybridgen.models import LanguageModel, TextVAE

SMALL = {"encoder": {"hidden_size": 8}, "decoder": {"hidden_size": 8}, "embedding_size": 8, "latent_size": 4}
SHORT = ["--max_new_tokens", "7"]


def save(model, path):
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    codec = WordCodec.train(["the cat sat on a mat\n", "a dog ran\n"]).to_config()
    torch.manual_seed(0)
    stack = {"cell": "lstm", "hidden_size": 8, "num_layers": 1}
    return {
        "gaussian": save(TextVAE(**SMALL, codec=codec), folder / "vae.ckpt"),
        "vmf": save(TextVAE(**SMALL, posterior="vmf", codec=codec), folder / "vmf.ckpt"),
        "language model": save(LanguageModel(stack=stack, embedding_size=8, codec=codec), folder / "lm.ckpt"),
    }


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat\n\nmat\nxyzzy plugh\n" + "the dog " * 400 + "\n")
    return str(path)


def commands(text):
    return {
        "reconstruct": ["reconstruct", text, *SHORT],
        "drawn": ["reconstruct", text, "--posterior_sample", "--do_sample", "--top_k", "5", *SHORT],
        "beams": ["reconstruct", text, "--num_beams", "3", *SHORT],
        "interpolate": ["interpolate", "the cat sat", "mat", "--steps", "4", *SHORT],
        "line": ["interpolate", "the cat sat", "xyzzy", "--path", "lerp", "--do_sample", *SHORT],
        "arithmetic": ["arithmetic", "--plus", text, "--minus", text, "--on", text, *SHORT],
        "nearest": ["nearest", "--corpus", text, "the cat sat", "--k", "4"],
        "sample": ["sample", "--num_samples", "3", "--temperature", "0.8", *SHORT],
    }


@pytest.mark.parametrize("model", ["gaussian", "vmf"])
def test_every_command(checkpoints, text, tmp_path, capsys, model):
    rows = {}
    for name, arguments in commands(text).items():
        for repetition in range(2):  # the same both times
            out = tmp_path / f"{name}{repetition}.jsonl"
            assert main([*arguments, "--ckpt", checkpoints[model], "--out", str(out)]) == 0, capsys.readouterr().err
        assert (tmp_path / f"{name}0.jsonl").read_text() == out.read_text(), name
        rows[name] = [json.loads(line) for line in out.read_text().splitlines()]
    numbers = {name: len(found) for name, found in rows.items()}
    assert numbers == {
        "reconstruct": 4, "drawn": 4, "beams": 4, "interpolate": 4, "line": 8, "arithmetic": 4, "nearest": 4,
        "sample": 3,
    }  # fmt: skip
    assert [row["unknown"] for row in rows["reconstruct"]] == [0, 0, 2, 0]
    assert all(row["tokens"] <= 7 and row["nats"] > 0 for row in rows["reconstruct"])
    # Nothing is added to a sentence where both files are the same.
    assert [row["text"] for row in rows["arithmetic"]] == [row["reconstruction"] for row in rows["arithmetic"]]
    # A path begins and ends at the reconstructions.
    ends = [rows["interpolate"][0]["text"], rows["interpolate"][-1]["text"]]
    assert ends == [row["text"] for row in rows["reconstruct"][:2]]
    assert rows["nearest"][0]["line"] == 1
    assert rows["nearest"][0]["distance"] == pytest.approx(0, abs=1e-5)


def test_a_sample_of_the_prior_alone_is_the_one_among_many(checkpoints, tmp_path):
    found = []
    for number in (2, 130):  # more than are drawn together
        out = tmp_path / f"{number}.jsonl"
        assert main(["sample", "--ckpt", checkpoints["gaussian"], "--num_samples", str(number), "--seed", "3",
                     "--out", str(out), *SHORT]) == 0  # fmt: skip
        found.append([json.loads(line)["text"] for line in out.read_text().splitlines()])
    assert found[0] == found[1][:2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--num_beams", "2", "--num_samples", "5"],
            "--num_samples is 5, but a search with --num_beams 2 finds 2 texts",
        ),
        (["--num_samples", "1000000000000"], "--num_samples is 1000000000000: give at most 1000000"),
        (["--num_beams", "1000000000000"], "--num_beams is 1000000000000: give at most 10000"),
        (["--out", "."], "--out: . is a folder: give the path of a file"),
        (["--prompt", "-"], "--prompt - reads standard input, which is closed"),
    ],
)
def test_what_does_not_fit_samples_of_a_language_model(checkpoints, arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["sample", "--ckpt", checkpoints["language model"], *arguments, *SHORT]) == 2
    assert said in capsys.readouterr().err


def test_standard_input_that_is_no_text(checkpoints, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9"), encoding="utf-8"))
    assert main(["sample", "--ckpt", checkpoints["language model"], "--prompt", "-"]) == 2
    assert "--prompt -: standard input is not UTF-8 at byte 3" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["torch", "onnx"])
def test_a_text_vae_has_no_graph_of_tokens(checkpoints, form, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["export", "--ckpt", checkpoints["gaussian"], "--format", form, "--out", out]) == 2
    assert "a TextVAE has no network from token to token" in capsys.readouterr().err


def test_a_checkpoint_that_is_missing_or_cannot_be_named_is_what_is_told(text, capsys):
    for name, said in (("missing.ckpt", "there is no checkpoint at missing.ckpt"), ("x" * 300, "File name too long")):
        for command in (["reconstruct", text, "--part", "test"], ["sample"]):
            assert main([*command, "--ckpt", name]) == 2
            assert said in capsys.readouterr().err


def test_a_language_model_has_no_latent_space(checkpoints, text, capsys):
    for name, arguments in commands(text).items():
        if name != "sample":
            assert main([*arguments, "--ckpt", checkpoints["language model"]]) == 2
            assert "holds a LanguageModel, which has no latent space" in capsys.readouterr().err.splitlines()[-1]
