"""Models small enough to be scored by hand: a recurrent one and a Markov chain, both in double precision."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from hybridgen.heads import CategoricalHead

CLASSES, WIDTH = 7, 5


class Hidden(NamedTuple):
    h: torch.Tensor


class TinyModel(nn.Module):
    """A plain recurrent network whose embedding is tied to its head."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, WIDTH)
        self.recurrent = nn.Parameter(torch.randn(WIDTH, WIDTH) * 0.5)
        self.start = nn.Parameter(torch.randn(WIDTH))
        self.head = CategoricalHead(WIDTH, CLASSES, tied=self.embedding)
        self.double()
        self.eval()

    def step(self, token, h):
        return torch.tanh(self.embedding(token) + h @ self.recurrent.t())

    def run(self, inputs, state, resets):
        start = self.start.expand(len(inputs), -1)
        h, outputs = start if state is None else state.h, []
        for t in range(inputs.shape[1]):
            if resets is not None:
                h = torch.where(resets[:, t : t + 1], start, h)
            h = self.step(inputs[:, t], h)
            outputs.append(h)
        return torch.stack(outputs, 1), Hidden(h)


def nats_by_hand(model, tokens, *, start=None, fresh=()):
    """Nats of every predicted token, one step at a time; the state is fresh before predicting those in ``fresh``."""
    tokens = tokens.tolist()
    inputs = tokens[:-1] if start is None else [start, *tokens[:-1]]
    targets = tokens[1:] if start is None else tokens
    h, nats, states = model.start, [], []
    with torch.no_grad():
        for number, (x, y) in enumerate(zip(inputs, targets, strict=True)):
            if number in fresh:
                h = model.start
            h = model.step(torch.tensor(x), h)
            nats.append(-F.log_softmax(F.linear(h, model.head.weight, model.head.bias), -1)[y].item())
            states.append(h)
    return nats, states, targets


def text(length=23, seed=0):
    return torch.randint(CLASSES, (length,), generator=torch.Generator().manual_seed(seed))
