"""The figures of a run beside those that were recorded and published for its experiment."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hybridgen import experiments
from hybridgen.report.run_folder import Run
from hybridgen.tracking.figures import FIGURES


@dataclass
class Row:
    """A line of the table: who, which figure, and by which convention it was counted."""

    system: str
    metric: str
    value: str
    note: str
    kind: str


@dataclass
class Results:
    """Figures, and the experiment whose configuration the run has (empty without one)."""

    experiment: str
    rows: list[Row]


def results_of(run: Run) -> Results:
    """The run's own figures, and the recorded and the published ones where its configuration is an experiment's."""
    rows = own_rows(run)
    name = experiment_of(run.config)
    if name:
        folder, key = experiments.experiments_folder(), name.replace("/", "-")
        recorded = _read(folder / "results" / f"{key}.json")
        published = recorded.get("published") or _read(folder / "published.json").get(key) or []
        metrics = _metrics(recorded)
        shown = {each.get("metric") for each in published} | {row.metric for row in rows}
        shown = [metric for metric in metrics if metric in shown] or list(metrics)
        seeds = len(recorded.get("seeds") or [])
        for metric in shown:
            figure = metrics[metric]
            value = _number(figure.get("mean"))
            if figure.get("std") is not None:
                value += f" ± {_number(figure['std'])}"
            note = f"{seeds} seed{'s' if seeds != 1 else ''}, {recorded.get('machine', '')}"
            rows.append(Row(f"recorded for {name}", metric, value, note, "recorded"))
        for each in published:
            note = ", ".join(str(each[part]) for part in ("convention", "source") if each.get(part))
            rows.append(Row(str(each["system"]), str(each["metric"]), _number(each["value"]), note, "published"))
    order = {metric: place for place, metric in enumerate(dict.fromkeys(row.metric for row in rows))}
    return Results(name, sorted(rows, key=lambda row: order[row.metric]))


def own_rows(run: Run) -> list[Row]:
    """What ``hybridgen test`` and ``hybridgen evaluate`` wrote into the run folder, and the best validation."""
    rows = []
    tested = _read(run.folder / FIGURES)
    part = " on a part of the data" if tested.get("limit_test_batches") is not None else ""
    for name, value in _metrics(tested).items():
        rows.append(
            Row("this run", str(name), _number(value), f"hybridgen test, {tested.get('checkpoint')}{part}", "own")
        )
    for path in [*sorted(run.folder.glob("*/evaluation.json")), run.folder / "evaluation.json"]:
        found = _read(path)
        for name, value in _metrics(found).items():
            part = "" if found.get("iterations", 1) == 1 else f", {found['iterations']} of the published iterations"
            rows.append(Row("this run", str(name), _number(value), f"hybridgen evaluate{part}", "own"))
    if run.best is not None:
        rows.append(Row("this run", str(run.monitor), _number(run.best), "best validation", "own"))
    return rows


def experiment_of(config: dict[str, Any]) -> str:
    """The experiment whose configuration this is: everything that it says of model and data holds here.

    Where several do, the one that says most; the length of training and the machine may differ.
    """
    best, most = "", 0
    for name in experiments.names():
        try:
            wanted = yaml.safe_load(experiments.find(name).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError):
            continue
        parts = {part: wanted.get(part) for part in ("model", "data")}
        said = len(json.dumps(parts))
        if said > most and _within(parts, config):
            best, most = name, said
    return best


def _within(wanted: Any, given: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(given, dict) and all(_within(value, given.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(given, list) and len(wanted) == len(given) and all(map(_within, wanted, given))
    return wanted == given and isinstance(wanted, bool) == isinstance(given, bool)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _metrics(found: dict[str, Any]) -> dict[str, Any]:
    metrics = found.get("metrics")
    return metrics if isinstance(metrics, dict) else {}


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
