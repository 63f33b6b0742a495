"""Tokens per second of sampling beside a plain loop over nn.LSTM, side by side in one process.

    python scripts/benchmark_sampling.py                  the table (about 3 minutes on 2 cores)
    python scripts/benchmark_sampling.py --quick          a small model, a few seconds

The plain loop is what one writes first: the token's embedding, `nn.LSTM` on a sequence of one, `nn.Linear`, a softmax
over the whole vocabulary and `torch.multinomial`. Ours is :meth:`hybridgen.models.LanguageModel.generate`, text and
reproducible draws included, of a model of the same sizes (with `adaptive`: the same but for the softmax). Both draw
from the whole distribution, with nothing truncated. They are run in turn; a ratio is the median over rounds of the
plain loop's time over ours in the same round.

A generation of ours that is timed prepares its weights anew, as every call does.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from benchmark_cells import alternate, machine
from torch import Tensor, nn

from hybridgen.codecs import CharacterCodec, TextCodec, WordCodec
from hybridgen.generation import DecodingOptions
from hybridgen.models import LanguageModel

# Each model: vocabulary, width, layers, heads of ours.
MODELS: dict[str, tuple[int, int, int, tuple[str, ...]]] = {
    "characters 2x256": (65, 256, 2, ("categorical",)),
    "words 2x200": (10_000, 200, 2, ("categorical", "adaptive")),
    "words 2x650": (10_000, 650, 2, ("categorical", "adaptive")),
}
QUICK = {"characters 2x16": (65, 16, 2, ("categorical",)), "words 2x16": (1_000, 16, 2, ("categorical", "adaptive"))}
GOALS = {1: 4.0, 64: 1.5}  # by batch size


class PlainModel(nn.Module):
    """What the loop samples from."""

    def __init__(self, vocab_size: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.lstm = nn.LSTM(width, width, num_layers, batch_first=True)
        self.output = nn.Linear(width, vocab_size)

    @torch.no_grad()
    def generate(self, tokens: Tensor, num_tokens: int) -> Tensor:
        """Continue ``tokens (B, 1)``: ``(B, num_tokens)``."""
        state, drawn = None, []
        for _ in range(num_tokens):
            outputs, state = self.lstm(self.embedding(tokens), state)
            probabilities = torch.softmax(self.output(outputs[:, -1]), -1)
            tokens = torch.multinomial(probabilities, 1)
            drawn.append(tokens)
        return torch.cat(drawn, 1)


def make_codec(vocab_size: int) -> TextCodec:
    """A codec of that many tokens: characters if they are few, else words."""
    if vocab_size < 256:
        return CharacterCodec.train(["".join(chr(ord("0") + number) for number in range(vocab_size))])
    return WordCodec(["<unk>", "<eos>", *(f"word{number}" for number in range(vocab_size - 2))])


def build(sizes: tuple[int, int, int], head: str, batch_size: int, num_tokens: int) -> dict[str, Callable[[], object]]:
    """The plain loop and ours, as functions that generate once."""
    vocab_size, width, num_layers = sizes
    codec = make_codec(vocab_size)
    torch.manual_seed(0)
    plain = PlainModel(vocab_size, width, num_layers).eval()
    ours = LanguageModel(
        stack={"cell": "lstm", "hidden_size": width, "num_layers": num_layers},
        embedding_size=width,
        head=head,
        codec=codec.to_config(),
    ).eval()
    start = torch.full((batch_size, 1), 5)
    prompts = [codec.decode([5])] * batch_size
    options = DecodingOptions(max_new_tokens=num_tokens, seed=1)
    return {"plain": lambda: plain.generate(start, num_tokens), "ours": lambda: ours.generate(prompts, options)}


def measure(models: dict, batch_sizes: list[int], rounds: int, tokens: dict[int, int]) -> list[dict]:
    """Every model at every batch size; prints the table."""
    rows = []
    print(f"\n{'':18}{'head':>12}{'batch':>6}{'plain/s':>10}{'ours/s':>10}{'ratio':>7}{'spread':>14}{'goal':>6}")
    for name, (*sizes, model_heads) in models.items():
        for batch_size in batch_sizes:
            for head in model_heads:
                num_tokens = tokens[batch_size]
                seconds = alternate(build(tuple(sizes), head, batch_size, num_tokens), rounds)
                ratios = sorted(a / b for a, b in zip(seconds["plain"], seconds["ours"], strict=True))
                per_second = {
                    way: round(batch_size * num_tokens / statistics.median(times)) for way, times in seconds.items()
                }
                row = {
                    "model": name,
                    "head": head,
                    "batch_size": batch_size,
                    "new_tokens": num_tokens,
                    "plain_tokens_per_second": per_second["plain"],
                    "tokens_per_second": per_second["ours"],
                    "ratio": round(statistics.median(ratios), 2),
                    # The middle half of the rounds.
                    "ratio_quartiles": [round(ratios[len(ratios) // 4], 2), round(ratios[-1 - len(ratios) // 4], 2)],
                    "goal": GOALS.get(batch_size),
                }
                rows.append(row)
                spread = "{:.2f} to {:.2f}".format(*row["ratio_quartiles"])
                print(
                    f"{name:18}{head:>12}{batch_size:6}{per_second['plain']:10,}{per_second['ours']:10,}"
                    f"{row['ratio']:7.2f}{spread:>14}{row['goal'] or '':>6}",
                    flush=True,
                )
    return rows


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="NAME", help=f"of {', '.join(map(repr, MODELS))}")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--quick", action="store_true", help="tiny models, 3 rounds: a look at whether all runs")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    unknown = set(options.models or ()) - set(MODELS)
    if unknown:
        parser.error(f"there is no model named {', '.join(sorted(unknown))}: choose of {', '.join(map(repr, MODELS))}")
    if min(options.batch_sizes) < 1 or options.rounds < 1 or options.threads < 1:
        parser.error("--batch_sizes, --rounds and --threads take whole numbers of at least 1")
    torch.set_num_threads(options.threads)
    models = QUICK if options.quick else {name: MODELS[name] for name in options.models or MODELS}
    rounds = 3 if options.quick else options.rounds
    # Long enough that what a generation prepares once is what it is to a user: little beside the steps.
    tokens = {size: (10 if options.quick else 200 if size <= 4 else 50) for size in options.batch_sizes}
    found = {"machine": machine(), "rounds": rounds, "command": " ".join(["python", *sys.argv])}
    print(" ".join(f"{key}={value}" for key, value in found["machine"].items()))
    found["sampling"] = measure(models, options.batch_sizes, rounds, tokens)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
