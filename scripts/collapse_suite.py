"""Posterior collapse and its remedies, one beside the other on the same budget.

    python scripts/collapse_suite.py                    seven runs x 3 seeds on PTB, about 3 minutes each on 2 cores
    python scripts/collapse_suite.py --methods none free_bits --seeds 0
    python scripts/collapse_suite.py --quick            a few steps on the embedded text, to see that all of it runs

Every run is `hybridgen fit --config experiments/text_vae/collapse.yaml` with the options of METHODS below and nothing
else changed: the same data, model, optimiser and number of batches. (Aggressive training takes its steps of the encoder
out of that number.) Each is then tested on the whole test text: ELBO, IWAE-k, KL, mutual information with its sample
size and ceiling, active units, and by how much the loss rises when each sentence is decoded with another's latent.

Finished runs are not run again, so start it as often as it is cut off. The table is printed; every value is written to
collapse.json, the picture to collapse.png, and the configuration and checkpoints of each run to its run folder. Of the
whole suite (all methods, nothing changed) they also go to experiments/results/text_vae-collapse.json and
docs/collapse.png.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from run_experiment import machine, summary

from hybridgen.data.files import whole_file, write_text

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "experiments" / "text_vae" / "collapse.yaml"

#: Options of TextVAE for each run; a schedule's ``fraction`` of the training becomes its ``steps``.
METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "linear": {"kl": {"schedule": {"kind": "linear", "fraction": 0.5}}},
    "cyclical": {"kl": {"schedule": {"kind": "cyclical", "fraction": 0.25, "cycles": 4, "ratio": 0.5}}},
    "free_bits": {"kl": {"free_bits": {"nats": 0.25, "kind": "dimension"}}},
    "target_rate": {"kl": {"target_rate": {"nats": 8.0, "rate": 0.005}}},
    "lagging": {"aggressive": True},
    "batch_norm": {"batch_norm_gamma": 0.6},
}

#: Columns of the table: heading, metric of the test, decimals.
COLUMNS = (
    ("ELBO", "test/elbo_nats", 2),
    ("PPL", "test/perplexity_elbo", 1),
    ("IWAE", "test/iwae{k}_nats", 2),
    ("KL", "test/kl_nats", 2),
    ("MI", "test/mutual_information", 2),
    ("AU", "test/active_units", 1),
    ("shuffled z", "test/shuffle_change", 2),
)

#: A model and a text so small that the whole suite takes seconds.
QUICK: dict[str, Any] = {
    "model": {
        "encoder": {"hidden_size": 8},
        "decoder": {"hidden_size": 8},
        "embedding_size": 8,
        "latent_size": 4,
        "iwae_samples": 3,
        "monitor_sentences": 16,
    },
    "data": {"source": "embedded", "max_length": 12, "codec_options": {"max_size": 200}},
    "trainer": {"max_steps": 4, "val_check_interval": 2, "limit_val_batches": 2},
}


def main() -> int:
    """Run what is missing, then write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/collapse_suite"), help="folder of results and runs")
    parser.add_argument("--config", type=Path, default=CONFIG, help="what all runs share")
    parser.add_argument("--max_steps", type=int, help="batches of each run, instead of the configuration's")
    parser.add_argument("--quick", action="store_true", help="a few steps of a tiny model on the embedded text")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args()
    if not options.config.is_file():
        parser.error(f"--config: there is no file {options.config}")
    if options.max_steps is not None and options.max_steps < 1:
        parser.error(f"--max_steps is {options.max_steps}: give at least 1")
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in options.methods}
    for seed in options.seeds:  # a whole row of methods first: with one seed there is already a table
        for method in options.methods:
            results[method].append(run_once(method, seed, options))
            document = summary_of(results, options)
            write(document, options.out / "collapse.json", options.out / "collapse.png")
            k = results[method][0]["configuration"]["model"]["init_args"]["iwae_samples"]
            print_table(document["methods"], k)
    if is_whole(options):
        write(document, ROOT / "experiments" / "results" / "text_vae-collapse.json", ROOT / "docs" / "collapse.png")
    return 0


def is_whole(options: argparse.Namespace) -> bool:
    """Whether all methods are tried, as the configuration says."""
    changed = options.quick or options.max_steps is not None or options.config.resolve() != CONFIG.resolve()
    return options.methods == list(METHODS) and not changed


def run_once(method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and test one method with one seed, unless a result of just that is there already."""
    import yaml

    name = f"{method}-seed{seed}"
    config = configuration(method, options)
    path = options.out / f"{name}.json"
    if path.is_file():
        found = json.loads(path.read_text())
        if found["configuration"] == config:
            return found
        print(f"{name}: the result that is there is of another configuration; running it anew", file=sys.stderr)
    file = options.out / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    print(f"\n== {name}", file=sys.stderr)
    from hybridgen.commands.training import run

    runs = options.out / "runs"
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    arguments = ["--config", str(file), "--seed_everything", str(seed), "--runs", str(runs), "--name", name]
    began = time.perf_counter()
    run(["fit", *arguments, "--wandb", "off", *(quiet if options.quiet else [])])
    seconds = time.perf_counter() - began
    folder = max((path for path in (runs / name).iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    metrics, parameters = test(folder / "checkpoints" / "last.ckpt", config)
    found = {
        "method": method,
        "seed": seed,
        "metrics": metrics,
        "seconds": round(seconds, 1),
        "parameters": parameters,
        "configuration": config,
    }
    write_text(path, json.dumps(found, indent=1) + "\n")
    return found


def configuration(method: str, options: argparse.Namespace) -> dict[str, Any]:
    """The whole configuration of a run: what is shared, and the method's own options."""
    import yaml

    config = yaml.safe_load(options.config.read_text())
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    if options.quick:
        for part, changes in (("model", model), ("data", data), ("trainer", trainer)):
            changes.update(QUICK[part])
    if options.max_steps is not None:
        trainer["max_steps"] = options.max_steps
        trainer["val_check_interval"] = min(trainer["val_check_interval"], options.max_steps)
    # The last checkpoint is written after a validation, so the last validation must be at the end.
    trainer["max_steps"] -= trainer["max_steps"] % trainer["val_check_interval"]
    for name, value in json.loads(json.dumps(METHODS[method])).items():
        if isinstance(value, dict) and "fraction" in value.get("schedule", {}):
            schedule = value["schedule"]
            schedule["steps"] = max(1, round(schedule.pop("fraction") * trainer["max_steps"]))
        model[name] = value
    return config


def test(checkpoint: Path, config: dict[str, Any]) -> tuple[dict[str, float], int]:
    """All figures of a checkpoint on the test text, and how many parameters the model has."""
    import pytorch_lightning as pl

    import hybridgen
    from hybridgen.data import TextData

    pl.seed_everything(0, verbose=False)  # the same draws of the latent for every run
    model = hybridgen.load(checkpoint)
    trainer = pl.Trainer(accelerator=config["trainer"].get("accelerator", "auto"), devices=1, logger=False,
                         enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    (metrics,) = trainer.test(model, datamodule=TextData(**config["data"]["init_args"]), verbose=False)
    return metrics, sum(parameter.numel() for parameter in model.parameters())


def summary_of(results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> dict[str, Any]:
    """What is written: mean, spread and values of every figure of every method so far."""
    methods = {
        method: {
            "metrics": {key: summary([run["metrics"][key] for run in runs]) for key in sorted(runs[0]["metrics"])},
            "seeds": [run["seed"] for run in runs],
            "options": METHODS[method],
            "parameters": runs[0]["parameters"],
            "seconds": summary([run["seconds"] for run in runs]),
        }
        for method, runs in results.items()
        if runs
    }
    return {
        "experiment": "text_vae/collapse",
        "command": f"python scripts/collapse_suite.py --seeds {' '.join(map(str, options.seeds))}",
        "quick": options.quick,
        "batches": next(run["configuration"]["trainer"]["max_steps"] for runs in results.values() for run in runs),
        "methods": methods,
        "machine": machine(),
    }


def write(document: dict[str, Any], path: Path, picture: Path) -> None:
    """The figures and their picture."""
    write_text(path, json.dumps(document, indent=1) + "\n")
    draw(document["methods"], picture)


def print_table(methods: dict[str, Any], k: int) -> None:
    """Nats per sentence of the test text: mean, and spread over seeds where there are several."""
    headings = [heading if heading != "IWAE" else f"IWAE-{k}" for heading, _, _ in COLUMNS]
    lines = [["", *headings, "seconds"]]
    for method, found in methods.items():
        cells = [found["metrics"][key.format(k=k)] for _, key, _ in COLUMNS]
        shown = [show(cell, decimals) for cell, (_, _, decimals) in zip(cells, COLUMNS, strict=True)]
        lines.append([method, *shown, show(found["seconds"], 0)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    print()
    for line in lines:
        print(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
        )
    one = next(iter(methods.values()))["metrics"]
    ceiling = one["test/mutual_information_ceiling"]["mean"]
    print(f"MI is estimated on n = {round(math.exp(ceiling))} sentences and cannot exceed ln n = {ceiling:.2f}")


def show(value: dict[str, Any], decimals: int) -> str:
    """``mean ± spread``."""
    spread = "" if value["std"] is None else f" ±{value['std']:.{decimals}f}"
    return f"{value['mean']:.{decimals}f}{spread}"


def draw(methods: dict[str, Any], path: Path) -> None:
    """What the latent says (bars) beside what it costs (the bound against the KL)."""
    from matplotlib.figure import Figure

    names = list(methods)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    bars, scatter = figure.subplots(1, 2)
    for offset, key, label in ((-0.27, "test/kl_nats", "KL"), (0, "test/mutual_information", "mutual information"),
                               (0.27, "test/shuffle_change", "loss change, shuffled z")):  # fmt: skip
        values = [methods[name]["metrics"][key] for name in names]
        bars.bar([i + offset for i in range(len(names))], [v["mean"] for v in values], 0.26, label=label,
                 yerr=[v["std"] or 0 for v in values], error_kw={"linewidth": 0.8})  # fmt: skip
    bars.set_xticks(range(len(names)), names, rotation=30, ha="right")
    bars.set(ylabel="nats per sentence", title="what the latent says")
    bars.legend(frameon=False)
    for name in names:
        kl, elbo = (methods[name]["metrics"][key] for key in ("test/kl_nats", "test/elbo_nats"))
        scatter.errorbar(kl["mean"], elbo["mean"], xerr=kl["std"], yerr=elbo["std"], fmt="o", label=name)
    scatter.legend(frameon=False)  # names beside points would lie on each other: methods that collapse are one point
    scatter.set(xlabel="KL, nats per sentence", ylabel="ELBO (negative), nats per sentence", title="what it costs")
    with whole_file(path) as (handle, _):
        figure.savefig(handle, format="png", dpi=120)


if __name__ == "__main__":
    sys.exit(main())
