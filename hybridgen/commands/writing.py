"""Files that commands write: whole or not at all."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_json_lines(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, in UTF-8; the file appears when it is complete.

    What is no file (a device, a pipe) is written into, not replaced.

    Raises:
        ValueError: if the file cannot be written; nothing of it is left.
    """
    path = Path(path)
    special = path.exists() and not path.is_file()
    partial = path if special else path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        if not special:
            partial.replace(path)
    except OSError as error:
        if not special:
            partial.unlink(missing_ok=True)
        raise ValueError(
            f"{path} cannot be written ({error.strerror}): make room, or give another place for the output"
        ) from None
