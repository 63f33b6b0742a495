"""What the documents say is run: every Python example, every make target, every cell."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hybridgen import cells, codecs, heads, models
from hybridgen.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])


def blocks(language):
    for path in DOCUMENTS:
        for number, code in enumerate(re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)):
            yield pytest.param(code, id=f"{path.name}-{number}")


@pytest.fixture
def _registry_as_it_was():
    tables = [cells.registry._CELLS, models._OWN, codecs.registry._ALL, codecs.registry._TEXT]
    tables += [heads.registry._HEADS, heads.registry._CLASS_HEADS, heads.registry._ELEMENT_HEADS]
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)


def export_small(folder):
    """What an example of exporting.md reads: the int8 files of a language model, in the folder ``small``."""
    codec = codecs.CharacterCodec.train(["The reader of an example. "])
    model = models.LanguageModel(stack={"cell": "lstm", "hidden_size": 32}, embedding_size=32, codec=codec.to_config())
    saved = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(saved)
    torch.save(saved, folder / "model.ckpt")
    options = ["--ckpt", str(folder / "model.ckpt"), "--format", "int8", "--out", str(folder / "small")]
    assert main(["export", *options]) == 0


@pytest.mark.usefixtures("_registry_as_it_was")
@pytest.mark.parametrize("code", list(blocks("python")))
def test_python_examples_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if 'load_network("small")' in code:
        export_small(tmp_path)
    exec(compile(code, "example", "exec"), {})


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = {target for code in blocks("bash") for target in re.findall(r"^make (\w+)", code.values[0], re.MULTILINE)}
    assert {"demo", "test"} <= named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_every_cell_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in cells.names())


def test_links_lead_somewhere():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
            assert target.startswith("https://") or (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_site_is_built_without_a_broken_link(tmp_path):
    pytest.importorskip("mkdocs", reason="the site needs the extra `docs`")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    built = {path.parent.name for path in (tmp_path / "site").glob("*/index.html")}
    assert {page.replace(".", "") for page in pages} <= {name.replace(".", "") for name in built}
    for room in (cells, codecs, heads, models):
        reference = (tmp_path / "site" / "reference" / room.__name__.rpartition(".")[2] / "index.html").read_text()
        assert [name for name in room.__all__ if f'id="{room.__name__}.{name}"' not in reference] == []
        assert not re.search(r":(?:func|class|meth|mod):", reference)


def test_every_command_is_told_of_in_the_documents():
    text = "".join(path.read_text() for path in DOCUMENTS)
    assert all(re.search(rf"hybridgen {name}\b|`{name}`|\b{name} \|", text) for name in COMMANDS)
