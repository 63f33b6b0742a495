"""Sections left empty, names that look like numbers, classes without their modules."""

import io
import sys

import pytest
import yaml

from hybridgen import experiments
from hybridgen.cli import main
from hybridgen.commands.as_meant import as_meant
from hybridgen.commands.latent import read_sentences
from hybridgen.commands.options import at_home, check_out_file, one_sentence, read_text
from hybridgen.commands.sample import _prompt
from hybridgen.commands.tune import read_config
from hybridgen.commands.writing import write_json_lines

HEAD = "model:\n  class_path: hybridgen.models.LanguageModel\ndata:\n  class_path: hybridgen.data.TextData\n"
SMALL = """
model:
  class_path: hybridgen.models.LanguageModel
  init_args: {stack: {cell: gru, hidden_size: 4, num_layers: 1}, embedding_size: 4}
data:
  class_path: hybridgen.data.TextData
  init_args: {source: text.txt, batch_size: 2, bptt: 8, cache_dir: cache}
trainer: {max_steps: 1, accelerator: cpu, enable_progress_bar: false, num_sanity_val_steps: 0, limit_val_batches: 1}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainer:\nname: x", {"name": "x"}),
        ("model: {class_path: a.B, init_args: }", {"model": {"class_path": "a.B"}}),
        ("model: {init_args: }", {}),
        ("trainer: {callbacks: [{class_path: a.B, init_args: }]}", {"trainer": {"callbacks": [{"class_path": "a.B"}]}}),
        ("name: 007\nruns: 1.10", {"name": "007", "runs": "1.10"}),
        ("name: yes\nmonitor:", {"name": "yes", "monitor": None}),
        ("wandb: off", {"wandb": "off"}),
        ("wandb: false", {"wandb": "off"}),
        ("wandb: on", {"wandb": "on"}),
        ("wandb:", {}),
        ("seed_everything:\nname: [1]", {"seed_everything": None, "name": [1]}),
        ("a: {name: 7, init_args: }", {"a": {"name": 7, "init_args": None}}),
        ("7", 7),
    ],
)
def test_what_a_configuration_means(text, expected):
    assert as_meant(yaml.safe_load(text), text) == expected


WRONG = {
    "short": (HEAD.replace("hybridgen.models.", ""), "model.class_path is LanguageModel: give hybridgen.models.Lang"),
    "short_data": (HEAD.replace("hybridgen.data.", ""), "data.class_path is TextData: give hybridgen.data.TextData"),
    "misspelt": (HEAD.replace("hybridgen.models.LanguageModel", "LanguageModle"), "give hybridgen.models.LanguageMode"),
    "far": (HEAD.replace("hybridgen.models.LanguageModel", "Xyz"), "hybridgen.models.TextVAE or hybridgen.models.Vari"),
    "word": ("model: LanguageModel\ndata: TextData\n", "model is LanguageModel: give hybridgen.models.LanguageModel"),
    "beside": (
        HEAD.replace("data:", "  learning_rate: 1\ndata:"),
        "model has learning_rate beside class_path: put lea",
    ),
    "number": ("model: 5\n", "model is 5: give class_path and init_args below it"),
    "trainer": (HEAD + "trainer: 3\n", "trainer is 3: give options below it"),
    "auto": (HEAD + "trainer: auto\n", "trainer is auto: give options below it"),
    "no_model": (
        "data: {class_path: hybridgen.data.TextData}\nmodel:\n",
        "there is no model: give a configuration with",
    ),
    "callback": (
        HEAD + "trainer: {callbacks: [{class_path: hybridgen.tracking.averaging.ExponentialAveraging, decay: 0.1}]}\n",
        "trainer.callbacks: give class_path, and the options of the class below init_args",
    ),
}


def test_each_mistake_is_named_and_the_next_file_is_looked_at(here, capsys):
    for name, (text, _) in WRONG.items():
        (here / f"{name}.yaml").write_text(text)
    (here / "empty.yaml").write_text(
        HEAD.replace("data:", "  init_args:\ndata:") + "  init_args:\ntrainer:\nwandb: off"
    )
    assert main(["config", "validate", "empty.yaml", *(f"{name}.yaml" for name in WRONG), "empty.yaml"]) == 2
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == last == "empty.yaml: OK"
    for line, (name, (_, sentence)) in zip(lines, WRONG.items(), strict=True):
        assert line.startswith(f"{name}.yaml: ")
        assert sentence in line


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["--model", "Xyz"], "model is Xyz: give hybridgen.models."),
        (["--model", "{class_path: hybridgen.models.LanguageModel, learning_rate: 1}"], "put it below init_args"),
    ],
)
def test_the_command_line_is_told_the_same(line, sentence, here, capsys):
    try:
        code = main(["fit", *line])
    except SystemExit as leaving:
        code = leaving.code
    assert code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(("name", "runs"), [("2024", "runs"), ("007", "1.10"), ("2024-01-05", "2024")])
def test_runs_may_have_numbers_for_names(name, runs, here, capsys):
    (here / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 30)
    (here / "small.yaml").write_text(f"{SMALL}name: {name}\nruns: {runs}\nwandb: off\n")
    assert main(["fit", "--config", "small.yaml"]) == 0, capsys.readouterr().err
    folder = here / runs / name / "0"
    assert yaml.safe_load((folder / "config.yaml").read_text())["name"] == name
    assert main(["config", "validate", str(folder / "config.yaml")]) == 0


def test_what_was_tried_ends_with_what_came_of_it():
    tried = "  - Problem with a:\n      it is odd\n  - Expected a <class 'NoneType'>\n"
    message = f'Parser key "m":\n{tried}  Given value type: x'
    assert one_sentence(message) == "Problem with a: it is odd"


def test_tune_reads_the_same(here):
    (here / "a.yaml").write_text(HEAD + "trainer:\n")
    assert "trainer" not in read_config(here / "a.yaml")


def test_a_folder_of_an_experiments_name_is_not_in_its_way(here):
    (here / "tinyshakespeare").mkdir()
    known = experiments.experiments_folder() / "language_model" / "tinyshakespeare.yaml"
    assert experiments.find("tinyshakespeare") == known
    (here / "mine").mkdir()
    with pytest.raises(ValueError, match="--config: mine is a folder"):
        experiments.find("mine")


def test_a_byte_order_mark_is_no_text(here, monkeypatch):
    (here / "a.txt").write_bytes(b"\xef\xbb\xbfone\n\ntwo")
    assert read_text("a.txt", "--text") == _prompt(None, "a.txt") == "one\n\ntwo"
    assert [sentence.text for sentence in read_sentences("a.txt")] == ["one", "two"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufeffone"))
    assert _prompt("-", None) == "one"
    (here / "b.txt").write_bytes(b"a\xff")
    with pytest.raises(ValueError, match=r"--text: b\.txt is not UTF-8 at byte 1"):
        read_text("b.txt", "--text")


def test_the_users_own_folder(here, monkeypatch, capsys):
    home = here / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    check_out_file("~/x.jsonl")
    write_json_lines("~/x.jsonl", [{"a": 1}])
    assert (home / "x.jsonl").read_text() == '{"a": 1}\n'
    with pytest.raises(ValueError, match="--out: there is no folder"):
        check_out_file("~/no/x.jsonl")
    with pytest.raises(ValueError, match="whom this machine does not know"):
        at_home("~nobody-of-that-name/x", "--out")
    # What is wrong is the checkpoint, which is looked at after the place of the output.
    assert main(["sample", "--ckpt", "none.ckpt", "--out=~/x.csv"]) == 2
    assert "none.ckpt" in capsys.readouterr().err
