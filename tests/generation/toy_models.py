"""Hand-made next-token models, small enough to enumerate every sequence they can produce."""

import itertools
from typing import NamedTuple

import torch


class ToyState(NamedTuple):
    hidden: torch.Tensor
    steps: torch.Tensor


class ToyModel:
    """An Elman network with random weights: its logits depend on the whole past, not on the last token alone."""

    def __init__(self, vocabulary_size, seed=0, width=5, scale=2.0):
        generator = torch.Generator().manual_seed(seed)

        def weights(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.vocabulary_size = vocabulary_size
        self.embedding = weights(vocabulary_size, width)
        self.recurrent = weights(width, width)
        self.output = weights(width, vocabulary_size) * scale
        self.batch_sizes = []

    def initial_state(self, batch_size):
        hidden = torch.zeros(batch_size, self.recurrent.shape[0], dtype=torch.float64)
        return ToyState(hidden, torch.zeros(batch_size, dtype=torch.long))

    def step(self, tokens, state):
        self.batch_sizes.append(len(tokens))
        hidden = torch.tanh(self.embedding[tokens] + state.hidden @ self.recurrent)
        return (hidden @ self.output).float(), ToyState(hidden, state.steps + 1)

    def log_probs(self, prompt, tokens):
        """Log-probability of each token of a continuation."""
        state, result = self.initial_state(1), []
        for last, token in itertools.pairwise([*prompt, *tokens]):
            logits, state = self.step(torch.tensor([last]), state)
            result.append(float(logits.log_softmax(-1)[0, token]))
        return result[len(prompt) - 1 :]

    def sequences(self, longest, end_token):
        """Every sequence that ends with the end token or has the longest length."""
        others = [token for token in range(self.vocabulary_size) if token != end_token]
        for length in range(longest):
            for body in itertools.product(others, repeat=length):
                yield (*body, end_token)
        yield from itertools.product(others, repeat=longest)


def markov_step(table):
    """A first-order Markov chain; its state is one unused number per row."""

    def step(tokens, state):
        return table[tokens], state

    return step


def chi_square_is_plausible(counts, expected):
    """Whether Pearson's statistic is less than five standard deviations above its mean."""
    counts, expected = counts.double(), expected.double()
    assert bool((counts[expected == 0] == 0).all()), "an impossible outcome was drawn"
    counts, expected = counts[expected > 0], expected[expected > 0]
    statistic = float(((counts - expected) ** 2 / expected).sum())
    degrees = len(counts) - 1
    return statistic < degrees + 5 * (2 * degrees) ** 0.5
