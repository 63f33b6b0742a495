"""What is published: an archive of the source, the wheel built from it, and the command that the wheel installs."""

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import hybridgen

pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools 77 or newer")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
#: Folders beside the source that are large, or another tool's.
ASIDE = (
    ".venv",
    ".git",
    "runs",
    "wandb",
    "site",
    "build",
    "dist",
    "*.egg-info",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
)


def called(*command, cwd, **environment):
    """What a process prints, which must succeed."""
    left_out = ("PYTHONPATH", "VIRTUAL_ENV", "HYBRIDGEN_PLUGINS")
    env = {k: v for k, v in os.environ.items() if k not in left_out} | {"OMP_NUM_THREADS": "1"} | environment
    finished = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def build(kind, source, into):
    """Run a hook of the build system as pip does, without fetching the build system."""
    into.mkdir()
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    called(sys.executable, "-c", code, into, cwd=source)
    (made,) = into.iterdir()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def sdist(folder):
    source = folder / "checkout"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*ASIDE))
    (source / "runs" / "mine" / "0").mkdir(parents=True)
    (source / "runs" / "mine" / "0" / "config.yaml").write_text("private: true\n")
    return build("sdist", source, folder / "sdist")


@pytest.fixture(scope="module")
def wheel(folder, sdist):
    """Built from the archive alone: what it lacks, the wheel would lack."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    return build("wheel", source, folder / "wheel")


@pytest.fixture(scope="module")
def environment(folder, wheel):
    """An empty environment with the wheel, and the packages it needs as they lie in this one."""
    place = folder / "environment"
    called(sys.executable, "-m", "venv", "--without-pip", place, cwd=folder)
    python = place / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    called(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    # A path in a .pth file is searched, but the .pth files in that folder (an editable install's) are not read.
    packages = Path(called(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


def experiments_of(names, prefix):
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix) and not name.endswith("/")}


def test_the_archive_holds_what_building_needs(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py", "hybridgen/cli.py"} <= names
    assert not [name for name in names if name.startswith(("runs", "tests", ".venv", "site/", ".hypothesis"))]


def test_the_wheel_holds_the_package_its_experiments_and_nothing_else(folder, wheel):
    source = folder / "checkout"  # as it was when it was built
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        about = email.message_from_bytes(archive.read(metadata))
    assert wheel.name == f"hybridgen-{hybridgen.__version__}-py3-none-any.whl"
    assert about["Version"] == hybridgen.__version__
    assert about["License-Expression"] == "Apache-2.0"
    assert {name.partition("/")[0] for name in names} == {"hybridgen", metadata.partition("/")[0]}
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    kinds = (".yaml", ".json", ".md")
    here = {
        str(p.relative_to(source / "experiments")) for p in (source / "experiments").rglob("*") if p.suffix in kinds
    }
    assert experiments_of(names, "hybridgen/_experiments/") == here
    modules = {str(path.relative_to(source)) for path in (source / "hybridgen").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert {"hybridgen/py.typed", "hybridgen/report/page.html"} <= set(names)


def test_the_installed_command_trains_and_samples(environment, tmp_path):
    command = environment / "hybridgen"
    code = "import hybridgen; print(hybridgen.__file__, hybridgen.__version__)"
    where, version = called(environment / "python", "-c", code, cwd=tmp_path).split()
    assert Path(where).is_relative_to(environment.parent)
    assert version == hybridgen.__version__
    assert "usage: hybridgen COMMAND" in called(command, "--help", cwd=tmp_path)
    assert "language_model/embedded" in called(command, "config", "ls", cwd=tmp_path)
    few = ["--trainer.max_steps", 2, "--trainer.limit_val_batches", 1, "--trainer.num_sanity_val_steps", 0]
    called(command, "fit", "--config", "language_model/embedded", "--wandb", "off", *few, cwd=tmp_path)
    checkpoint = tmp_path / "runs" / "embedded" / "0" / "checkpoints" / "last.ckpt"
    sampled = called(command, "sample", "--ckpt", checkpoint, "--prompt", "The ", "--max_new_tokens", 5, cwd=tmp_path)
    assert sampled.startswith("The ")
