"""`hybridgen doctor`: on an installation that works, and on ones that do not."""

import json
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from hybridgen.cli import main
from hybridgen.commands import doctor


def test_this_installation_works(tmp_path, capsys):
    assert main(["doctor", "--quick", "--json", "--runs", str(tmp_path / "runs")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    checks = {check["name"]: check for check in found["checks"]}
    assert {"python", "torch", "torchaudio", "sound files", "sound features", "run folder", "free space"} <= set(checks)
    assert all(check["state"] in ("ok", "note") for check in found["checks"])
    assert checks["run folder"]["detail"].endswith("can be made")
    assert not (tmp_path / "runs").exists()
    assert "two processes" not in checks


@pytest.mark.distributed
def test_two_processes_find_each_other():
    assert doctor._two_processes() == "added up a number over gloo"


def broken(monkeypatch, capsys, *options):
    """The lines of what is broken."""
    assert main(["doctor", "--quick", *options]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].endswith("broken")
    return [line for line in printed if line.startswith("broken ")]


def test_a_library_that_does_not_load_is_named(monkeypatch, capsys, tmp_path):
    load = doctor.import_module

    def without(name):
        if name == "torchaudio":
            raise OSError("libc10_cuda.so: cannot open shared object file")
        return load(name)

    monkeypatch.setattr(doctor, "import_module", without)
    (line,) = broken(monkeypatch, capsys, "--runs", str(tmp_path))
    assert "libc10_cuda.so" in line
    assert "install the torchaudio that belongs to torch" in line


def test_what_is_missing_malicious_or_doubled_is_told(monkeypatch):
    versions = {"pytorch-lightning": "2.6.3"}

    def version(name):
        if name not in versions:
            raise doctor.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor, "version", version)
    state = {
        name: doctor._check(name, lambda name=name: doctor._package(name)) for name in ("mido", "pytorch-lightning")
    }
    assert state["mido"].state == "broken"
    assert "not installed" in state["mido"].detail
    assert "malicious" in state["pytorch-lightning"].detail
    versions.update({"pytorch-lightning": "2.6.6", "lightning": "2.6.6"})
    doubled = doctor._check("pytorch-lightning", lambda: doctor._package("pytorch-lightning"))
    assert doubled.state == "note"


def test_a_place_that_cannot_be_written_to_is_told(monkeypatch, capsys, tmp_path):
    def refused(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refused)
    lines = broken(monkeypatch, capsys, "--runs", str(tmp_path))
    assert all("cannot be written to (Permission denied)" in line for line in lines)
    assert str(tmp_path) in lines[0]


def test_a_full_disk_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10_000_000))
    (line,) = broken(monkeypatch, capsys, "--runs", str(tmp_path))
    assert "0.0 GiB" in line
    assert "make room" in line
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**30))
    assert doctor._check("free space", lambda: doctor._free_space(tmp_path)).state == "note"


def test_processes_that_fail_are_told(monkeypatch):
    monkeypatch.setattr(doctor, "_TWO_PROCESSES", "raise SystemExit('no route to host')")
    assert doctor._check("two processes", doctor._two_processes) == doctor.Finding(
        "two processes", "broken", "they failed to add up a number over gloo: no route to host"
    )
    monkeypatch.setattr(doctor.subprocess, "Popen", _never)
    assert "three minutes" in doctor._check("two processes", doctor._two_processes).detail


class _never:
    returncode = None

    def __init__(self, *arguments, **options):
        pass

    def communicate(self, timeout):
        raise subprocess.TimeoutExpired("python", timeout)

    def kill(self):
        pass
