"""What int8 matrices cost and gain on a CPU: file size, time of a step at batch 1, nats per token.

    python scripts/benchmark_int8.py                                          the steps (2 minutes on a core)
    python scripts/benchmark_int8.py --ckpt RUN/checkpoints/best.ckpt --config RUN/config.yaml    and a trained model
    python scripts/benchmark_int8.py --quick                                  a small network, a few seconds

A step is one token in, the log-probabilities of the next one out. Beside :func:`hybridgen.export.int8_steps` stands
what generation runs in float32 (:class:`hybridgen.generation.stepping.TokenStep`), which lays weights out for few rows
too. They are run in turn, some steps each time, and timed by the clock of the thread's own work, so that others on the
machine count little; a ratio is the median over rounds of float32's time over int8's in the same round.

The loss is that of a part of the checkpoint's data, cut in lanes, each with a state that is carried through: in
float32, with matrices that were rounded to int8 and products in float32 (what every command does with an export), and
with int8 products. The change is a mean over tokens, with its standard error.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_cells import machine
from torch import Tensor

from hybridgen.commands.run_config import data_section
from hybridgen.data import TextData
from hybridgen.export import TokenNetwork, int8_steps, load_network, plain_network, write_weights
from hybridgen.generation.stepping import TokenStep
from hybridgen.loading import load

SIZES = (256, 650, 1024)
VOCABULARIES = {"characters": 65, "words": 10_000}
CHUNK = 16  # elements of the lanes that float32 takes at a time


def network_of(cell: str, width: int, num_layers: int, vocab_size: int) -> TokenNetwork:
    """A network of random weights, the head tied to the embedding."""
    torch.manual_seed(0)
    stack = {"cell": cell, "input_size": width, "hidden_size": width, "num_layers": num_layers}
    return TokenNetwork(stack=stack, vocab_size=vocab_size, embedding_size=width, head="categorical").eval()


def time_steps(network: TokenNetwork, *, rounds: int, inner: int) -> dict[str, Any]:
    """Microseconds of a step at batch 1 by both ways, and their ratio."""
    begun = time.thread_time()
    ways: dict[str, Callable] = {"int8": int8_steps(network)}
    prepared = time.thread_time() - begun
    ways["float32"] = TokenStep(network.embedding.weight, network.stack, network.head)
    token = torch.tensor([3])
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with torch.no_grad():
        for _ in range(rounds + 1):
            for way, step in ways.items():
                state = network.initial_state(1)
                _, state = step(token, state)  # brings its weights into the caches, as going on with it would
                start = time.thread_time()
                for _ in range(inner):
                    _, state = step(token, state)
                seconds[way].append((time.thread_time() - start) / inner)
    of_rounds = {way: times[1:] for way, times in seconds.items()}  # the first is warming up
    ratios = sorted(a / b for a, b in zip(of_rounds["float32"], of_rounds["int8"], strict=True))
    return {
        "float32_us": round(statistics.median(of_rounds["float32"]) * 1e6, 1),
        "int8_us": round(statistics.median(of_rounds["int8"]) * 1e6, 1),
        "speed_up": round(statistics.median(ratios), 2),
        "quartiles": [round(ratios[len(ratios) // 4], 2), round(ratios[-1 - len(ratios) // 4], 2)],
        "prepare_seconds": round(prepared, 2),
    }


def measure_steps(options: argparse.Namespace, rounds: int, inner: int) -> list[dict[str, Any]]:
    """Every cell, width and vocabulary; prints the table."""
    print(f"\n{'cell':>8}{'width':>7}{'V':>8}{'float32 us':>12}{'int8 us':>9}{'speed-up':>10}{'quartiles':>14}")
    rows = []
    for name, vocab_size in VOCABULARIES.items():
        for cell in options.cells:
            for width in options.sizes:
                network = network_of(cell, width, options.num_layers, vocab_size)
                row = {"cell": cell, "width": width, "num_layers": options.num_layers, "vocabulary": name}
                row |= {"vocab_size": vocab_size, **time_steps(network, rounds=rounds, inner=inner)}
                rows.append(row)
                spread = "{} to {}".format(*row["quartiles"])
                print(
                    f"{cell:>8}{width:7}{vocab_size:8,}{row['float32_us']:12.0f}{row['int8_us']:9.0f}"
                    f"{row['speed_up']:10.2f}{spread:>14}",
                    flush=True,
                )
    return rows


@torch.no_grad()
def nats_of_sequence(network: TokenNetwork, lanes: Tensor) -> Tensor:
    """Nats ``(B, T)`` of each next token of ``lanes (B, T + 1)``, by whole sequences in float32."""
    state, found = None, []
    for start in range(0, lanes.shape[1] - 1, CHUNK):
        given = lanes[:, start : start + CHUNK + 1]
        log_probs, state = network(given[:, :-1], state)
        found.append(-log_probs.gather(2, given[:, 1:, None]).squeeze(2))
    return torch.cat(found, 1).double()


@torch.no_grad()
def nats_of_steps(step: Callable, lanes: Tensor) -> Tensor:
    """The same, step by step."""
    state, found = None, []
    for given, target in zip(lanes[:, :-1].unbind(1), lanes[:, 1:].unbind(1), strict=True):
        log_probs, state = step(given, state)
        found.append(-log_probs.gather(1, target[:, None]).squeeze(1))
    return torch.stack(found, 1).double()


def measure_checkpoint(options: argparse.Namespace, rounds: int, inner: int) -> dict[str, Any]:
    """Sizes, a step and losses of a trained language model; prints them."""
    model = load(options.ckpt)
    network = plain_network(model)
    with tempfile.TemporaryDirectory() as place:
        plain, small = Path(place) / "float32", Path(place) / "int8"
        size = {"float32_bytes": sum(path.stat().st_size for path in write_weights(model, plain)[:1])}
        size["int8_bytes"] = sum(path.stat().st_size for path in write_weights(model, small, int8=True)[:1])
        rounded = load_network(small)
    step = time_steps(network, rounds=rounds, inner=inner)
    lanes = lanes_of(options, model)
    before = nats_of_sequence(network, lanes)
    after = {
        "int8_weights": nats_of_sequence(rounded, lanes),
        "int8_products": nats_of_steps(int8_steps(rounded), lanes),
    }
    loss: dict[str, Any] = {"part": options.part, "tokens": before.numel(), "float32": round(float(before.mean()), 5)}
    for name, nats in after.items():
        change = (nats - before).flatten()
        error = float(change.std() / change.numel() ** 0.5)
        loss[name] = {"change": round(float(change.mean()), 5), "standard_error": round(error, 5)}
    print(f"\nfile: {size['float32_bytes']:,} bytes in float32, {size['int8_bytes']:,} with int8")
    print("step: {float32_us} us in float32, {int8_us} with int8, {speed_up} times".format(**step))
    print(f"loss: {loss['float32']} nats a token of {loss['tokens']:,} in float32")
    for name in after:
        print(f"  {name}: {loss[name]['change']:+.5f} (standard error {loss[name]['standard_error']:.5f})")
    return {
        "checkpoint": options.ckpt.name,
        "config": str(options.config),
        **size,
        "step": step,
        "nats_per_token": loss,
    }


def lanes_of(options: argparse.Namespace, model: Any) -> Tensor:
    """The first tokens of the part, as equal lanes ``(B, T + 1)`` that follow each other."""
    _, arguments = data_section(options.config)
    data = TextData(**arguments | {"codec": model.codec.to_config(), "codec_options": None})
    file = data.tokens(options.part)
    count = min(len(file), options.tokens or len(file))
    ids = torch.from_numpy(file.take(np.arange(count))).long()
    steps = (count - 1) // options.lanes
    return torch.stack([ids[lane * steps : (lane + 1) * steps + 1] for lane in range(options.lanes)])


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=["lstm"], metavar="NAME")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), metavar="WIDTH")
    parser.add_argument("--num_layers", type=int, default=1)
    parser.add_argument("--ckpt", type=Path, metavar="FILE", help="a trained language model")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration of its run, for its data")
    parser.add_argument("--part", choices=("train", "valid", "test"), default="test")
    parser.add_argument("--tokens", type=int, metavar="N", help="of the part (default: all)")
    parser.add_argument("--lanes", type=int, default=32, help="rows at a time (default 32)")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--quick", action="store_true", help="a small network, 3 rounds: a look at whether all runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    if (options.ckpt is None) != (options.config is None):
        parser.error("--ckpt and --config go together: the checkpoint, and the configuration of its run")
    for name in ("ckpt", "config"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            parser.error(f"--{name}: there is no file {path}")
    numbers = (*options.sizes, options.num_layers, options.lanes, options.rounds, options.tokens or 1)
    if min(numbers) < 1 or (options.tokens is not None and options.tokens <= options.lanes):
        parser.error("sizes, layers, lanes and rounds are at least 1, and --tokens is more than --lanes")
    torch.set_num_threads(1)  # the clock is of one thread's work
    if options.quick:
        options.cells, options.sizes, options.rounds = options.cells[:1], [32], 3
    rounds, inner = options.rounds, 3 if options.quick else 10
    found = {"machine": machine(), "rounds": rounds, "command": " ".join(["python", *sys.argv])}
    print(" ".join(f"{key}={value}" for key, value in found["machine"].items()))
    found["steps"] = measure_steps(options, rounds, inner)
    if options.ckpt is not None:
        found["trained"] = measure_checkpoint(options, rounds, inner)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
