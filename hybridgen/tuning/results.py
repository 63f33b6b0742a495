"""What a study found: a table, pictures and the best configuration."""

import csv
import io
from collections import defaultdict
from pathlib import Path
from typing import Any

from hybridgen.data.files import whole_file, write_text
from hybridgen.tuning.study import Study


def write_results(study: Study) -> dict[str, Path]:
    """Write trials.csv, validation_curve.png, importance.png (with several options) and best.yaml.

    Args:
        study: with at least one complete trial.

    Returns:
        What was written, by its name.

    Raises:
        ValueError: if no trial was completed.
    """
    complete = [trial for trial in study.study.trials if trial.state.name == "COMPLETE"]
    if not complete:
        raise ValueError("no trial was completed: there is no result; see the .log files of the trials")
    written = {"trials.csv": _table(study)}
    best = min(complete, key=lambda trial: trial.value)
    path = study.folder / "best.yaml"
    head = f"# Trial {best.number} of {len(study.study.trials)}: {study.monitor} {best.value:.5g}"
    write_text(path, f"{head}\n{best.user_attrs['config']}")
    written["best.yaml"] = path
    written["validation_curve.png"] = _curves(study, complete)
    importance = _importance(study, complete)
    if importance is not None:
        written["importance.png"] = importance
    return written


def rows_of(study: Study) -> list[dict[str, Any]]:
    """The trials as rows, best first, those without a value last."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            study.monitor: trial.value if trial.state.name == "COMPLETE" else None,
            "validations": len(trial.intermediate_values),
            "seconds": trial.user_attrs.get("seconds"),
            **{name: trial.params.get(name) for name in study.space.options},
            "run": trial.user_attrs.get("run"),
        }
        for trial in study.study.trials
    ]
    return sorted(rows, key=lambda row: (row[study.monitor] is None, row[study.monitor] or 0.0, row["trial"]))


def _table(study: Study) -> Path:
    rows = rows_of(study)
    path = study.folder / "trials.csv"
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, table.getvalue())
    return path


def _curves(study: Study, complete: list[Any]) -> Path:
    """The monitored value against each option: every trial a dot, the mean of equal values a line."""
    from matplotlib.figure import Figure

    names = list(study.space.options)
    figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        groups: dict[Any, list[float]] = defaultdict(list)
        for trial in complete:
            groups[trial.params[name]].append(trial.value)
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in groups)
        order = sorted(groups) if numeric else sorted(groups, key=str)
        places = order if numeric else range(len(order))
        means = [sum(groups[value]) / len(groups[value]) for value in order]
        for place, value in zip(places, order, strict=True):
            axes.plot([place] * len(groups[value]), groups[value], "o", color="tab:blue", alpha=0.6)
        axes.plot(places, means, "-" if numeric else "_", color="tab:orange", markersize=14)
        if numeric and min(order) > 0 and max(order) / min(order) >= 8:
            axes.set_xscale("log")
        if numeric and len(order) <= 8:
            axes.set_xticks(order, [f"{value:g}" for value in order], minor=False)
            axes.minorticks_off()
        elif not numeric:
            axes.set_xticks(list(places), [str(value) for value in order], rotation=20)
        axes.set_xlabel(name)
        axes.set_ylabel(study.monitor if number == 0 else "")
    return _draw(figure, study.folder / "validation_curve.png")


def _importance(study: Study, complete: list[Any]) -> Path | None:
    """How much of the variance each option explains (fANOVA, Hutter et al. 2014); None where it says nothing."""
    varied = [name for name in study.space.options if len({trial.params[name] for trial in complete}) > 1]
    if len(varied) < 2 or len(complete) < 4 or len({trial.value for trial in complete}) < 2:
        return None
    import optuna
    from matplotlib.figure import Figure

    found = optuna.importance.get_param_importances(
        study.study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0), params=varied
    )
    names = sorted(found, key=found.get)
    figure = Figure(figsize=(6, 1.2 + 0.4 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, [found[name] for name in names], color="tab:blue")
    axes.set_xlabel(f"share of the variance of {study.monitor}")
    return _draw(figure, study.folder / "importance.png")


def _draw(figure: Any, path: Path) -> Path:
    """Write a picture, whole or not at all."""
    with whole_file(path) as (handle, _):
        figure.savefig(handle, format="png", dpi=120)
    return path
