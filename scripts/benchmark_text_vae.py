"""Training throughput of TextVAE beside the most copied public recipe, at equal model size, in one process.

    python scripts/benchmark_text_vae.py                          PTB, 2 to 3 minutes on 2 cores
    python scripts/benchmark_text_vae.py --quick                  the embedded text, a tiny model, few rounds

The recipe is what some twenty public repositories copy from Sentence-VAE (github.com/timbmg/Sentence-VAE): sentences in
random order, cut at 60 tokens and padded to 60; torch.nn's LSTM as encoder and decoder; softmax over the vocabulary at
every place; padding left out of the loss by its index. It is written plainly here, twice:

* ``padded``  runs all 60 steps of every sentence;
* ``packed``  sorts a batch and packs it, as Sentence-VAE's own forward does, so that a batch is as long as its longest
  sentence.

All three have the same embedding, hidden and latent sizes, one embedding for encoder and decoder, output weights of
their own, the latent as the decoder's initial state, Adam, and gradients clipped to the same norm. They take turns, so
that whatever else the machine does hits all alike; a rate counts real tokens (no padding), and ratios are medians over
rounds of two rates of the same round.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hybridgen.data import TextBatch, TextData
from hybridgen.data.files import write_text
from hybridgen.models import TextVAE

LONGEST = 60
CLIP = 5.0
GOAL = 2.0


class PlainVAE(nn.Module):
    """The recipe: see the module's text."""

    def __init__(self, vocab_size: int, embedding_size: int, hidden_size: int, latent_size: int, *, packed: bool):
        super().__init__()
        self.packed = packed
        self.padding = vocab_size  # one more token
        self.embedding = nn.Embedding(vocab_size + 1, embedding_size)
        self.encoder = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.decoder = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.to_mean = nn.Linear(hidden_size, latent_size)
        self.to_log_variance = nn.Linear(hidden_size, latent_size)
        self.to_state = nn.Linear(latent_size, 2 * hidden_size)
        self.to_vocabulary = nn.Linear(hidden_size, vocab_size)
        self.nll = nn.NLLLoss(ignore_index=self.padding, reduction="sum")

    def forward(self, inputs: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        """Loss of a padded batch ``(B, 60)``: nats per sentence."""
        if self.packed:
            lengths, order = lengths.sort(descending=True)
            inputs, targets = inputs[order], targets[order, : int(lengths[0])]
            read = pack_padded_sequence(self.embedding(inputs), lengths, batch_first=True)
            _, (hidden, _) = self.encoder(read)
            hidden = hidden[-1]
        else:
            read = self.embedding(inputs)
            outputs, _ = self.encoder(read)
            hidden = outputs[torch.arange(len(inputs)), lengths - 1]
        mean, log_variance = self.to_mean(hidden), self.to_log_variance(hidden)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        state = tuple(part.contiguous().unsqueeze(0) for part in self.to_state(z).chunk(2, -1))
        outputs, _ = self.decoder(read, state)
        if self.packed:
            outputs, _ = pad_packed_sequence(outputs, batch_first=True)
        log_probs = self.to_vocabulary(outputs).log_softmax(-1)  # (B, T, V)
        nll = self.nll(log_probs.flatten(0, 1), targets.flatten())
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        return (nll + kl) / len(inputs)


def main() -> int:
    """Run the rounds, print the table, write the JSON; exit code 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", default="ptb", help="text, as of hybridgen.data.TextData (words, one line a sentence)"
    )
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=12, help="training steps of each in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="embedded text, tiny model, 2 rounds")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    for name in ("batch_size", "rounds", "batches", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}: give at least 1")
    embedding, hidden, latent = (16, 16, 4) if options.quick else (256, 256, 32)
    if options.quick:
        options.source, options.rounds, options.batches = "embedded", 2, 2
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    data = TextData(source=options.source, codec="words", layout="lines", batch_size=options.batch_size)
    try:
        vocabulary = data.vocab_size
    except ValueError as error:
        parser.error(str(error))
    runners = {
        "TextVAE": ours(data, embedding, hidden, latent),
        "padded": plain(data, embedding, hidden, latent, packed=False),
        "packed": plain(data, embedding, hidden, latent, packed=True),
    }
    sizes = {name: size for name, (size, _) in runners.items()}
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for round_number in range(options.rounds + 1):
        for name, (_, step) in runners.items():
            tokens, began = 0, time.perf_counter()
            for _ in range(options.batches):
                tokens += step()
            rate = tokens / (time.perf_counter() - began)
            if round_number:  # the first warms up
                rates[name].append(rate)
    ratios = {
        name: statistics.median(a / b for a, b in zip(rates["TextVAE"], rates[name], strict=True))
        for name in ("padded", "packed")
    }
    print(f"{'':10}{'parameters':>12}{'tokens/s':>12}   TextVAE is faster by")
    for name, values in rates.items():
        times = f"{ratios[name]:.2f} times" if name in ratios else ""
        print(f"{name:10}{sizes[name]:12,}{statistics.median(values):12.0f}   {times}")
    if options.out is not None:
        document = {
            "benchmark": "text_vae_throughput",
            "source": options.source,
            "vocab_size": vocabulary,
            "sizes": {"embedding": embedding, "hidden": hidden, "latent": latent, "batch": options.batch_size},
            "parameters": sizes,
            "tokens_per_second": {name: statistics.median(values) for name, values in rates.items()},
            "rates": rates,
            "ratios": ratios,
            "goal": {"padded": GOAL},
            "machine": {"threads": options.threads, "cpu": platform.processor() or platform.machine(),
                        "torch": torch.__version__},
        }  # fmt: skip
        write_text(options.out, json.dumps(document, indent=1) + "\n")
    return 0 if options.quick or ratios["padded"] >= GOAL else 1


def trained(model: nn.Module, loss: Callable[[], tuple[Tensor, int]]) -> tuple[int, Callable[[], int]]:
    """The size of a model, and one step of its training that returns how many tokens it learned from."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> int:
        value, tokens = loss()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return tokens

    return sum(parameter.numel() for parameter in model.parameters()), step


def ours(data: TextData, embedding: int, hidden: int, latent: int) -> tuple[int, Callable[[], int]]:
    """TextVAE on the batches that TextData makes."""
    model = TextVAE(
        encoder={"hidden_size": hidden},
        decoder={"hidden_size": hidden},
        embedding_size=embedding,
        latent_size=latent,
        latent_to="state",
        tie_weights=False,
        codec=data.codec.to_config(),
    ).train()
    # Without a trainer there is nothing to log to, which Lightning says once.
    warnings.filterwarnings("ignore", message="You are trying to `self.log")
    batches = forever(data)

    def loss() -> tuple[Tensor, int]:
        batch = next(batches)
        return model.training_step(batch, 0), batch.num_targets

    return trained(model, loss)


def forever(data: TextData) -> Iterator[TextBatch]:
    """Epoch after epoch."""
    loader = data.train_dataloader()
    while True:
        yield from loader


def plain(data: TextData, embedding: int, hidden: int, latent: int, *, packed: bool) -> tuple[int, Callable[[], int]]:
    """The recipe on batches of random sentences, padded once before training as the recipe does."""
    model = PlainVAE(data.vocab_size, embedding, hidden, latent, packed=packed).train()
    tokens = data.tokens("train")
    lengths = np.minimum(np.diff(tokens.starts, append=len(tokens) - 1), LONGEST)
    inputs = torch.full((len(lengths), LONGEST), model.padding)
    targets = torch.full((len(lengths), LONGEST), model.padding)
    for row, (start, length) in enumerate(zip(np.asarray(tokens.starts), lengths, strict=True)):
        ids = torch.from_numpy(tokens.take(np.arange(start, start + length + 1)))
        inputs[row, :length], targets[row, :length] = ids[:-1], ids[1:]
    lengths = torch.from_numpy(lengths)
    generator = torch.Generator().manual_seed(0)

    def loss() -> tuple[Tensor, int]:
        rows = torch.randint(len(lengths), (data.batch_size,), generator=generator)
        return model(inputs[rows], targets[rows], lengths[rows]), int(lengths[rows].sum())

    return trained(model, loss)


if __name__ == "__main__":
    sys.exit(main())
