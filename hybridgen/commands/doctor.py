"""`hybridgen doctor`: whether this installation works, on this machine."""

import json
import math
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from hybridgen.commands.options import Parser

#: What is imported, by the name of the package that is installed.
PACKAGES = {
    "torch": "torch",
    "torchaudio": "torchaudio",
    "pytorch-lightning": "pytorch_lightning",
    "torchmetrics": "torchmetrics",
    "jsonargparse": "jsonargparse",
    "wandb": "wandb",
    "soundfile": "soundfile",
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "matplotlib": "matplotlib",
    "tokenizers": "tokenizers",
    "mido": "mido",
}
#: Uploads of pytorch-lightning that were malicious (GHSA-w37p-236h-pfx3).
_MALICIOUS = ("2.6.2", "2.6.3")
#: Bytes: below the first a checkpoint may not fit, below the second it is worth a word.
_TOO_LITTLE, _LITTLE = 200 * 2**20, 2 * 2**30

_TWO_PROCESSES = """
import datetime, sys, torch
rank, port = map(int, sys.argv[1:])
torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2,
                                     timeout=datetime.timedelta(seconds=60))
total = torch.tensor([rank + 1.0])
torch.distributed.all_reduce(total)
torch.distributed.destroy_process_group()
sys.exit(0 if total.item() == 3.0 else 1)
"""


class Finding(NamedTuple):
    """What a check found.

    Attributes:
        name: of the check.
        state: ``ok``, ``note`` (works, but is worth a word) or ``broken``.
        detail: what was found, or what to do.
    """

    name: str
    state: str
    detail: str


class Broken(Exception):
    """A check failed; the message says what to do."""


class Note(Exception):
    """A check passed with a word to say."""


def run(arguments: list[str]) -> int:
    """Check the installation; see `hybridgen doctor --help`. Returns 1 if something that is needed is broken."""
    parser = Parser(prog="hybridgen doctor", description=__doc__)
    parser.add_argument("--runs", default="runs", help="folder that run folders are to go to")
    parser.add_argument(
        "--quick", action="store_true", help="leave out the test with two processes, which takes longest"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    findings = examine(Path(options.runs), quick=options.quick)
    broken = [finding for finding in findings if finding.state == "broken"]
    if options.json:
        print(json.dumps({"ok": not broken, "checks": [finding._asdict() for finding in findings]}, indent=2))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{finding.state:7} {finding.name:{width}}  {finding.detail}")
        print(f"\n{len(broken)} broken" if broken else "\neverything that is needed works")
    return 1 if broken else 0


def examine(runs: Path, *, quick: bool = False) -> list[Finding]:
    """All checks.

    Args:
        runs: where run folders are to go.
        quick: leave out the test with two processes.
    """
    checks: list[tuple[str, Callable[[], str]]] = [("python", _python), ("hybridgen", _hybridgen)]
    checks += [(package, lambda package=package: _package(package)) for package in PACKAGES]
    checks += [
        ("devices", _devices),
        ("training step", _training_step),
        ("sound features", _mel),
        ("sound files", _sound_file),
        ("weights & biases", _wandb),
        ("run folder", lambda: _writable(runs)),
        ("cache folder", _cache),
        ("free space", lambda: _free_space(runs)),
    ]
    if not quick:
        checks.append(("two processes", _two_processes))
    return [_check(name, function) for name, function in checks]


def _check(name: str, function: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", function())
    except Note as note:
        return Finding(name, "note", str(note))
    except Broken as error:
        return Finding(name, "broken", str(error))
    except Exception as error:  # whatever it is: that is what the user wants to know
        return Finding(name, "broken", f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}")


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _hybridgen() -> str:
    from hybridgen import __version__

    return f"{__version__} in {Path(__file__).parents[1]}"


def _package(name: str) -> str:
    try:
        found = version(name)
    except PackageNotFoundError:
        raise Broken("not installed: install hybridgen again, with pip install hybridgen") from None
    if name == "pytorch-lightning":
        if found in _MALICIOUS:
            raise Broken(f"{found} was a malicious upload: remove it, and install 2.6.6 or newer")
        try:
            other = version("lightning")
        except PackageNotFoundError:
            pass
        else:
            raise Note(f"{found}; lightning {other} is installed, too: classes of the one do not fit the other")
    try:
        import_module(PACKAGES[name])
    except Exception as error:
        why = f"{found} cannot be imported ({type(error).__name__}: {' '.join(str(error).split())})"
        if name == "torchaudio":
            raise Broken(f"{why}: install the torchaudio that belongs to torch {version('torch')}") from None
        raise Broken(f"{why}: install it again") from None
    return found


def _devices() -> str:
    import torch

    found = [f"CPU with {os.cpu_count()} cores, {torch.get_num_threads()} threads"]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        found.append(f"{properties.name} with {properties.total_memory / 2**30:.0f} GiB")
        product = torch.ones(64, 64, device=f"cuda:{number}") @ torch.ones(64, 64, device=f"cuda:{number}")
        if float(product.sum()) != 64.0**3:
            raise Broken(f"GPU {number} ({properties.name}) multiplies wrongly")
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        raise Note(f"{found[0]}; there is an NVIDIA driver, but torch {torch.__version__} sees no GPU")
    return "; ".join(found)


def _training_step() -> str:
    import torch

    from hybridgen.cells import Stack

    places = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for place in places:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            stack = Stack("lstm", 8, 8, num_layers=2).to(place)
            outputs, _ = stack(torch.randn(2, 5, 8, device=place))
            outputs.square().mean().backward()
        if not all(bool(p.grad.isfinite().all()) for p in stack.parameters()):
            raise Broken(f"gradients of an LSTM on {place} are not finite")
    return f"an LSTM forwards and backwards on {' and '.join(places)}"


def _mel() -> str:
    import torch
    import torchaudio

    transform = torchaudio.transforms.MelSpectrogram(sample_rate=16000, n_fft=512, n_mels=40)
    mel = transform(torch.sin(torch.arange(16000) * (2 * math.pi * 440 / 16000)))
    if mel.shape[0] != 40 or not bool(mel.isfinite().all()) or float(mel.sum()) <= 0:
        raise Broken("torchaudio makes no mel spectrum of a tone")
    return f"a mel spectrum of {mel.shape[0]} bands by torchaudio"


def _sound_file() -> str:
    import numpy as np
    import soundfile

    tone = 0.5 * np.sin(np.arange(800) * (2 * math.pi * 440 / 8000))
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("wav", "flac"):
            path = Path(folder) / f"tone.{kind}"
            soundfile.write(path, tone, 8000)
            read, rate = soundfile.read(path)
            if rate != 8000 or read.shape != tone.shape or np.abs(read - tone).max() > 1e-4:
                raise Broken(f"a {kind} file does not come back as it was written")
    return "wav and flac written and read by soundfile"


def _wandb() -> str:
    from hybridgen.tracking.wandb_logger import has_wandb_key, reaches_wandb

    key, server = has_wandb_key(), reaches_wandb()
    if key and server:
        return "--wandb auto is online"
    lacks = [
        word for word, there in (("a key (wandb login)", key), ("a connection to api.wandb.ai", server)) if not there
    ]
    return f"--wandb auto is offline, for want of {' and '.join(lacks)}"


def _writable(folder: Path) -> str:
    existing = _existing(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".hybridgen-"):
            pass
    except OSError as error:
        raise Broken(f"{existing.absolute()} cannot be written to ({error.strerror}): give another place") from None
    return f"{folder.absolute()} can be {'written to' if folder.is_dir() else 'made'}"


def _cache() -> str:
    from hybridgen.data.files import cache_folder

    return _writable(cache_folder())


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _free_space(folder: Path) -> str:
    existing = _existing(folder)
    free = shutil.disk_usage(existing).free
    said = f"{free / 2**30:.1f} GiB at {existing}"
    if free < _TOO_LITTLE:
        raise Broken(f"{said}: make room, or give another place by --runs")
    if free < _LITTLE:
        raise Note(f"{said}: a few runs of a large model fill that")
    return said


def _two_processes() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    command = [sys.executable, "-c", _TWO_PROCESSES]
    told = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(rank), str(port)], **told) for rank in range(2)]
    try:
        said = [process.communicate(timeout=180)[1] for process in processes]
    except subprocess.TimeoutExpired:
        raise Broken("they did not find each other in three minutes: see the firewall for 127.0.0.1") from None
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        last = next((text.strip().splitlines()[-1] for text in said if text.strip()), "no message")
        raise Broken(f"they failed to add up a number over gloo: {last}")
    return "added up a number over gloo"
