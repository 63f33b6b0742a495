"""The commands on a latent space: what they print and write, and what they say to bad input."""

import json
import subprocess
import sys

import pytest
import torch
from lookup_model import KNOWN, LookupModel

from hybridgen.cli import COMMANDS, main

LATENT = ("reconstruct", "interpolate", "arithmetic", "nearest")


@pytest.fixture
def model(monkeypatch):
    found = LookupModel()
    monkeypatch.setattr("hybridgen.loading.load", lambda path: found)
    monkeypatch.setattr("hybridgen.restoring.read_contents", lambda path: {"codec": found.codec.to_config()})
    return found


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("a good day\n\n  \nbad food\none\nxyzzy plugh\n" + "good " * 300 + "day\n", encoding="utf-8")
    return path


def rows_of(path):
    assert not list(path.parent.glob("*.partial"))
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_reconstruct(model, corpus, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert main(["reconstruct", "--ckpt", "x", str(corpus), "--out", str(out)]) == 0
    rows = rows_of(out)
    # Empty lines are left out, a single word and a long sentence are sentences; lines keep their numbers.
    assert [row["line"] for row in rows] == [1, 4, 5, 6, 7]
    assert [row["text"] for row in rows][:3] == ["a good day", "bad food", "one"]
    assert rows[3] | {"unknown": 2, "original": "xyzzy plugh"} == rows[3]
    assert set(rows[0]) == {"line", "original", "text", "tokens", "nats", "finish_reason", "unknown"}
    printed = capsys.readouterr()
    assert "3 of 5 sentences came back word for word" in printed.out
    assert "2 empty lines are left out" in printed.err
    assert "1 of 5 sentences have no word that the model knows" in printed.err
    assert not model.calls[0][1].do_sample


def test_reconstruct_from_draws_of_the_posterior(model, corpus, tmp_path):
    outs = []
    for seed in (3, 3, 4):
        main(["reconstruct", "--ckpt", "x", str(corpus), "--posterior_sample", "--seed", str(seed)])
        outs.append(model.calls[-1][0])
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_every_sentence_is_a_sample_of_its_own_number(model, tmp_path):
    path = tmp_path / "many.txt"
    path.write_text("a good day\nbad food\n" * 100)
    assert main(["reconstruct", "--ckpt", "x", str(path), "--do_sample", "--temperature", "0.7"]) == 0
    assert [number for call in model.calls for number in call[2]] == list(range(200))
    assert all(call[1].do_sample and call[1].temperature == 0.7 for call in model.calls)


@pytest.mark.parametrize("path", ["slerp", "lerp"])
def test_interpolate(model, tmp_path, capsys, path):
    out = tmp_path / "out.jsonl"
    command = ["interpolate", "--ckpt", "x", "a good day", "bad food", "--steps", "5", "--path", path]
    assert main([*command, "--out", str(out)]) == 0
    rows = rows_of(out)
    assert [row["fraction"] for row in rows] == [0, 0.25, 0.5, 0.75, 1]
    assert (rows[0]["text"], rows[-1]["text"]) == ("a good day", "bad food")
    table = capsys.readouterr().out.splitlines()
    assert table[:2] == ["from  a good day", "to    bad food"]
    assert table[3].split() == ["step", "text", "nats"]
    assert len(table) == 5 + 5


def test_latents_of_a_von_mises_fisher_posterior_stay_on_the_sphere(model):
    for posterior, on_it in (("gaussian", False), ("vmf", True)):
        model.options = {"posterior": posterior}
        assert main(["interpolate", "--ckpt", "x", "a good day", "bad food", "--path", "lerp"]) == 0
        norms = model.calls[-1][0].norm(dim=1)
        assert torch.allclose(norms, torch.ones(8)) == on_it


def test_arithmetic(model, tmp_path, capsys):
    files = {"plus": "good food\ngood good", "minus": "bad food\nbad bad", "on": "a bad day\n\nbad food\n"}
    command = ["arithmetic", "--ckpt", "x", "--out", str(tmp_path / "out.jsonl")]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        command += [f"--{name}", str(tmp_path / name)]
    assert main(command) == 0
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["original"] for row in rows] == [row["reconstruction"] for row in rows] == ["a bad day", "bad food"]
    assert [row["text"] for row in rows] == ["a good day", "good food"]
    assert "from 2 and 2 sentences changed 2 of 2" in capsys.readouterr().out
    # With a scale of 0 nothing changes.
    assert main([*command, "--scale", "0"]) == 0
    assert "changed 0 of 2" in capsys.readouterr().out


def test_nearest(model, corpus, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert main(["nearest", "--ckpt", "x", "--corpus", str(corpus), "a good day", "--k", "2", "--out", str(out)]) == 0
    rows = rows_of(out)
    assert [(row["rank"], row["line"]) for row in rows] == [(1, 1), (2, 7)]
    assert rows[0]["distance"] == pytest.approx(0, abs=1e-6)
    assert capsys.readouterr().out.splitlines()[0].split() == ["rank", "line", "cosine", "text"]


def test_sample_from_the_prior(model, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert main(["sample", "--ckpt", "x", "--num_samples", "3", "--seed", "5", "--out", str(out)]) == 0
    rows = rows_of(out)
    assert [(row["sample"], row["seed"]) for row in rows] == [(0, 5), (1, 5), (2, 5)]
    assert all(row["text"] in KNOWN for row in rows)
    assert main(["sample", "--ckpt", "x"]) == 0
    assert capsys.readouterr().out.startswith("--- sample 0\n")
    assert main(["sample", "--ckpt", "x", "--prompt", "a"]) == 2
    assert "leave out the prompt" in capsys.readouterr().err


def test_long_cells_wrap_and_the_table_keeps_its_width(model, corpus, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["reconstruct", "--ckpt", "x", str(corpus)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20
    assert max(map(len, lines)) <= 80


def mistakes(corpus, tmp_path):
    empty, latin = tmp_path / "empty.txt", tmp_path / "latin.txt"
    empty.write_text("\n \n")
    latin.write_bytes(b"caf\xe9")
    ends = tmp_path / "ends.txt"
    ends.write_text("a good day\na good <eos> day\n")
    nearest, interpolate = ["nearest", "--corpus", str(corpus)], ["interpolate", "one", "a day"]
    return {
        "k of 0": ([*nearest, "one", "--k", "0"], "--k is 0: give at least 1"),
        "k above": ([*nearest, "one", "--k", "9"], "has 5 sentences"),
        "no sentence": ([*nearest, "  "], "the sentence is empty"),
        "steps without end": (
            [*interpolate, "--steps", "1000000000000"],
            "--steps is 1000000000000: give at most 10000",
        ),
        "a folder": (["reconstruct", str(corpus), "--out", str(tmp_path)], "is a folder: give the path of a file"),
        "of sequences": (["reconstruct", str(corpus), "--part", "test"], "--part is for models of sequences"),
        "one step": ([*interpolate, "--steps", "1"], "--steps is 1: give at least 2"),
        "empty start": (["interpolate", "", "one"], "the first sentence is empty"),
        "line separator": (["interpolate", "one", "a\u2028b"], "the second sentence has more than one line"),
        "end token": (["reconstruct", str(ends)], f"{ends}, line 2 holds the end token inside it"),
        "two lines": (["interpolate", "one", "a\nb"], "the second sentence has more than one line"),
        "no file": (["reconstruct", str(tmp_path / "none.txt")], "there is no file"),
        "only empty lines": (["reconstruct", str(empty)], "has no sentence"),
        "encoding": (["reconstruct", str(latin)], "is not UTF-8 at byte 3"),
        "no folder": (["reconstruct", str(corpus), "--out", str(tmp_path / "no" / "x")], "make it first"),
        "no tokens": (["reconstruct", str(corpus), "--max_new_tokens", "0"], "max_new_tokens"),
        "greedy temperature": ([*interpolate, "--temperature", "2"], "temperature must be 1.0 unless do_sample"),
        "scale": (["arithmetic", "--scale", "nan", *(f"--{n}={corpus}" for n in ("plus", "minus", "on"))], "finite"),
        "plus": (["arithmetic", f"--plus={empty}", f"--minus={corpus}", f"--on={corpus}"], "--plus: "),
    }


def test_bad_input_is_told_in_one_sentence(model, corpus, tmp_path, capsys):
    for name, (arguments, message) in mistakes(corpus, tmp_path).items():
        capsys.readouterr()
        assert main([*arguments, "--ckpt", "x"]) == 2, name
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("hybridgen: error: "), name
        assert message in last, name
    assert not model.calls


def test_a_character_outside_the_vocabulary_names_file_and_line(model, corpus, capsys):
    from hybridgen.codecs import CharacterCodec

    model.codec = CharacterCodec.train(["abdgoyf nex"], specials=["eos"])
    assert main(["reconstruct", "--ckpt", "x", str(corpus)]) == 2
    assert f"{corpus}, line 6: " in capsys.readouterr().err


@pytest.mark.parametrize("command", LATENT)
def test_a_model_without_a_latent_space(command, monkeypatch, corpus, capsys):
    class LanguageModel:
        pass

    monkeypatch.setattr("hybridgen.loading.load", lambda path: LanguageModel())
    monkeypatch.setattr("hybridgen.restoring.read_contents", lambda path: {"codec": {"codec": "words"}})
    rest = {
        "reconstruct": [str(corpus)],
        "interpolate": ["one", "two"],
        "arithmetic": [f"--plus={corpus}", f"--minus={corpus}", f"--on={corpus}"],
        "nearest": ["--corpus", str(corpus), "one"],
    }[command]
    assert main([command, "--ckpt", "lm.ckpt", *rest]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "lm.ckpt holds a LanguageModel, which has no latent space of sentences: give a checkpoint of a Tex" in error


def test_help_needs_no_torch():
    code = (
        "import sys\nfrom hybridgen.cli import main\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        main([name, '--help'])\n    except SystemExit as error:\n        assert error.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    finished = subprocess.run([sys.executable, "-c", code, *LATENT, "sample"], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert all(f"usage: hybridgen {name}" in finished.stdout for name in LATENT)
    assert set(LATENT) <= set(COMMANDS)
