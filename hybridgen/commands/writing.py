"""Files that commands write: whole or not at all."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_json_lines(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, in UTF-8; the file appears when it is complete."""
    partial = Path(path).with_name(Path(path).name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    partial.replace(path)
