"""Write the table of results in experiments/README.md from experiments/results/*.json.

    python scripts/results_table.py            # writes it
    python scripts/results_table.py --check    # only tells whether it is up to date: exit code 1 if not

A row is one figure that something published compares with. Ours is bold where it is at least as good as the published
figure beside it. What has no figure yet is listed below the table.
"""

import argparse
import html
import json
import sys
from pathlib import Path
from typing import Any

from hybridgen import experiments

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
#: Figures of which more is better, by how their names end; of all others less is.
MORE_IS_BETTER = ("accuracy", "score_ratio", "active_units", "coverage", "recall", "precision")
#: Figures of tables that compare things of ours, where they have them.
OWN_FIGURES = (
    "discriminative_score",
    "train_recall",
    "train_coverage",
    "train_precision",
    "memorisation_ratio",
    "test/elbo_per_frame",
    "test/nats_per_frame",
    "test/nats_per_frame_skip_first",
    "test/elbo_nats",
    "test/perplexity_elbo",
    "test/iwae20_nats",
    "test/kl_nats",
    "test/mutual_information",
    "test/active_units",
    "test/shuffle_change",
    "copy_memory",
    "adding",
    "tinyshakespeare",
    "jsb",
    "time_to_lstm",
    "peak_mib",
    "parameters",
    "seconds",
)
#: What a person would call some of them.
HEADINGS = {"seconds": "training", "time_to_lstm": "time, lstm = 1", "peak_mib": "peak MiB"}
#: What the figures of such a table are.
NOTES = {
    "cells/zoo": (
        "Less is better. Copy memory: nats a symbol (nothing learned: ln 8 = 2.079). Adding: mean square error (0.167 "
        "is nothing learned). tinyshakespeare: nats a character. jsb: nats a frame, frames 2..T. Then time and peak "
        "memory of a training step."
    ),
    "variational_rnn/cells": "JSB chorales, one layer of each cell at equal parameters. Less is better.",
    "text_vae/collapse": "Nats a sentence of the test text, sums; what the latent says beside what it costs.",
}
#: What is shown where nothing published compares: the first of these that a result has, else its first figure.
TELLING = ("label_accuracy", "discriminative_score", "test/nats_per_sentence")
#: What is shown of a result although nothing published compares, beside what does.
FURTHER = {
    "text_vae/ptb": ("test/iwae500_nats",),
    "text_vae/ptb_informative": ("test/iwae500_nats", "test/kl_nats", "test/mutual_information", "test/active_units"),
}
#: Runs on data that come with the toolkit, for a look.
DEMONSTRATIONS = ("embedded", "collapse")


def main() -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if it would")
    options = parser.parse_args()
    readme = ROOT / "experiments" / "README.md"
    text = readme.read_text(encoding="utf-8")
    new = with_table(text, read_results(ROOT / "experiments" / "results"), experiments.names())
    if options.check:
        print(f"{readme} is {'up to date' if new == text else 'out of date: run scripts/results_table.py'}")
        return int(new != text)
    readme.write_text(new, encoding="utf-8")
    return 0


def read_results(folder: Path) -> list[dict[str, Any]]:
    """All results, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def with_table(text: str, results: list[dict[str, Any]], names: list[str]) -> str:
    """The document with the table of these results between its marks.

    Raises:
        ValueError: if it has no marks.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"the document must hold {BEGIN} and {END} once each")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    compared = [result for result in results if "metrics" in result]
    lines = ["| experiment | figure | ours | published | parameters | training |", "|---|---|---|---|---:|---:|"]
    lines += [row for result in compared for row in rows_of(result)]
    lines += [line for result in results if "metrics" not in result for line in own_table(result)]
    measured = {result["experiment"] for result in results}
    missing = [name for name in names if name not in measured and name.rpartition("/")[2] not in DEMONSTRATIONS]
    lines += ["", "Commands and machines:", ""]
    lines += [f"* `{result['command']}` ({result['machine']})" for result in results]
    if missing:
        lines += ["", f"Without a figure yet: {', '.join(f'`{name}`' for name in missing)}."]
    return "\n".join([before + BEGIN, *lines, END]) + after


def rows_of(result: dict[str, Any]) -> list[str]:
    """A row for each figure that something is published for (or the first figure), and for what is shown beside."""
    published = result.get("published") or []
    wanted = list(dict.fromkeys(row["metric"] for row in published if row["metric"] in result["metrics"]))
    telling = [name for name in (*TELLING, *result["metrics"]) if name in result["metrics"]]
    shown = (wanted or telling[:1]) + [name for name in FURTHER.get(result["experiment"], ()) if name in telling]
    family, _, name = result["experiment"].partition("/")
    path = f"{family}/{name}.yaml"
    label = f"[{family}/{name}]({path})" if (ROOT / "experiments" / path).is_file() else f"{family}/{name}"
    cost = f"{amount(result.get('parameters'))} | {minutes(result.get('seconds'))}"
    return [
        f"| {label} | {metric.removeprefix('test/').replace('_', ' ')} | {ours(result, metric, published)} | "
        f"{'; '.join(theirs(row) for row in published if row['metric'] == metric) or 'nothing comparable'} | {cost} |"
        for metric in shown
    ]


def own_table(result: dict[str, Any]) -> list[str]:
    """The table of a result that compares things of ours: variants of a model, cells, or methods."""
    rows = result.get("variants") or result.get("cells") or result.get("methods") or {}
    figures = {
        name: row.get("metrics", {key: value for key, value in row.items() if isinstance(value, dict)})
        for name, row in rows.items()
    }
    names = [name for name in OWN_FIGURES if any(name in found for found in figures.values())]
    if not names:
        return []
    heads = [HEADINGS.get(name, name.removeprefix("test/").replace("_", " ")) for name in names]
    note = NOTES.get(result["experiment"])
    lines = [
        "",
        f"{result['experiment']}:",
        *(["", note] if note else []),
        "",
        f"| | {' | '.join(heads)} |",
        f"|---{'|---:' * len(names)}|",
    ]
    for name, found in figures.items():
        cells = [cell_of(figure_name, found[figure_name]) if figure_name in found else "" for figure_name in names]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def cell_of(name: str, found: dict[str, Any]) -> str:
    """Mean and spread, or what a person would say of an amount."""
    ways = {"parameters": amount, "seconds": minutes}
    return ways[name](found["mean"]) if name in ways else spread_of(found)


def spread_of(found: dict[str, Any]) -> str:
    """Mean and spread."""
    return figure(found["mean"]) + (f" ± {figure(found['std'])}" if found.get("std") else "")


def ours(result: dict[str, Any], metric: str, published: list[dict[str, Any]]) -> str:
    """Mean and spread, bold where at least as good as the first published figure."""
    found = result["metrics"][metric]
    seeds = len(found["values"])
    shown = spread_of(found)
    beside = [row["value"] for row in published if row["metric"] == metric]
    sign = 1 if metric.endswith(MORE_IS_BETTER) else -1
    if beside and sign * found["mean"] >= sign * beside[0]:
        shown = f"**{shown}**"
    more = result.get("further_seeds") or {}
    others = ", ".join(figure(value) for value in more.get("metrics", {}).get(metric, ()))
    others = others and f"; {others} on {more['machine']}"
    return f"{shown} ({seeds} seed{'s' if seeds > 1 else ''}{others})"


def theirs(row: dict[str, Any]) -> str:
    """A published figure, its source and its convention."""
    return html.escape(f"{row['value']:g}: {row['system']} ({row['source']}; {row['convention']})", quote=False)


def figure(value: float) -> str:
    """A figure with as many digits as say something."""
    return f"{value:.2f}" if abs(value) >= 20 else f"{value:.3f}" if abs(value) >= 0.0005 else f"{value:.1g}"


def amount(number: int | None) -> str:
    """Thousands or millions."""
    if number is None:
        return ""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def minutes(seconds: float | None) -> str:
    """Wall time of training."""
    return "" if seconds is None else f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds / 60:.1f} min"


if __name__ == "__main__":
    sys.exit(main())
