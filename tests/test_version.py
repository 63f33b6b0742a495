"""One version: the package, its metadata, the citation file and the changelog agree."""

import ast
import re
from datetime import date
from pathlib import Path

import yaml

import hybridgen
from hybridgen.cli import main

ROOT = Path(__file__).parent.parent


def test_the_version_is_written_once():
    project = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in project
    assert 'version = {attr = "hybridgen.__version__"}' in project
    assert not re.search(r'^version = "', project, re.MULTILINE)


def test_the_version_is_read_without_importing():
    # setuptools imports the package, and so torch, unless the assignment is a plain string.
    tree = ast.parse((ROOT / "hybridgen" / "__init__.py").read_text())
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__version__"
    ]
    assert [ast.literal_eval(value) for value in values] == [hybridgen.__version__]


def test_the_citation_and_the_changelog_tell_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    releases = re.findall(r"^## (\d\S*) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == hybridgen.__version__
    assert releases[0] == (hybridgen.__version__, str(citation["date-released"]))
    assert all(date.fromisoformat(day) for _, day in releases)


def test_changes_to_come_stand_above_the_releases():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"


def test_the_command_prints_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hybridgen {hybridgen.__version__}\n"
