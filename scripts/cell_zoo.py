"""Which cell for what: every cell at equal parameters on four tasks, speed and memory beside quality, in one picture.

    python scripts/cell_zoo.py                           all cells on all tasks, 1 seed; hours of one core, see below
    python scripts/cell_zoo.py --cells lstm mingru --tasks adding
    python scripts/cell_zoo.py --quick                   a few steps each, to see that all of it runs

Three tasks are trained here, two layers of each cell with one recipe (zoo_tasks.py): symbols to be said again after a
wait (copy memory), two marked numbers among fifty to be added, and characters of Shakespeare. The fourth is JSB
chorales by `scripts/cell_table.py`, one layer at equal parameters, of which this reads the result. The hidden size is
the multiple of 8 that comes nearest to the parameters of an LSTM of --hidden_size. Time is of one forward and backward
pass of the characters' model, all cells in turn in one process, median over rounds, as a ratio to the LSTM's; memory is
what one such pass adds at its peak, in a process of its own.

One recipe for all is what makes this comparable, and what limits it: it says how a cell does as it comes, not how well
it can do. Finished runs are not trained again, so start it as often as it is cut off. The table is printed; everything
goes to experiments/results/cells-zoo.json and docs/cell_zoo.png, of a part of the cells or tasks to the folder of runs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from benchmark_cells import alternate, print_peak, ratio
from cell_table import nearest_size
from run_experiment import machine, summary
from zoo_tasks import CHUNK, LAYERS, TASKS, character_reader

from hybridgen import cells
from hybridgen.data.files import write_text

ROOT = Path(__file__).parent.parent
#: What the figure of each task is called, and what a cell that learned nothing has.
TITLES = {
    "copy_memory": ("copy memory: nats for a symbol", 2.079),
    "adding": ("adding: mean square error", 1 / 6),
    "tinyshakespeare": ("tinyshakespeare: nats for a character", None),
    "jsb": ("JSB chorales: nats for a frame", None),
    "time_to_lstm": ("time of a training step, LSTM = 1", 1.0),
    "peak_mib": ("memory of a training step, MiB", None),
}


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=cells.names(), default=list(cells.names()), metavar="CELL")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="TASK")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--hidden_size", type=int, default=64, help="of the LSTM that gives the budget of parameters")
    parser.add_argument("--rounds", type=int, default=7, help="of the timing")
    parser.add_argument("--runs", type=Path, default=Path("runs/cell_zoo"), help="where finished runs are noted")
    parser.add_argument("--out", type=Path, help="the JSON file (default: experiments/results/cells-zoo.json)")
    parser.add_argument("--picture", type=Path, help="default: docs/cell_zoo.png")
    parser.add_argument("--quick", action="store_true", help="three steps each, written to the folder of runs")
    parser.add_argument("--memory-of", nargs=2, metavar=("CELL", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.memory_of:
        print_peak(step_of(options.memory_of[0], 8, rows=2), step_of(options.memory_of[0], int(options.memory_of[1])))
        return 0
    if options.hidden_size < 8:
        parser.error(f"--hidden_size is {options.hidden_size}: give at least 8")
    options.runs.mkdir(parents=True, exist_ok=True)
    # A look at some does not replace the table of all.
    apart = options.quick or not is_whole(options)
    options.out = options.out or (options.runs if apart else ROOT / "experiments/results") / "cells-zoo.json"
    options.picture = options.picture or (options.runs if apart else ROOT / "docs") / "cell_zoo.png"
    found: dict[str, dict[str, Any]] = {name: {"metrics": {}} for name in options.cells}
    for task in options.tasks:
        for cell in options.cells:
            hidden, count = size(task, cell, options.hidden_size)
            runs = [one(task, cell, hidden, seed, options) for seed in options.seeds]
            found[cell] |= {f"{task}_hidden_size": hidden, f"{task}_parameters": count}
            if all(run["value"] is not None for run in runs):
                found[cell]["metrics"][task] = summary([run["value"] for run in runs])
            found[cell]["metrics"][f"{task}_seconds"] = summary([run["seconds"] for run in runs])
            print(f"{task:18}{cell:16}{hidden:5}{count:8}  {[run['value'] for run in runs]}", flush=True)
    add_jsb(found)
    add_costs(found, options)
    write(found, options)
    print_table(found)
    draw(found, options.picture)
    return 0


def is_whole(options: argparse.Namespace) -> bool:
    """Whether all cells are tried on all tasks."""
    return sorted(options.cells) == sorted(cells.names()) and options.tasks == list(TASKS)


def count_of(task: str, cell: str, hidden: int) -> int:
    """Trainable numbers of a task's model."""
    return sum(parameter.numel() for parameter in TASKS[task].model(cell, hidden).parameters())


def size(task: str, cell: str, lstm_size: int) -> tuple[int, int]:
    """The hidden size of a cell that has about as many numbers as the LSTM, and how many it has."""
    hidden = nearest_size(lambda width: count_of(task, cell, width), count_of(task, "lstm", lstm_size))
    return hidden, count_of(task, cell, hidden)


def one(task: str, cell: str, hidden: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one run, unless that was done with this recipe; a run that diverges has no value."""
    recipe = replace(TASKS[task].recipe, steps=3) if options.quick else TASKS[task].recipe
    noted = options.runs / f"{task}-{cell}-{hidden}-seed{seed}.json"
    if noted.is_file():
        run = json.loads(noted.read_text(encoding="utf-8"))
        if run["recipe"] == asdict(recipe):
            return run
    begun = time.process_time()
    try:
        value = round(TASKS[task].train(cell, hidden, seed, recipe), 5)
    except FloatingPointError:
        value = None
    run = {"value": value, "seconds": round(time.process_time() - begun, 1), "recipe": asdict(recipe)}
    write_text(noted, json.dumps(run) + "\n")
    return run


def add_jsb(found: dict[str, dict[str, Any]]) -> None:
    """Take over the table on JSB chorales, as far as it is there."""
    path = ROOT / "experiments" / "results" / "variational_rnn-cells.json"
    if not path.is_file():
        print(f"no figures of JSB chorales: {path} is missing, scripts/cell_table.py writes it", file=sys.stderr)
        return
    for cell, row in json.loads(path.read_text(encoding="utf-8"))["cells"].items():
        if cell in found:
            found[cell]["metrics"]["jsb"] = row["metrics"]["test/nats_per_frame_skip_first"]


def step_of(cell: str, hidden: int, rows: int = 32) -> Callable[[], None]:
    """One forward and backward pass of the characters' model."""
    torch.manual_seed(0)
    model, inputs = character_reader(cell, hidden), torch.randint(65, (rows, CHUNK))

    def run() -> None:
        model(inputs)[0].square().mean().backward()

    return run


def add_costs(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    """Time beside the LSTM's, and memory."""
    sizes = {cell: size("tinyshakespeare", cell, options.hidden_size)[0] for cell in {*found, "lstm"}}
    rounds = 1 if options.quick else options.rounds
    seconds = alternate({cell: step_of(cell, hidden) for cell, hidden in sizes.items()}, rounds)
    for cell, row in found.items():
        command = [sys.executable, __file__, "--memory-of", cell, str(sizes[cell])]
        peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        row["milliseconds"] = round(1e3 * statistics.median(seconds[cell]), 2)
        row["metrics"]["time_to_lstm"] = summary([ratio(seconds, cell, "lstm")])
        row["metrics"]["peak_mib"] = summary([float(peak)])


def write(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    """Write everything, whole or not at all."""
    chosen = "" if is_whole(options) else f" --cells {' '.join(options.cells)} --tasks {' '.join(options.tasks)}"
    chosen += "" if options.hidden_size == 64 else f" --hidden_size {options.hidden_size}"
    result = {
        "experiment": "cells/zoo",
        "command": f"python scripts/cell_zoo.py --seeds {' '.join(map(str, options.seeds))}{chosen}",
        "quick": options.quick,
        "seeds": options.seeds,
        "layers": LAYERS,
        "rounds": options.rounds,
        "recipes": {task: asdict(TASKS[task].recipe) for task in options.tasks},
        "cells": found,
        "machine": machine(),
    }
    write_text(options.out, json.dumps(result, indent=1) + "\n")


def print_table(found: dict[str, dict[str, Any]]) -> None:
    """The means, a line for each cell."""
    names = [name for name in TITLES if any(name in row["metrics"] for row in found.values())]
    print("".join(["", f"{'':16}", *(f"{name:>17}" for name in names)]))
    for cell, row in found.items():
        values = [row["metrics"].get(name, {}).get("mean") for name in names]
        print(f"{cell:16}" + "".join(f"{'-' if value is None else f'{value:.3f}':>17}" for value in values))


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """A panel for each figure, a bar for each cell, less is better in all of them."""
    from matplotlib.figure import Figure

    names = [name for name in TITLES if any(name in row["metrics"] for row in found.values())]
    figure = Figure(figsize=(13, 2 + 0.5 * len(found)), layout="constrained")
    panels = list(figure.subplots(2, -(-len(names) // 2), squeeze=False).flat)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    for panel, name in zip(panels, names, strict=False):
        means = {cell: row["metrics"][name]["mean"] for cell, row in found.items() if name in row["metrics"]}
        ordered = sorted(means, key=means.__getitem__, reverse=True)
        panel.barh(ordered, [means[cell] for cell in ordered], color="#4477aa")
        title, nothing = TITLES[name]
        if nothing is not None:
            panel.axvline(nothing, color="#bb5566", linewidth=1, linestyle="--")
        if nothing is None and name != "peak_mib":  # what differs is far from 0
            low, high = min(means.values()), max(means.values())
            panel.set_xlim(low - 0.3 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3)
        panel.set_title(title, fontsize=10)
        panel.tick_params(labelsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
