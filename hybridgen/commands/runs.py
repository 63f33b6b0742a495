"""`hybridgen runs`: the runs on this disk."""

import json
import time
from typing import Any

from hybridgen.commands.options import Parser
from hybridgen.report.wording import duration


def run(arguments: list[str]) -> int:
    """Print a table of the runs, newest first, or JSON."""
    parser = Parser(prog="hybridgen runs", description="The runs in a folder, newest first.")
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder that run folders are in (default runs)")
    parser.add_argument("--json", action="store_true", help="as a JSON list, with more")
    options = parser.parse_args(arguments)

    from hybridgen.report.run_folder import find_runs, summary

    found = [summary(each) for each in find_runs(options.runs)]
    if options.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    elif not found:
        print(f"no runs in {options.runs}")
    else:
        _table([_row(each) for each in found])
    return 0


_COLUMNS = ("run", "model", "data", "state", "epochs", "best", "begun", "took", "parameters")
_NUMBERS = ("epochs", "took", "parameters")


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    best = "" if run["best"] is None else f"{run['monitor']} {run['best']:.4g}"
    begun = time.strftime("%d %b %Y %H:%M", time.localtime(run["started"]))
    size = "" if run["parameters"] is None else f"{run['parameters']:,}"
    return (
        _printable(run["name"]),
        _printable(run["model"] or "?"),
        _printable(run["data"] or "?"),
        _printable(run["state"]),
        str(run["epochs"]),
        _printable(best),
        begun,
        duration(run["seconds"]),
        size,
    )


def _printable(text: str, most: int = 48) -> str:
    """On one line, without what would move a terminal's cursor."""
    text = "".join(each if each.isprintable() else " " for each in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in [_COLUMNS, *rows]) for i in range(len(_COLUMNS))]
    for row in [_COLUMNS, tuple("-" * width for width in widths), *rows]:
        cells = [
            cell.rjust(width) if name in _NUMBERS else cell.ljust(width)
            for name, cell, width in zip(_COLUMNS, row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())
