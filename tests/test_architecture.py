"""The whole seen as architecture: what may import what, how long a file may be, how soon the command answers."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES = 400


def lint_imports(where, configuration):
    """The linter in a process of its own: it puts the folder it is called from on the path."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()"]
    return subprocess.run(
        [*command, "--no-cache", "--no-logo", str(configuration)], cwd=where, capture_output=True, text=True
    )


def test_rooms_import_downwards_and_in_no_circle():
    finished = lint_imports(ROOT, ROOT / "pyproject.toml")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "3 kept, 0 broken" in finished.stdout


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("cells", "import pytorch_lightning"),
        ("evaluation", "from hybridgen import models"),
        ("objectives", "from hybridgen import data"),
    ],
)
def test_the_rules_see_what_breaks_them(tmp_path, room, line):
    rooms = set(re.findall(r'[a-z_]+(?=[" )|])', re.search(r"layers = \[(.*?)\]", _project(), re.DOTALL)[1]))
    package = tmp_path / "hybridgen"
    for name in ("", *sorted(rooms - {"play"})):
        (package / name).mkdir()
        (package / name / "__init__.py").touch()
    configuration = tmp_path / "pyproject.toml"
    configuration.write_text(_project())
    (package / "evaluation" / "__init__.py").write_text("import hybridgen.objectives\n")
    whole = lint_imports(tmp_path, configuration)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    (package / room / "__init__.py").write_text(line + "\n")
    broken = lint_imports(tmp_path, configuration)
    assert broken.returncode == 1
    assert f"hybridgen.{room} -> " in broken.stdout


def _project():
    return (ROOT / "pyproject.toml").read_text()


def test_files_are_short_enough_to_be_read():
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("hybridgen", "scripts")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > LINES
    }
    assert not long, f"split what has more than {LINES} lines: {long}"


def test_help_imports_nothing_that_takes_time():
    code = (
        "import sys; from hybridgen.cli import main; main(['--help']);"
        "print(sorted({'torch', 'numpy', 'pytorch_lightning', 'jsonargparse', 'wandb', 'yaml'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[]"


def test_help_takes_less_than_a_second():
    taken = []
    for _ in range(3):
        before = os.times()
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "hybridgen", "--help"], cwd=ROOT, capture_output=True, check=True)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        # What it would take on a machine that does nothing else: other tests run at the same time.
        taken.append(min(used, time.perf_counter() - started))
    assert min(taken) < 1.0
