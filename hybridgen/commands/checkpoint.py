"""`hybridgen checkpoint show | verify FILE...`: what is in a checkpoint, and whether it is whole."""

import json
import sys
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
        try:
            row = _verified(path) if options.action == "verify" else _shown(path)
        except CheckpointError as error:
            worst = 2
            if options.json:
                print(json.dumps({"file": str(path), "whole": False, "error": str(error)}))
            else:
                print(f"hybridgen: error: {error}", file=sys.stderr)
            continue
        if options.json:
            print(json.dumps(row))
        elif options.action == "verify":
            print(f"{path}: whole ({row['by']}, {row['bytes']:,} bytes)")
        else:
            for name, value in row.items():
                print(f"{name:16}{json.dumps(value) if isinstance(value, dict | list) else value}")
            print()
    return worst


def _files(given: list[str]) -> list[Path]:
    from hybridgen.reliability.verify import CheckpointError, candidates

    found: list[Path] = []
    for name in given:
        path = Path(name)
        if not path.is_dir():
            found.append(path)
            continue
        inside = candidates(path / "checkpoints" if (path / "checkpoints").is_dir() else path)
        if not inside:
            raise CheckpointError(f"there is no checkpoint in {path}: give a .ckpt file or a run folder")
        found += inside
    return found


def _verified(path: Path) -> dict[str, Any]:
    from hybridgen.reliability.verify import verify

    by = verify(path)
    return {"file": str(path), "whole": True, "by": by, "bytes": path.stat().st_size}


def _shown(path: Path) -> dict[str, Any]:
    from hybridgen.reliability.verify import read

    by = _verified(path)
    checkpoint = read(path)
    weights = checkpoint["state_dict"]
    resume = checkpoint.get("hybridgen_resume") or {}
    codec = checkpoint.get("codec") or {}
    return {
        "file": str(path),
        "bytes": by["bytes"],
        "whole by": by["by"],
        "model": checkpoint["hybridgen_model"],
        "codec": codec.get("codec") or codec.get("name") or codec.get("kind"),
        "epoch": checkpoint.get("epoch"),
        "step": checkpoint.get("global_step"),
        "saved at": resume.get("place", "unknown"),
        "processes": len(resume.get("ranks") or [None]),
        "weights": sum(value.numel() for value in weights.values()),
        "tensors": len(weights),
        "metrics": {name: float(value) for name, value in sorted((resume.get("metrics") or {}).items())},
        "lightning": checkpoint.get("pytorch-lightning_version"),
        "options": {name: value for name, value in checkpoint["options"].items() if value is not None},
    }
