"""Every cell of the library at equal parameters on JSB chorales: one table, one recipe.

    python scripts/cell_table.py                            all cells x 3 seeds, about the parameters of jsb_lstm.yaml
    python scripts/cell_table.py --cells gru lstm --seeds 0
    python scripts/cell_table.py --quick                    one epoch each, to see that all of it runs

For each cell the hidden size is the one whose model comes nearest to the budget; everything else is that of the
configuration: data, regularisation, optimiser, epochs. That recipe was chosen for the LSTM, so the table says how cells
do under one recipe, not how well each can do. An option of the recipe that a cell does not have (weight drop of one
without recurrent weights) is left out for that cell, and the table says so.

Finished runs are not trained again, so start it as often as it is cut off. The table is printed; everything is written
to experiments/results/variational_rnn-cells.json: test nats per frame over all frames, and without the first one.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from run_experiment import hybridgen, machine, parameters, summary
from run_experiment import test as tested

from hybridgen import cells
from hybridgen.data.files import write_text

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "experiments" / "variational_rnn" / "jsb_lstm.yaml"
#: Options of a stack that some cells do not take.
FRAGILE = ("weight_drop", "state_dropout", "zoneout", "zoneout_cell")
METRICS = ("test/nats_per_frame", "test/nats_per_frame_skip_first")


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=cells.names(), default=list(cells.names()))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parameters", type=int, help="the budget (default: those of the configuration's own model)")
    parser.add_argument("--config", type=Path, default=CONFIG, help="a configuration of a SequenceModel")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go")
    parser.add_argument("--out", type=Path, default=ROOT / "experiments" / "results" / "variational_rnn-cells.json")
    parser.add_argument("--quick", action="store_true", help="one epoch each")
    options = parser.parse_args()
    import yaml

    config = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    given = config["model"]["init_args"]
    budget = options.parameters or size_of(given, given["stack"]["cell"], given["stack"]["hidden_size"])
    found: dict[str, dict[str, Any]] = {}
    for cell in options.cells:
        stack, left_out = fitting(given, cell, budget)
        runs = [one(config, cell, stack, seed, options) for seed in options.seeds]
        found[cell] = {
            "hidden_size": stack["hidden_size"],
            "left_out": left_out,
            "parameters": runs[0]["parameters"],
            "metrics": {name: summary([run[name] for run in runs]) for name in (*METRICS, "seconds")},
        }
        write(found, budget, options)
        print_row(cell, found[cell])
    return 0


def size_of(given: dict[str, Any], cell: str, hidden: int) -> int:
    """Trainable numbers of the model with a cell of a size, on 88 keys."""
    from hybridgen.codecs import PianoRollCodec
    from hybridgen.models import SequenceModel

    options = given | {"stack": given["stack"] | {"cell": cell, "hidden_size": hidden}}
    model = SequenceModel(**options, codec=PianoRollCodec().to_config())
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def fitting(given: dict[str, Any], cell: str, budget: int) -> tuple[dict[str, Any], list[str]]:
    """The stack of a cell nearest to a budget of parameters, and the options that it does not take."""
    stack, left_out = given["stack"] | {"cell": cell}, []
    for name in FRAGILE:
        try:
            size_of(given | {"stack": stack}, cell, 8)
            break
        except ValueError:
            if stack.pop(name, None) is not None:
                left_out.append(name)
    given = given | {"stack": stack}
    return stack | {"hidden_size": nearest_size(lambda hidden: size_of(given, cell, hidden), budget)}, left_out


def nearest_size(count: Callable[[int], int], budget: int) -> int:
    """The hidden size whose model has the number of parameters nearest to a budget."""
    low, high = 1, 8
    # Some cells want a size that their heads divide: sizes are multiples of 8, of which every one does.
    while count(8 * high) < budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if count(8 * middle) < budget:
            low = middle
        else:
            high = middle
    return 8 * min((low, high), key=lambda k: abs(count(8 * k) - budget))


def one(
    config: dict[str, Any], cell: str, stack: dict[str, Any], seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Train (if that was not done) and test one run."""
    import yaml

    folder = options.runs / f"cell-{cell}-{stack['hidden_size']}-seed{seed}" / "0"
    done = folder / "result.json"
    if done.is_file():
        return json.loads(done.read_text())
    if folder.exists():
        raise SystemExit(f"error: {folder} holds a run that was not finished: remove it")
    chosen = json.loads(json.dumps(config))
    chosen["model"]["init_args"]["stack"] = stack
    if options.quick:
        chosen["trainer"] |= {"max_epochs": 1, "limit_train_batches": 2}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cell.yaml"
        path.write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")
        where = ["--runs", str(options.runs), "--name", folder.parent.name, "--seed_everything", str(seed)]
        quiet = ["--wandb", "off", "--trainer.enable_progress_bar", "false"]
        hybridgen("fit", "--config", str(path), *where, *quiet)
    seconds = time.monotonic() - begun
    result = tested(folder, "best", []) | {
        "seconds": round(seconds, 1),
        "parameters": parameters(folder / "checkpoints" / "best.ckpt"),
    }
    done.write_text(json.dumps(result, indent=1) + "\n")
    return result


def write(found: dict[str, dict[str, Any]], budget: int, options: argparse.Namespace) -> None:
    """Write what there is so far, whole or not at all."""
    everything = sorted(options.cells) == sorted(cells.names())
    chosen = "" if everything else f" --cells {' '.join(options.cells)}"
    result = {
        "experiment": "variational_rnn/cells",
        "command": f"python scripts/cell_table.py --seeds {' '.join(map(str, options.seeds))}{chosen}",
        "quick": options.quick,
        "seeds": options.seeds,
        "budget": budget,
        "cells": found,
        "machine": machine(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(options.out, json.dumps(result, indent=1) + "\n")


def print_row(cell: str, row: dict[str, Any]) -> None:
    """One line of the table."""
    nats, rest = (row["metrics"][name]["mean"] for name in METRICS)
    missing = f"  without {', '.join(row['left_out'])}" if row["left_out"] else ""
    sizes = f"{row['hidden_size']:6}{row['parameters']:10}"
    print(f"{cell:16}{sizes}{nats:9.3f}{rest:9.3f}{row['metrics']['seconds']['mean']:8.0f} s{missing}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
