"""What each part of the hybrid of VAE and GAN brings: the same model with parts left out, on series and on music.

    python scripts/ablation.py                             stocks and jsb, four variants x 3 seeds
    python scripts/ablation.py --sets stocks --seeds 0
    python scripts/ablation.py --quick                     a few steps, to see that all of it runs; its run folders and
                                                           JSON files are called -quick, and lie in the folder of runs

Every run is `hybridgen fit --config experiments/sequence_vaegan/SET.yaml` with the options of VARIANTS below and
nothing else changed: the same data, model, optimiser and number of batches. Samples are then compared with data:
discriminative score (0 is best, 0.5 means that everything is told apart), recall and coverage of the training data
(how much of it lies among samples; against held-out data, too, which of prices are of another level), and memorisation
ratio (1 is best; below it, copies). Variants with a likelihood have their bounds, too. Scores of music are of stretches
of 32 frames.

Finished runs are not trained again, so start it as often as it is cut off. The table is printed; everything is written
to experiments/results/sequence_vaegan-ablation-SET.json.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from run_experiment import hybridgen, machine, parameters, summary
from run_experiment import test as tested

from hybridgen.data.files import write_text

ROOT = Path(__file__).parent.parent
#: Options of SequenceVAEGAN for each variant.
VARIANTS: dict[str, dict[str, Any]] = {
    "vae": {"reconstruction": "likelihood", "adversarial": False},
    "gan": {"reconstruction": "none", "variational": False, "kl": None, "history_dropout": 0.0},
    "without_features": {"reconstruction": "likelihood"},
    "full": {"reconstruction": "both"},
}
SETS = ("stocks", "jsb")
#: Figures of the table: heading, name, decimals.
COLUMNS = (
    ("discriminative", "discriminative_score", 3),
    ("strong critic", "strong_critic_score", 3),
    ("recall", "train_recall", 3),
    ("coverage", "train_coverage", 3),
    ("precision", "train_precision", 3),
    ("memorisation", "memorisation_ratio", 2),
    ("ELBO", "test/elbo_per_frame", 3),
    ("KL", "test/kl_per_sequence", 1),
    ("seconds", "seconds", 0),
)


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go")
    parser.add_argument("--out", type=Path, help="where the JSON files go; default: experiments/results")
    parser.add_argument("--score_runs", type=int, default=5, help="runs of each score that trains a network")
    parser.add_argument("--iterations", type=float, default=1.0, help="of their training steps, as a fraction")
    parser.add_argument("--quick", action="store_true", help="two batches and hardly any scoring")
    options = parser.parse_args()
    if options.quick:
        options.score_runs, options.iterations, options.seeds = 1, 0.002, options.seeds[:1]
    options.out = options.out or (options.runs if options.quick else ROOT / "experiments" / "results")
    for name in options.sets:
        found: dict[str, list[dict[str, float]]] = {}
        for variant in options.variants:
            for seed in options.seeds:
                found.setdefault(variant, []).append(one(name, variant, seed, options))
                print(f"{name} {variant} seed {seed}: {json.dumps(found[variant][-1])}", flush=True)
                write(name, found, options)
        print_table(name, found)
    return 0


def one(name: str, variant: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Train (if that was not done) and score one run."""
    folder = options.runs / f"ablation-{name}-{variant}-seed{seed}{suffix(options)}" / "0"
    scored = folder / "scores.json"
    if scored.is_file():
        return json.loads(scored.read_text())
    taken = folder / "seconds.txt"
    if not taken.is_file():
        if folder.exists():
            raise SystemExit(f"error: {folder} holds a run that was not finished: remove it")
        begun = time.monotonic()
        fit(configuration(name, variant, options), folder, seed)
        taken.write_text(f"{time.monotonic() - begun:.1f}\n")
    checkpoint = folder / "checkpoints" / "last.ckpt"  # the same number of batches for all
    metrics = scores(checkpoint, folder / "config.yaml", seed, options)
    metrics |= tested(folder, "last", [])
    metrics["parameters"] = parameters(checkpoint)
    metrics["seconds"] = float(taken.read_text())
    scored.write_text(json.dumps(metrics, indent=1) + "\n")
    return metrics


def suffix(options: argparse.Namespace) -> str:
    """What keeps folders and files of a quick look apart from those of a run that counts."""
    return "-quick" if options.quick else ""


def configuration(name: str, variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """The experiment's configuration with the variant's options."""
    import yaml

    config = yaml.safe_load((ROOT / "experiments" / "sequence_vaegan" / f"{name}.yaml").read_text(encoding="utf-8"))
    config["model"]["init_args"] |= VARIANTS[variant]
    if options.quick:
        config["trainer"] |= {"max_steps": 2, "limit_val_batches": 1}
    return config


def fit(config: dict[str, Any], folder: Path, seed: int) -> None:
    """Train into a run folder."""
    import yaml

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "ablation.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        where = ["--runs", str(folder.parent.parent), "--name", folder.parent.name, "--seed_everything", str(seed)]
        quiet = ["--wandb", "off", "--trainer.enable_progress_bar", "false"]
        # Noise and order of batches have seeds of their own.
        seeds = ["--model.init_args.seed", str(seed), "--data.init_args.seed", str(seed)]
        hybridgen("fit", "--config", str(path), *where, *seeds, *quiet)


def scores(checkpoint: Path, config: Path, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Figures of samples beside training and held-out data."""
    from hybridgen.commands.evaluating_rolls import WINDOW, generated, windows_of
    from hybridgen.commands.sequence_files import data_of
    from hybridgen.evaluation.series import (
        discriminative_score,
        manifolds,
        mean_discrepancy,
        memorisation_ratio,
        strong_critic_score,
    )
    from hybridgen.loading import load

    model = load(checkpoint)
    data = data_of(str(checkpoint), str(config), model.codec)
    if model.codec.name == "series":
        real, held_out = (data.sequences(part).batch().values for part in ("train", "test"))
    else:
        real, held_out = (windows_of(data, part, WINDOW) for part in ("train", "test"))
    if options.quick:
        real, held_out = real[:200], held_out[:100]
    fake = generated(model, len(real), real.shape[1], seed)
    steps = {"iterations": max(1, round(2000 * options.iterations)), "runs": options.score_runs, "seed": seed}
    critic = strong_critic_score(real, fake, iterations=max(1, round(600 * options.iterations)), seed=seed)
    # Keys of a piano roll have one unit; features of series have one each.
    scaled = {"standardise": model.codec.name == "series"}
    covered = manifolds(held_out, fake[: len(held_out)], seed=seed, **scaled)
    copies = memorisation_ratio(real, held_out, fake, **scaled)
    trained = manifolds(real, fake, most=2000, seed=seed, **scaled)
    return {
        "discriminative_score": discriminative_score(real, fake, **steps).mean,
        "strong_critic_score": critic.score,
        "mean_discrepancy": mean_discrepancy(held_out, fake[: len(held_out)], seed=seed).squared,
        **covered._asdict(),
        **{f"train_{key}": value for key, value in trained._asdict().items()},
        "memorisation_ratio": copies.ratio,
        "copies": copies.copies,
    }


def write(name: str, found: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> None:
    """Write what there is so far, whole or not at all."""
    result = {
        "experiment": f"sequence_vaegan/ablation-{name}",
        "command": f"python scripts/ablation.py --sets {name} --seeds {' '.join(map(str, options.seeds))}"
        + (" --quick" if options.quick else ""),
        "quick": options.quick,
        "seeds": options.seeds,
        "variants": {
            variant: {
                "options": VARIANTS[variant],
                "metrics": {key: summary([run[key] for run in runs]) for key in runs[0] if all(key in r for r in runs)},
            }
            for variant, runs in found.items()
        },
        "machine": machine(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"sequence_vaegan-ablation-{name}{suffix(options)}.json"
    write_text(path, json.dumps(result, indent=1) + "\n")


def print_table(name: str, found: dict[str, list[dict[str, float]]]) -> None:
    """Mean over seeds of the figures that matter."""
    lines = [[name, *(heading for heading, _, _ in COLUMNS)]]
    for variant, runs in found.items():
        cells = []
        for _, key, decimals in COLUMNS:
            values = [run[key] for run in runs if key in run]
            cells.append(f"{statistics.mean(values):.{decimals}f}" if values else "-")
        lines.append([variant, *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    print()
    for line in lines:
        print(
            "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        )


if __name__ == "__main__":
    sys.exit(main())
