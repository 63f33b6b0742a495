"""The tasks of the cell zoo that need no trainer: copy memory, the adding problem, characters of Shakespeare.

Each is a function of a cell's name, its hidden size, a seed and a recipe. It trains two layers of that cell and gives a
figure on data that were not trained on; less is better.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import torch
from gradient_flow import adding_problem
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen import cells
from hybridgen.cells.state import detach
from hybridgen.data.download import locate
from hybridgen.data.public_sets import find_public_set

LAYERS = 2
#: Copy memory (Hochreiter & Schmidhuber 1997; as in Arjovsky et al. 2016, arXiv:1511.06464): symbols, how many, wait.
SYMBOLS, REMEMBERED, DELAY = 8, 10, 30
ADDED_OVER = 50
CHUNK = 64


@dataclass(frozen=True)
class Recipe:
    """How every cell is trained: Adam, norm of the gradient clipped at 1, cosine to 0."""

    steps: int
    batch_size: int
    learning_rate: float = 3.0e-3


class Reader(nn.Module):
    """Symbols or numbers -> two layers of a cell -> a linear layer."""

    def __init__(self, cell: str, hidden_size: int, inputs: int, outputs: int, *, embedded: int | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(inputs, embedded) if embedded else nn.Identity()
        self.stack = cells.Stack(cell, embedded or inputs, hidden_size, num_layers=LAYERS)
        self.head = nn.Linear(self.stack.output_size, outputs)

    def forward(self, inputs: Tensor, state: object = None) -> tuple[Tensor, object]:
        """Outputs ``(B, T, outputs)`` of symbols ``(B, T)`` or numbers ``(B, T, F)``, and the state after them."""
        hidden, state = self.stack(self.embedding(inputs), state)
        return self.head(hidden), state


def train(model: nn.Module, losses: Iterator[Tensor], recipe: Recipe) -> None:
    """Follow the gradient of each loss in turn.

    Raises:
        FloatingPointError: if a loss is not finite.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    for _, loss in zip(range(recipe.steps), losses, strict=False):
        if not math.isfinite(loss.item()):
            raise FloatingPointError("a loss is not finite")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def copy_reader(cell: str, hidden_size: int) -> Reader:
    """The model of the copy task."""
    return Reader(cell, hidden_size, SYMBOLS + 2, SYMBOLS, embedded=SYMBOLS + 2)


def copy_batch(rows: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs ``(N, T)``: symbols, blanks, a signal, blanks; and the symbols ``(N, REMEMBERED)`` to be said then."""
    symbols = torch.randint(SYMBOLS, (rows, REMEMBERED), generator=random)
    blank, signal = torch.full((rows, DELAY), SYMBOLS), torch.full((rows, 1), SYMBOLS + 1)
    return torch.cat([symbols, blank, signal, blank.new_full((rows, REMEMBERED - 1), SYMBOLS)], 1), symbols


def copy_memory(cell: str, hidden_size: int, seed: int, recipe: Recipe) -> float:
    """Nats for a symbol that was to be remembered; who remembers nothing has ln 8 = 2.08."""
    torch.manual_seed(seed)
    model = copy_reader(cell, hidden_size)

    def loss(rows: int, random: torch.Generator) -> Tensor:
        inputs, symbols = copy_batch(rows, random)
        return F.cross_entropy(model(inputs)[0][:, -REMEMBERED:].flatten(0, 1), symbols.flatten())

    return _learned_from_draws(model, loss, seed, recipe)


def adding_reader(cell: str, hidden_size: int) -> Reader:
    """The model of the adding problem."""
    return Reader(cell, hidden_size, 2, 1)


def adding(cell: str, hidden_size: int, seed: int, recipe: Recipe) -> float:
    """Mean square error of the sum of two marked numbers among 50; who always says 1 has 1/6 = 0.167."""
    torch.manual_seed(seed)
    model = adding_reader(cell, hidden_size)

    def loss(rows: int, random: torch.Generator) -> Tensor:
        inputs, sums = adding_problem(rows, ADDED_OVER, random)
        return F.mse_loss(model(inputs)[0][:, -1, 0], sums)

    return _learned_from_draws(model, loss, seed, recipe)


@cache
def shakespeare() -> tuple[Tensor, Tensor, int]:
    """Characters of the first nine tenths and of the last one, and how many kinds there are."""
    text = Path(locate(find_public_set("tinyshakespeare"))[0]).read_text(encoding="utf-8")
    kinds = {character: number for number, character in enumerate(sorted(set(text)))}
    numbers = torch.tensor([kinds[character] for character in text])
    cut = len(numbers) * 9 // 10
    return numbers[:cut], numbers[cut:], len(kinds)


def character_reader(cell: str, hidden_size: int, kinds: int = 65) -> Reader:
    """The model of characters."""
    return Reader(cell, hidden_size, kinds, kinds, embedded=64)


def characters(cell: str, hidden_size: int, seed: int, recipe: Recipe) -> float:
    """Nats for a character of the last tenth of tinyshakespeare, the state carried through it."""
    torch.manual_seed(seed)
    learned, held_out, kinds = shakespeare()
    model = character_reader(cell, hidden_size, kinds)

    def losses() -> Iterator[Tensor]:
        lanes = learned[: len(learned) // recipe.batch_size * recipe.batch_size].view(recipe.batch_size, -1)
        while True:
            state = None
            for begin in range(0, lanes.shape[1] - 1, CHUNK):
                inputs, targets = lanes[:, begin : begin + CHUNK], lanes[:, begin + 1 : begin + CHUNK + 1]
                logits, state = model(inputs[:, : targets.shape[1]], state)
                state = detach(state)
                yield F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    train(model, losses(), recipe)

    def nats() -> Tensor:
        total, state = torch.zeros(()), None
        for begin in range(0, len(held_out) - 1, 1000):
            piece = held_out[begin : begin + 1001]
            logits, state = model(piece[None, :-1], state)
            total += F.cross_entropy(logits[0], piece[1:], reduction="sum")
        return total / (len(held_out) - 1)

    return _evaluated(model, nats)


def _learned_from_draws(
    model: nn.Module, loss: Callable[[int, torch.Generator], Tensor], seed: int, recipe: Recipe
) -> float:
    """Train on examples that are drawn anew for each step; the loss of a thousand others."""
    random = torch.Generator().manual_seed(seed)
    train(model, (loss(recipe.batch_size, random) for _ in count()), recipe)
    return _evaluated(model, lambda: loss(1000, torch.Generator().manual_seed(seed + 10_000)))


def _evaluated(model: nn.Module, figure: Callable[[], Tensor]) -> float:
    model.eval()
    with torch.no_grad():
        return float(figure())


@dataclass(frozen=True)
class Task:
    """What a cell is tried on: the function that trains, the model it trains, and the recipe."""

    train: Callable[[str, int, int, Recipe], float]
    model: Callable[[str, int], nn.Module]
    recipe: Recipe


TASKS = {
    "copy_memory": Task(copy_memory, copy_reader, Recipe(steps=1500, batch_size=32)),
    "adding": Task(adding, adding_reader, Recipe(steps=1000, batch_size=32)),
    "tinyshakespeare": Task(characters, character_reader, Recipe(steps=1000, batch_size=32)),
}
