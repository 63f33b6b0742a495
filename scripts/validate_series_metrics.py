"""Check the series metrics against what is published: real series in place of generated ones.

    python scripts/validate_series_metrics.py --data DIR [--sets sines stocks energy] [--runs 10]

Prints the predictive score of the original data beside the row "Original" of TimeGAN's Table 2 (Yoon et al. 2019), the
discriminative score between two halves of the data, which should be near 0, and what noise of 2% gets from the
published critic and from the strong one. DIR holds stocks/stock_data.csv and energy/energy_data.csv; sines are
generated.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from hybridgen.evaluation.series import discriminative_score, predictive_score, strong_critic_score

PUBLISHED = {"sines": 0.094, "stocks": 0.036, "energy": 0.250}
LENGTH = 24


def sines(number: int = 10_000, features: int = 5, seed: int = 0) -> np.ndarray:
    """TimeGAN's sines as its code makes them: frequency and phase uniform in 0 to 0.1, scaled to 0..1."""
    random = np.random.default_rng(seed)
    frequency, phase = random.uniform(0, 0.1, (2, number, 1, features))
    return (np.sin(frequency * np.arange(LENGTH)[:, None] + phase) + 1) / 2


def windows(path: Path, header: int) -> np.ndarray:
    """All windows of a csv as TimeGAN's loader makes them: min-max over the file, rows reversed, stride 1."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}: give the folder that holds {path.parent.name}/ with --data")
    rows = np.loadtxt(path, delimiter=",", skiprows=header)[::-1]
    rows = (rows - rows.min(0)) / (np.ptp(rows, axis=0) + 1e-7)
    return np.lib.stride_tricks.sliding_window_view(rows, LENGTH, 0)[:-1].transpose(0, 2, 1)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with stocks/ and energy/")
    parser.add_argument("--sets", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--iterations", type=float, default=1.0, help="fraction of the published training steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    results = {}
    print(
        f"{'set':8}{'predictive':>16}{'published':>11}{'half vs half':>16}{'2% noise':>16}{'strong critic':>15}{'s':>7}"
    )
    for name in options.sets:
        start = time.perf_counter()
        files = {"stocks": ("stock_data.csv", 1), "energy": ("energy_data.csv", 0)}
        try:
            real = sines() if name == "sines" else windows(options.data / name / files[name][0], files[name][1])
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        random = np.random.default_rng(options.seed)
        order = random.permutation(len(real))
        noisy = real + 0.02 * random.standard_normal(real.shape)
        training = {"runs": options.runs, "seed": options.seed}
        steps = {"iterations": max(1, round(2000 * options.iterations))}
        predictive = predictive_score(real, real, iterations=max(1, round(5000 * options.iterations)), **training)
        halves = discriminative_score(real[order[::2]], real[order[1::2]], **steps, **training)
        of_noise = discriminative_score(real, noisy, **steps, **training)
        strong = strong_critic_score(real, noisy, iterations=max(1, round(600 * options.iterations)), seed=options.seed)
        seconds = time.perf_counter() - start
        figures = [f"{score.mean:.4f} +- {score.std:.4f}" for score in (predictive, halves, of_noise)]
        print(
            f"{name:8}{figures[0]:>16}{PUBLISHED[name]:>11.3f}{figures[1]:>18}{figures[2]:>18}"
            f"{strong.score:>13.3f}{seconds:>7.0f}",
            flush=True,
        )
        results[name] = {
            "predictive_score": predictive._asdict(),
            "published": PUBLISHED[name],
            "half_vs_half": halves._asdict(),
            "noise": of_noise._asdict(),
            "strong_critic_of_noise": strong._asdict(),
            "seconds": seconds,
        }
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
