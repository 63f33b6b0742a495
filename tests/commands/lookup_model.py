"""A stand-in for a text VAE whose latent space is a table: it decodes a latent to the nearest sentence it knows."""

from typing import NamedTuple

import torch
from torch import Tensor

from hybridgen.codecs import WordCodec
from hybridgen.generation import Samples

KNOWN = ("a good day", "a bad day", "good food", "bad food", "one", "nothing at all")


class Posterior(NamedTuple):
    mean: Tensor

    def sample(self, num_samples=None, *, generator=None):
        return self.mean + 1e-3 * torch.randn(self.mean.shape, generator=generator)


class LookupModel:
    """Latents are counts of words: good, bad, day, food, others, unknown."""

    device = torch.device("cpu")
    AXES = ("good", "bad", "day", "food")

    def __init__(self):
        self.codec = WordCodec.train(KNOWN)
        self.table = self.encode(KNOWN).mean
        self.calls = []

    def encode(self, texts):
        rows = []
        for text in texts:
            words = text.split()
            unknown = int((self.codec.encode(text) == self.codec.unk_id).sum())
            counts = [float(words.count(axis)) for axis in self.AXES]
            rows.append([*counts, len(words) - sum(counts) - unknown, float(unknown)])
        return Posterior(torch.tensor(rows))

    def decode(self, z, options=None, *, sample_numbers=None):
        self.calls.append((z, options, sample_numbers))
        nearest = torch.cdist(z, self.table).argmin(1).tolist()
        texts = [KNOWN[i] for i in nearest]
        lengths = torch.tensor([len(text.split()) + 1 for text in texts])
        nats = -torch.ones(len(texts), int(lengths.max()))
        return Samples(nats.long(), lengths, nats, nats, ["eos"] * len(texts), texts)

    def reconstruct(self, texts, options=None, *, use_mean=True, sample_numbers=None):
        posterior = self.encode(texts)
        generator = torch.Generator().manual_seed(options.seed)
        z = posterior.mean if use_mean else posterior.sample(generator=generator)
        return self.decode(z, options, sample_numbers=sample_numbers)

    def sample_prior(self, num_samples, *, seed=0, sample_numbers=None):
        numbers = list(range(num_samples)) if sample_numbers is None else sample_numbers
        return torch.stack([torch.full((6,), float(number)) for number in numbers])

    def generate(self, num_samples, options=None, *, sample_numbers=None):
        return self.decode(self.sample_prior(num_samples, sample_numbers=sample_numbers), options)
