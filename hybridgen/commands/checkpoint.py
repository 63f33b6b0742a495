"""`hybridgen checkpoint show | verify FILE...`: what is in a checkpoint, and whether it is whole."""

import json
import math
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from hybridgen.commands.options import Parser


def run(arguments: list[str]) -> int:
    """Show what is in checkpoints or verify them; exit code 2 if one is not whole."""
    parser = Parser(prog="hybridgen checkpoint", description="What is in a checkpoint, and whether it is whole.")
    parser.add_argument("action", choices=("show", "verify"), help="show its contents, or verify that it is whole")
    parser.add_argument("files", nargs="+", metavar="FILE", help="checkpoints, or run folders for all of theirs")
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each file")
    options = parser.parse_args(arguments)

    from hybridgen.reliability.verify import CheckpointError

    worst = 0
    for path in _files(options.files):
        # Whatever is wrong with one, the others are looked at.
        try:
            row = _verified(path) if options.action == "verify" else _shown(path)
        except CheckpointError as error:
            worst = 2
            _tell_error(path, str(error), as_json=options.json)
        else:
            _tell(row, options)
    return worst


def _files(given: list[str]) -> list[Path]:
    """The checkpoints that are meant; a folder without any stands for itself."""
    from hybridgen.reliability.verify import candidates

    found: list[Path] = []
    for path in map(Path, given):
        # Asked of the path as a text, a name that no file can have is no folder, instead of an error.
        folder = path / "checkpoints" if os.path.isdir(path / "checkpoints") else path
        found += (candidates(folder) if os.path.isdir(folder) else []) or [path]
    return found


def _tell(row: dict[str, Any], options: Namespace) -> None:
    if options.json:
        print(json.dumps(_plain(row), allow_nan=False))
    elif options.action == "verify":
        print(f"{row['file']}: whole ({row['by']}, {row['bytes']:,} bytes)")
    else:
        for name, value in row.items():
            print(f"{name:16}{json.dumps(_plain(value)) if isinstance(value, dict | list) else value}")
        print()


def _tell_error(path: Path, sentence: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"file": str(path), "whole": False, "error": sentence}))
    else:
        print(f"hybridgen: error: {sentence}", file=sys.stderr)


def _plain(value: Any) -> Any:
    """What JSON can hold: null for a number that is not finite, and the kind alone of what no option ever is."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float) or value is None else f"a {type(value).__name__}"


def _verified(path: Path) -> dict[str, Any]:
    from hybridgen.reliability.verify import CheckpointError, verify

    if os.path.isdir(path):
        raise CheckpointError(f"there is no checkpoint in {path}: give a .ckpt file or a run folder")
    by = verify(path)
    return {"file": str(path), "whole": True, "by": by, "bytes": path.stat().st_size}


def _shown(path: Path) -> dict[str, Any]:
    from hybridgen.reliability.verify import read

    by = _verified(path)
    checkpoint = read(path)
    weights = [value for value in checkpoint["state_dict"].values() if hasattr(value, "numel")]
    resume = checkpoint.get("hybridgen_resume") or {}
    codec = checkpoint.get("codec") or {}
    metrics, ranks = resume.get("metrics"), resume.get("ranks")
    metrics = metrics if isinstance(metrics, dict) else {}
    return {
        "file": str(path),
        "bytes": by["bytes"],
        "whole by": by["by"],
        "model": checkpoint["hybridgen_model"],
        "codec": codec.get("codec") or codec.get("name") or codec.get("kind"),
        "epoch": checkpoint.get("epoch"),
        "step": checkpoint.get("global_step"),
        "saved at": resume.get("place", "unknown"),
        "processes": len(ranks) if isinstance(ranks, list | tuple) and ranks else 1,
        "weights": sum(value.numel() for value in weights),
        "tensors": len(weights),
        "metrics": {name: _number(metrics[name]) for name in sorted(metrics, key=str)},
        "lightning": checkpoint.get("pytorch-lightning_version"),
        "options": {name: value for name, value in checkpoint["options"].items() if value is not None},
    }


def _number(value: Any) -> Any:
    """A logged value, which a checkpoint has as a tensor of one number."""
    return float(value) if hasattr(value, "numel") and value.numel() == 1 else value
