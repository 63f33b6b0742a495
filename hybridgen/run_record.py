"""Reading ``run.json``, in which a run says what it is (:class:`hybridgen.tracking.record.RunRecord` writes it).

Imports nothing heavy: a list of runs must be there at once.
"""

import json
from pathlib import Path
from typing import Any

#: The file's name.
RECORD = "run.json"


def read_record(folder: Path) -> dict[str, Any]:
    """What a run says of itself; empty where it does not, or where the file is no longer whole."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def process_started(process: int) -> str | None:
    """When a process of this machine began, in a form that tells it from a later one of the same number."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
