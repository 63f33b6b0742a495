"""Training of the language model beside the plain recipe, side by side in one process.

    python scripts/benchmark_language_model.py                      throughput (about 4 minutes on 2 cores)
    HYBRIDGEN_DATA=... python scripts/benchmark_language_model.py --train --epochs 1
                                                                    equal loss on PTB (about 8 minutes on 2 cores)
    python scripts/benchmark_language_model.py --quick              small models, a few seconds

The plain recipe is nn.Embedding, nn.LSTM, nn.Linear and F.cross_entropy over the whole vocabulary; ours is
:class:`hybridgen.models.LanguageModel` of the same sizes, with the full and with the adaptive softmax. Both: 20 lanes
of 35 steps, state carried, no dropout, gradient norm clipped, the same AdamW (--optimizer). A step is forward,
backward, clip and update.

Throughput is told in two ways. Tokens per second, as the median over rounds of the ratio to the plain recipe in the
same round. And model FLOPs per second over the machine's peak: FLOPs are 2 for each multiply-add of the matrix products
of a forward pass, times 3 for forward and backward (the gradients of inputs and weights cost one forward each), nothing
else counted and nothing counted that is not computed (the adaptive softmax's clusters count for the tokens in them).
The peak is the best rate that any of some large float32 matrix products reached between the rounds, by torch.mm or
oneDNN.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from benchmark_cells import machine
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.cells import state as states
from hybridgen.codecs import TextCodec, WordCodec
from hybridgen.data import TextData
from hybridgen.evaluation import LanguageScore, carried_nats
from hybridgen.models import LanguageModel

LANES, STEPS, CLIP = 20, 35, 1.0
SIZES = {"2x200": 200, "2x650": 650}
PEAK_SIZES = [(700, 1024, 4096), (2048, 2048, 2048), (1024, 1024, 4096)]
GOAL_OF_PEAK, GOAL_RATIO = 0.6, 2.0
OPTIMIZERS = {"foreach": {"foreach": True}, "fused": {"fused": True}, "single": {"foreach": False}}


class PlainModel(nn.Module):
    """The plain recipe; also its own head for :mod:`hybridgen.evaluation`."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.lstm = nn.LSTM(width, width, 2, batch_first=True)
        self.output = nn.Linear(width, vocab_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def run(self, inputs: Tensor, state: Any, resets: Tensor | None = None) -> tuple[Tensor, Any]:
        """Tokens ``(B, T)`` to outputs ``(B, T, H)``."""
        return self.lstm(self.embedding(inputs), state)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Nats ``(N,)``."""
        return F.cross_entropy(self.output(hidden), targets, reduction="none")


class Learner:
    """A model with its optimiser, its carried state and its place in the text."""

    def __init__(self, model: nn.Module, run: Callable, loss: Callable, chunks: Iterator, optimizer: str) -> None:
        self.model, self.run, self.loss, self.chunks = model.train(), run, loss, chunks
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=2e-3, betas=(0.9, 0.95), **OPTIMIZERS[optimizer])
        self.state: Any = None

    def step(self) -> Tensor:
        """One training step; the mean nats before it."""
        inputs, targets, first = next(self.chunks)
        outputs, state = self.run(inputs, None if first else self.state)
        self.state = type(state)(map(Tensor.detach, state)) if type(state) is tuple else states.detach(state)
        loss = self.loss(outputs.flatten(0, 1), targets.flatten()).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        return loss.detach()


class Text(NamedTuple):
    """Token ids ``(n,)`` and what wrote them."""

    train: Tensor
    valid: Tensor
    codec: TextCodec


def make_text(vocab_size: int, length: int) -> Text:
    """Words by Zipf's law: the adaptive softmax's cost depends on frequencies, and on nothing else in the text."""
    ranks = torch.arange(1, vocab_size + 1, dtype=torch.float64)
    tokens = torch.multinomial(1 / ranks, length, replacement=True)
    return Text(tokens, tokens[: length // 10], WordCodec(["<unk>", "<eos>", *map(str, range(vocab_size - 2))]))


def read_text(source: str) -> Text:
    """A public set of words; ``ptb`` is looked for in HYBRIDGEN_DATA."""
    data = TextData(source=source, codec="words", codec_options={"max_size": 10_000})
    parts = (
        torch.from_numpy(data.tokens(p).take(torch.arange(len(data.tokens(p))).numpy())) for p in ("train", "valid")
    )
    return Text(*parts, data.codec)


def chunks(tokens: Tensor) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Inputs and targets ``(B, T)`` of contiguous lanes, over and over, and whether they start an epoch."""
    lanes = tokens[: (len(tokens) - 1) // LANES * LANES + 1]
    inputs, targets = lanes[:-1].view(LANES, -1), lanes[1:].view(LANES, -1)
    while True:
        for start in range(0, inputs.shape[1] - STEPS + 1, STEPS):
            yield inputs[:, start : start + STEPS], targets[:, start : start + STEPS], start == 0


def make_learners(text: Text, width: int, optimizer: str, names: list[str]) -> dict[str, Learner]:
    """The plain recipe and ours, of one width."""
    learners = {}
    for name in names:
        torch.manual_seed(0)
        if name == "plain":
            model: Any = PlainModel(text.codec.vocab_size, width)
            run, loss = model.run, model.nll
        else:
            model = LanguageModel(
                stack={"cell": "lstm", "hidden_size": width, "num_layers": 2},
                embedding_size=width,
                head={"full": "categorical", "adaptive": "adaptive"}[name],
                codec=text.codec.to_config(),
            )
            run, loss = model.hidden, model.head.loss
        learners[name] = Learner(model, run, loss, chunks(text.train), optimizer)
    return learners


def flops_per_token(name: str, learner: Learner, text: Text, width: int) -> float:
    """FLOPs of a training step for each token, by the formula in the module's text."""
    multiply_adds = 2 * 4 * width * (width + width)
    if name != "adaptive":
        return 6.0 * (multiply_adds + width * text.codec.vocab_size)
    head = learner.model.head
    multiply_adds += width * (head.sizes[0] + len(head.cutoffs))
    for first, size in zip(head.cutoffs, head.sizes[1:], strict=True):
        share = float(((text.train >= first) & (text.train < first + size)).double().mean())
        multiply_adds += share * width * (width + size)  # the cluster's projection, then its classes
    return 6.0 * multiply_adds


def time_products(operands: list[tuple[Tensor, Tensor]]) -> float:
    """The best FLOPs per second of some products, each tried once by torch.mm and by oneDNN."""
    best = 0.0
    for a, b in operands:
        ways = [lambda a=a, b=b: torch.mm(a, b)]
        if torch.backends.mkldnn.is_available():
            ways.append(lambda a=a, b=b: torch.ops.mkldnn._linear_pointwise.default(a, b.t(), None, "none", [], ""))
        for way in ways:
            begin = time.perf_counter()
            way()
            best = max(best, 2 * a.shape[0] * b.numel() / (time.perf_counter() - begin))
    return best


def measure(sizes: dict[str, int], text: Text, rounds: int, optimizer: str) -> list[dict]:
    """Throughput of every size; prints the table."""
    rows = []
    operands = [(torch.randn(m, k), torch.randn(k, n)) for m, k, n in PEAK_SIZES]
    time_products(operands)
    print(f"\n{'':8}{'model':10}{'tokens/s':>10}{'ratio':>7}{'goal':>6}{'GFLOP/s':>10}{'of peak':>9}{'goal':>6}")
    for size, width in sizes.items():
        learners = make_learners(text, width, optimizer, ["plain", "full", "adaptive"])
        for learner in learners.values():
            for _ in range(3):
                learner.step()
        seconds: dict[str, list[float]] = {name: [] for name in learners}
        peaks = []
        for _ in range(rounds):
            peaks.append(time_products(operands))
            for name, learner in learners.items():
                begin = time.perf_counter()
                learner.step()
                seconds[name].append(time.perf_counter() - begin)
        peak = max(peaks)
        for name, learner in learners.items():
            middle = statistics.median(seconds[name])
            flops = flops_per_token(name, learner, text, width)
            rate = LANES * STEPS * flops
            row = {
                "size": size,
                "model": name,
                "tokens_per_second": round(LANES * STEPS / middle),
                "ratio": round(
                    statistics.median(a / b for a, b in zip(seconds["plain"], seconds[name], strict=True)), 3
                ),
                "goal_ratio": GOAL_RATIO if name == "adaptive" else None,
                "flops_per_token": round(flops),
                "gflops_per_second": round(rate / middle / 1e9, 1),
                "peak_gflops_per_second": round(peak / 1e9, 1),
                "of_peak": round(rate / middle / peak, 3),
                # Against the peak of the same round: what else the machine does hits both.
                "of_peak_in_round": round(
                    statistics.median(rate / s / p for s, p in zip(seconds[name], peaks, strict=True)), 3
                ),
                "goal_of_peak": None if name == "plain" else GOAL_OF_PEAK,
                "parameters": sum(p.numel() for p in learner.parameters),
            }
            rows.append(row)
            print(
                f"{size:8}{name:10}{row['tokens_per_second']:10,}{row['ratio']:7.2f}{row['goal_ratio'] or '':>6}"
                f"{row['gflops_per_second']:10.1f}{row['of_peak']:9.2f}{row['goal_of_peak'] or '':>6}"
                f"   (of the round's peak {row['of_peak_in_round']:.2f})",
                flush=True,
            )
    return rows


def train(width: int, text: Text, epochs: float, optimizer: str, names: list[str]) -> list[dict]:
    """Train each for the same epochs, chunk by chunk in turn, and score it on the validation text."""
    learners = make_learners(text, width, optimizer, names)
    total = round(epochs * ((len(text.train) - 1) // LANES // STEPS))
    seconds = dict.fromkeys(learners, 0.0)
    for number in range(total):
        rate = min(1.0, (number + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * number / total)))
        for name, learner in learners.items():
            for group in learner.optimizer.param_groups:
                group["lr"] = 4e-3 * rate
            begin = time.perf_counter()
            learner.step()
            seconds[name] += time.perf_counter() - begin
    rows = []
    print(f"\n{width} wide, {total} steps each\n{'':10}{'seconds':>9}{'valid nats':>12}{'perplexity':>12}{'ratio':>7}")
    for name, learner in learners.items():
        model = learner.model.eval()
        if name == "plain":
            scored: LanguageScore = carried_nats(model.run, model, text.valid, lanes=10)
        else:
            run = lambda inputs, state, resets, model=model: model.hidden(inputs, state, resets=resets)  # noqa: E731
            scored = carried_nats(run, model.head, text.valid, lanes=10)
        row = {
            "model": name,
            "width": width,
            "steps": total,
            "seconds": round(seconds[name], 1),
            "tokens_per_second": round(total * LANES * STEPS / seconds[name]),
            "valid_nats": round(scored.nats_per_token, 4),
            "valid_perplexity": round(scored.perplexity, 2),
            "protocol": scored.protocol,
            "ratio": round(seconds[names[0]] / seconds[name], 3),
        }
        rows.append(row)
        print(
            f"{name:10}{row['seconds']:9.1f}{row['valid_nats']:12.4f}{row['valid_perplexity']:12.2f}{row['ratio']:7.2f}",
            flush=True,
        )
    return rows


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="fused", help="way of torch's AdamW, for all alike")
    parser.add_argument("--train", action="store_true", help="train to a validation loss instead of timing steps")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--source", default="ptb", help="text of --train: ptb, or embedded")
    parser.add_argument("--quick", action="store_true", help="tiny models, few steps: a look at whether all runs")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 1 or not options.epochs > 0:
        parser.error("--rounds and --threads take whole numbers of at least 1, --epochs a number above 0")
    torch.set_num_threads(options.threads)
    sizes = {"2x16": 16} if options.quick else {size: SIZES[size] for size in options.sizes}
    found = {
        "machine": machine(),
        "setting": {"lanes": LANES, "steps": STEPS, "clip": CLIP, "optimizer": options.optimizer},
        "command": " ".join(["python", *sys.argv]),
    }
    print(" ".join(f"{key}={value}" for key, value in found["machine"].items()))
    torch.manual_seed(0)
    made = make_text(*((500, 30_000) if options.quick else (10_000, 300_000)))
    if options.train:
        try:
            text = made if options.quick else read_text(options.source)
        except (ValueError, FileNotFoundError) as error:
            parser.error(str(error))
        epochs = min(options.epochs, 0.5) if options.quick else options.epochs
        names = ["plain", "full", "adaptive"] if options.quick else ["plain", "adaptive"]
        found["train"] = []
        for width in sizes.values() if options.quick else [SIZES[options.sizes[0]]]:
            found["train"] += train(width, text, epochs, options.optimizer, names)
    else:
        found["throughput"] = measure(sizes, made, 3 if options.quick else options.rounds, options.optimizer)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
