"""Commands of the README and of the getting-started pages run as they stand there, but for the size of trainings."""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from command_line import hybridgen

from hybridgen import experiments
from hybridgen.codecs import PianoRollCodec
from hybridgen.data.pianoroll_files import write_rolls

ROOT = Path(__file__).parent.parent
README, START = ROOT / "README.md", ROOT / "docs" / "getting_started.md"
#: What is appended so that nothing takes minutes: a training has two batches, a study one trial.
SMALL = {
    "fit": "--trainer.max_epochs 1 --trainer.limit_train_batches 2 --trainer.limit_val_batches 1 "
    "--trainer.check_val_every_n_epoch 1 --trainer.val_check_interval 1.0 --trainer.num_sanity_val_steps 0 "
    "--trainer.enable_progress_bar false --wandb off",
    "test": "--trainer.limit_test_batches 1 --trainer.enable_progress_bar false",
    "predict": "--trainer.limit_predict_batches 1 --trainer.enable_progress_bar false",
    "evaluate": "--runs 1 --iterations 0.002",  # of series alone: images have no such scores
    "tune": "--trials 1 --config small.yaml",
}


def sections(path):
    """The lines of each bash block, with the heading above it; comments and empty lines left out."""
    heading = ""
    for part in re.finditer(r"^#+ (?P<heading>[^\n]+)$|^```bash\n(?P<code>.*?)^```", path.read_text(), re.M | re.S):
        if part["heading"]:
            heading = part["heading"]
            continue
        lines = [shlex.split(line, comments=True) for line in part["code"].splitlines()]
        yield heading, [words for words in lines if words]


def what_a_reader_has(folder):
    """Files that stand in the examples for the reader's own."""
    (folder / "my_texts").mkdir()
    for number in range(20):
        (folder / "my_texts" / f"{number}.txt").write_text("one two three, four five six.\n" * 200)
    rows = "".join(f"{i},{(i % 24) / 24},{(i % 7) / 7}\n" for i in range(600))
    (folder / "table.csv").write_text("time,load,wind\n" + rows)
    random = np.random.default_rng(0)
    (folder / "my_sounds").mkdir()
    for number in range(20):
        soundfile.write(folder / "my_sounds" / f"{number}.wav", 0.1 * random.standard_normal(8000), 8000)
    write_rolls([random.random((32, 88)) < 0.05 for _ in range(20)], folder / "my_midi", PianoRollCodec())
    config = yaml.safe_load(experiments.find("language_model/embedded").read_text())
    config["trainer"] |= {"limit_train_batches": 2, "limit_val_batches": 1, "enable_progress_bar": False}
    (folder / "small.yaml").write_text(yaml.safe_dump(config))


def run(words, folder):
    """Run one line in a folder."""
    if words[0] == "make":
        finished = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
        recipes = [shlex.split(line)[1:] for line in finished.stdout.splitlines() if "bin/hybridgen report" in line]
        assert words[1] != "demo" or recipes  # what it runs is run by the other sections
    elif words[0] == "source":
        assert words[1] == ".venv/bin/activate"
        assert re.search(r"^VENV := \.venv$", (ROOT / "Makefile").read_text(), re.M)
    else:
        assert words[0] == "hybridgen", f"nothing runs {words[0]}: say here how"
        small = "" if words[1] == "evaluate" and "digits" in shlex.join(words) else SMALL.get(words[1], "")
        finished = hybridgen(*words[1:], *small.split(), cwd=folder)
        assert finished.returncode == 0, f"{shlex.join(words)}\n{finished.stdout}\n{finished.stderr}"


@pytest.mark.parametrize(("heading", "lines"), [pytest.param(h, lines, id=h) for h, lines in sections(README)])
def test_commands_of_the_readme(heading, lines, tmp_path):
    what_a_reader_has(tmp_path)
    for words in lines:
        run(words, tmp_path)


def test_commands_of_getting_started(tmp_path):
    what_a_reader_has(tmp_path)
    assert len(list(sections(START))) >= 4
    for _, lines in sections(START):
        for words in lines:
            run(words, tmp_path)


def test_the_chinese_page_gives_the_same_commands():
    chinese = [lines for _, lines in sections(START.with_suffix(".zh.md"))]
    assert chinese == [lines for _, lines in sections(START)]


def test_the_sections_are_found():
    found = dict(sections(README))
    assert len(found) >= 7
    assert ["hybridgen", "config", "ls"] in found["Any model"]
    assert all(len(lines) >= 2 for lines in found.values())


def test_a_wrong_option_is_seen(tmp_path):
    with pytest.raises(AssertionError, match="hybridgen config lss"):
        run(["hybridgen", "config", "lss"], tmp_path)


@pytest.mark.parametrize("document", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_scripts_that_documents_name_take_these_options(document):
    for command in re.findall(r"(?<!/)\bscripts/\w+\.(?:py|sh)[^`\n]*", document.read_text()):
        path, *options = command.split()
        script = ROOT / path.rstrip("`,.;:)")
        assert script.is_file(), f"{document.name} names {path}"
        passes_on = '"$@"' in script.read_text()  # a launcher gives its options to `hybridgen fit`
        for option in (each for each in options if each.startswith("--") and not passes_on):
            assert f'"{option}"' in script.read_text(), f"{document.name}: {path} has no {option}"
