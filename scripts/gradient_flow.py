"""How gradients vanish or explode through each cell at initialisation: norm against lag, one line for a cell.

    python scripts/gradient_flow.py --cells rnn lstm gru --out gradient_flow.png

The task is adding (Hochreiter & Schmidhuber 1997): of a sequence of pairs (a number, a mark), two numbers are marked,
and their sum is to be told at the end. So the loss is at the last step alone, and the gradient at lag k is what it can
teach about what happened k steps before.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from hybridgen import cells
from hybridgen.tracking.gradient_lags import factor_per_step, lag_figure, lag_norms


def adding_problem(rows: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences ``(N, T, 2)`` of numbers in [0, 1) and marks, and the sums ``(N,)`` of the two that are marked."""
    numbers = torch.rand(rows, steps, generator=generator)
    first = torch.randint(steps // 2, (rows, 1), generator=generator)
    second = torch.randint(steps // 2, steps, (rows, 1), generator=generator)
    marks = torch.zeros(rows, steps).scatter(1, first, 1.0).scatter(1, second, 1.0)
    return torch.stack([numbers, marks], -1), (numbers * marks).sum(1)


def curve(name: str, *, hidden_size: int, steps: int, rows: int, seed: int, **options: object) -> Tensor:
    """Norms by lag of a cell as it is initialised, ``(T,)``."""
    torch.manual_seed(seed)
    inputs, sums = adding_problem(rows, steps, torch.Generator().manual_seed(seed))
    cell = cells.Stack(name, 2, hidden_size, **options)
    head = nn.Linear(cell.output_size, 1)
    last = cell(inputs)[0][:, -1].detach().requires_grad_()
    (head(last).squeeze(-1) - sums).square().mean().backward()
    return lag_norms(cell, inputs, last.grad, max_lag=steps - 1)


def main(arguments: list[str] | None = None) -> int:
    """Draw; the factors per step go to standard output as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=["rnn", "gru", "lstm"], choices=cells.names(), metavar="CELL")
    parser.add_argument("--hidden_size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100, help="length of the sequences")
    parser.add_argument("--rows", type=int, default=16, help="sequences that the norms are a mean over")
    parser.add_argument("--initialisation", default="orthogonal", help="orthogonal, uniform, or a range as a number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="gradient_flow.png", help="picture: png, svg or pdf")
    options = parser.parse_args(arguments)
    for option, least in (("hidden_size", 1), ("steps", 3), ("rows", 1)):
        if getattr(options, option) < least:
            parser.error(f"--{option} is {getattr(options, option)}: give at least {least}")
    if not Path(options.out).resolve().parent.is_dir():
        parser.error(f"--out: there is no folder {Path(options.out).resolve().parent}: make it first")
    try:
        initialisation: str | float = float(options.initialisation)
    except ValueError:
        initialisation = options.initialisation
    sizes = {name: getattr(options, name) for name in ("hidden_size", "steps", "rows", "seed")}
    try:
        curves = {name: curve(name, **sizes, initialisation=initialisation) for name in options.cells}
    except ValueError as error:
        parser.error(str(error))
    title = f"adding problem, {options.steps} steps, hidden size {options.hidden_size}, at initialisation"
    lag_figure(curves, title=title).savefig(options.out, dpi=150)
    print(json.dumps({name: {"factor_per_step": factor_per_step(norms)} for name, norms in curves.items()}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
