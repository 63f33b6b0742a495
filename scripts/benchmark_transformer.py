"""A recurrent language model beside a small transformer, the same wall time for both, in one process.

    HYBRIDGEN_DATA=... python scripts/benchmark_transformer.py      tinyshakespeare (about 5 minutes on 2 cores)
    python scripts/benchmark_transformer.py --quick                 a few seconds, on text that needs no download

The transformer is the CPU setting that nanoGPT's README publishes for tinyshakespeare (4 layers, 4 heads, 128 wide,
windows of 64 characters, batches of 12, 2,000 iterations, no dropout, AdamW from 1e-3 to 1e-4; 1.88 nats per character
there), written here in plain torch from that description. Its 2,000 iterations take T seconds. Then
:class:`hybridgen.models.LanguageModel` trains for at most T seconds, building it included, on the same characters and
with the same way of torch's AdamW. Both are scored by :func:`hybridgen.evaluation.cold_nats`: the whole validation text
in windows of 64 characters, each from a fresh state, every position counted. Neither model sees the validation text
before.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from benchmark_cells import machine
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen import codecs
from hybridgen.cells import state as states
from hybridgen.data import TextData
from hybridgen.evaluation import carried_nats, cold_nats
from hybridgen.models import LanguageModel

WINDOW = 64
GOAL = 1.60  # nats per character of ours
PUBLISHED = 1.88  # nats per character of the transformer, nanoGPT's README
# Ours is as small as the time is short: more characters read beat a wider model.
OURS = {
    "cell": "lstm",
    "hidden_size": 256,
    "num_layers": 1,
    "embedding_size": 64,
    "batch_size": 32,
    "bptt": 32,
    "learning_rate": 8.0e-3,
    "fresh": 0.05,  # of the lanes start from the initial state at a chunk, which the score's windows do too
}


class Block(nn.Module):
    """Attention to what came before, then a perceptron on each position, both added to their input."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.perceptron_norm = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.query_key_value(self.attention_norm(x)).unflatten(-1, (3, self.num_heads, -1))  # (B, T, 3, h, d)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, h, T, d) each
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attended(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.perceptron_norm(x))))


class Transformer(nn.Module):
    """A decoder-only transformer with learned positions and tied weights, GPT-2's in small."""

    def __init__(self, vocab_size: int, *, width: int = 128, num_layers: int = 4, num_heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(WINDOW, width)
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                # What is added to the residual path is smaller the more layers there are (GPT-2).
                depth = math.sqrt(2 * num_layers) if ("attended" in name or "down" in name) else 1.0
                nn.init.normal_(parameter, std=0.02 / depth)

    def forward(self, inputs: Tensor) -> Tensor:
        """Tokens ``(B, T)`` to what the output layer reads, ``(B, T, width)``."""
        return self.norm(self.blocks(self.tokens(inputs) + self.positions.weight[: inputs.shape[1]]))

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Nats ``(N,)``: the contract of :class:`hybridgen.heads.Head`, which evaluation asks for."""
        return F.cross_entropy(F.linear(hidden, self.tokens.weight), targets, reduction="none")


def make_optimizer(model: nn.Module, *, betas: tuple[float, float], weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices alone, the same way of it for both models."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=betas, fused=True)


def update(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, learning_rate: float) -> None:
    """One step of an optimiser, the gradient clipped to a norm of 1."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def train_transformer(text: Tensor, vocab_size: int, iterations: int) -> tuple[Transformer, float]:
    """The published training; also the seconds it took."""
    batch_size, warmup, peak, floor = 12, 100, 1e-3, 1e-4
    begin = time.perf_counter()
    model = Transformer(vocab_size)
    optimizer = make_optimizer(model, betas=(0.9, 0.99), weight_decay=0.1)
    for iteration in range(iterations):
        done = (iteration - warmup) / max(1, iterations - warmup)
        cosine = floor + 0.5 * (1 + math.cos(math.pi * done)) * (peak - floor)
        rate = peak * (iteration + 1) / (warmup + 1) if iteration < warmup else cosine
        starts = torch.randint(len(text) - WINDOW, (batch_size, 1))
        window = text[starts + torch.arange(WINDOW + 1)]  # (B, T + 1)
        loss = model.nll(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten()).mean()
        update(model, optimizer, loss, rate)
    return model.eval(), time.perf_counter() - begin


def train_ours(text: Tensor, codec: dict[str, Any], seconds: float) -> tuple[LanguageModel, dict[str, Any]]:
    """Ours, trained until the time is over: the learning rate follows the clock, not a number of steps."""
    begin = last = time.perf_counter()
    model = LanguageModel(
        stack={name: OURS[name] for name in ("cell", "hidden_size", "num_layers")} | {"learn_initial_state": True},
        embedding_size=OURS["embedding_size"],
        codec=codec,
    ).train()
    optimizer = make_optimizer(model, betas=(0.9, 0.95), weight_decay=0.05)
    batch_size, steps = OURS["batch_size"], OURS["bptt"]
    lane = len(text) // batch_size  # characters of a lane
    starts = torch.arange(batch_size).unsqueeze(1) * lane  # (B, 1)
    state, position, iterations, longest = None, 0, 0, 0.0
    while True:
        now = time.perf_counter()
        # The first steps are slow and no measure of the others.
        longest, last = (max(longest, now - last) if iterations > 3 else 0.0), now
        done = (now - begin) / seconds
        if now + 1.5 * longest >= begin + seconds:
            break
        if position + steps > lane:
            # Once through: other lanes next time.
            starts, position, state = (starts + int(torch.randint(lane, ()))) % len(text), 0, None
        window = text[(starts + position + torch.arange(steps + 1)) % len(text)]  # (B, T + 1)
        initial = model.stack.initial_state(batch_size)
        fresh = torch.rand(batch_size) < OURS["fresh"]
        outputs, state = model.hidden(window[:, :-1], initial if state is None else states.where(fresh, initial, state))
        state = states.detach(state)
        loss = model.head.loss(outputs.flatten(0, 1), window[:, 1:].flatten()).mean()
        rate = min(1.0, 0.02 + done / 0.02) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        update(model, optimizer, loss, OURS["learning_rate"] * rate)
        position, iterations = position + steps, iterations + 1
    return model.eval(), {
        "seconds": round(time.perf_counter() - begin, 2),
        "iterations": iterations,
        "characters_read": iterations * batch_size * steps,
    }


def read_text(source: str) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Training and validation text as ids ``(n,)``, and the codec."""
    data = TextData(source=source, codec="characters")
    parts = []
    for part in ("train", "valid"):
        tokens = data.tokens(part)
        parts.append(torch.from_numpy(tokens.take(torch.arange(len(tokens)).numpy())))
    return *parts, data.codec.to_config()


def compare(source: str, iterations: int, seed: int) -> list[dict[str, Any]]:
    """Train and score both; prints the table."""
    train, valid, codec = read_text(source)
    vocab_size = codecs.from_config(codec).vocab_size
    print(f"\n{'':14}{'parameters':>11}{'seconds':>9}{'read':>12}{'cold 64':>9}{'carried':>9}{'goal':>6}")
    rows: list[dict[str, Any]] = []

    def add(name: str, model: nn.Module, seconds: float, read: int, cold: float, carried: float | None, **more) -> None:
        parameters = sum(p.numel() for p in model.parameters())
        row = {"model": name, "parameters": parameters, "seconds": round(seconds, 2), "characters_read": read}
        rows.append(row | {"nats_cold64": round(cold, 4), "nats_carried": carried, **more})
        print(
            f"{name:14}{parameters:11,}{seconds:9.1f}{read:12,}{cold:9.3f}{'' if carried is None else carried:>9}"
            f"{more['goal'] or '':>6}",
            flush=True,
        )

    torch.manual_seed(seed)
    transformer, seconds = train_transformer(train, vocab_size, iterations)
    cold = cold_nats(lambda inputs, state, resets: (transformer(inputs), None), transformer, valid, window=WINDOW)
    add("transformer", transformer, seconds, iterations * 12 * WINDOW, cold.nats_per_token, None, goal=None)
    torch.manual_seed(seed)
    ours, trained = train_ours(train, codec, seconds)

    def run(inputs: Tensor, state: Any, resets: Tensor | None) -> tuple[Tensor, Any]:
        return ours.hidden(inputs, state, resets=resets)

    cold = cold_nats(run, ours.head, valid, window=WINDOW).nats_per_token
    carried = round(carried_nats(run, ours.head, valid, lanes=8).nats_per_token, 4)
    add("ours", ours, trained["seconds"], trained["characters_read"], cold, carried, goal=GOAL)
    return rows


def main() -> None:
    """Parse, train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=2000, help="of the transformer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--quick", action="store_true", help="20 iterations on the embedded text, to see that all runs")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if options.iterations < 1 or options.threads < 1:
        parser.error("--iterations and --threads take whole numbers of at least 1")
    torch.set_num_threads(options.threads)
    source, iterations = ("embedded", 20) if options.quick else ("tinyshakespeare", options.iterations)
    found = {"machine": machine(), "command": " ".join(["python", *sys.argv]), "source": source, "ours": OURS}
    found |= {"iterations": iterations, "seed": options.seed, "published_transformer": PUBLISHED}
    print(" ".join(f"{key}={value}" for key, value in found["machine"].items()))
    try:
        found["models"] = compare(source, iterations, options.seed)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
