"""Files that commands write: whole or not at all."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hybridgen.commands.options import at_home
from hybridgen.data.files import whole_file


def write_json_lines(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, in UTF-8; the file appears when it is complete.

    What is no file (a device, a pipe) is written into, not replaced.

    Raises:
        ValueError: if the file cannot be written; nothing of it is left.
    """
    try:
        with whole_file(at_home(path, "--out")) as (file, _):
            for row in rows:
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror}): make room, or give another place for the output"
        ) from None
