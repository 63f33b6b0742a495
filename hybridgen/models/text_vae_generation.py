"""From sentences to latents and back: what the commands of a text VAE are made of."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from hybridgen.generation import DecodingOptions, Samples, beam_search, sample
from hybridgen.generation.randomness import GOLDEN_GAMMA, mix
from hybridgen.models.text_vae_parts import Posterior
from hybridgen.objectives.variational import DiagonalGaussian, VonMisesFisher

if TYPE_CHECKING:
    from hybridgen.models.text_vae import TextVAE

_ENCODED_TOGETHER = 256
#: Makes the draws of latents others than those of tokens, which have the same seeds and numbers.
_OF_LATENTS = np.uint64(0x6C6174656E74)


@torch.no_grad()
def encode(model: "TextVAE", texts: Sequence[str]) -> Posterior:
    """The posterior of each text; see :meth:`TextVAE.encode`.

    Raises:
        ValueError: if ``texts`` is one string, or empty.
    """
    if isinstance(texts, str):
        raise ValueError("encode takes a list of sentences, but got one string: put it into a list")
    if not len(texts):
        raise ValueError("there are no sentences to encode: give at least one")
    sentences = [_sentence(model, text, number) for number, text in enumerate(texts)]
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    pieces = []
    for first in range(0, len(order), _ENCODED_TOGETHER):
        some = [sentences[i] for i in order[first : first + _ENCODED_TOGETHER]]
        lengths = torch.tensor([len(s) for s in some], device=model.device)
        ids = pad_sequence(some, batch_first=True).to(model.device)
        pieces.append(model.posterior(ids, lengths if bool((lengths != ids.shape[1]).any()) else None))
    back = torch.tensor(order, device=model.device).argsort()
    if isinstance(pieces[0], VonMisesFisher):
        return VonMisesFisher(torch.cat([p.mean for p in pieces])[back], pieces[0].kappa)
    return DiagonalGaussian(*(torch.cat(parts)[back] for parts in zip(*pieces, strict=True)))


@torch.no_grad()
def decode(
    model: "TextVAE", z: Tensor, options: DecodingOptions | None, sample_numbers: Sequence[int] | None
) -> Samples:
    """A sentence from each latent; see :meth:`TextVAE.decode`.

    Raises:
        ValueError: if ``z`` is not floating point of shape ``(N, D)``.
    """
    if z.dim() != 2 or z.shape[1] != model.latent_size or not z.is_floating_point() or not len(z):
        raise ValueError(
            f"z must be floating point of shape (N, {model.latent_size}), N at least 1, but is {z.dtype} of "
            f"{list(z.shape)}"
        )
    options = options or DecodingOptions()
    z = z.to(model.device, model.embedding.weight.dtype)

    def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        latent, carried = state
        hidden, carried = model.decoder.step(model.embedding(tokens), latent, carried)
        return model.head.log_probs(hidden), (latent, carried)

    settings = {
        "step": step,
        "prompts": [[model.start_id]] * len(z),
        "state": (z, model.decoder.initial_state(z)),
        "options": options,
        "eos_token_id": model.codec.eos_id,
    }
    if options.num_beams == 1:
        return sample(**settings, decode=model.codec.decode, sample_numbers=sample_numbers)
    beams = beam_search(**settings)
    tokens, lengths = beams.tokens[:, 0], beams.lengths[:, 0]
    tokens, log_probs = tokens[:, : int(lengths.max())], beams.log_probs[:, 0, : int(lengths.max())]
    reasons = [row[0] for row in beams.finish_reasons]
    texts = []
    for row, length, reason in zip(tokens.tolist(), lengths.tolist(), reasons, strict=True):
        texts.append(model.codec.decode(row[: length - (reason == "eos")]))
    return Samples(tokens, lengths, log_probs, torch.zeros_like(log_probs), reasons, texts)


@torch.no_grad()
def sample_prior(prior: nn.Module, numbers: Sequence[int], seed: int) -> Tensor:
    """The latents of the samples of these numbers, ``(N, D)``; each depends on the seed and its number alone."""
    source = prior.mixture() if hasattr(prior, "mixture") else prior
    return torch.cat([source.sample(1, generator=generator_of(seed, number)) for number in numbers])


@torch.no_grad()
def sample_posterior(posterior: Posterior, numbers: Sequence[int], seed: int) -> Tensor:
    """A latent of each posterior, ``(N, D)``; its noise depends on the seed and its number alone."""
    rows = []
    for index, number in enumerate(numbers):
        generator = generator_of(seed, number)
        if isinstance(posterior, VonMisesFisher):
            row = VonMisesFisher(posterior.mean[index], posterior.kappa)
        else:
            row = DiagonalGaussian(posterior.mean[index], posterior.log_variance[index])
        rows.append(row.sample(generator=generator))
    return torch.stack(rows)


def generator_of(seed: int, number: int) -> torch.Generator:
    """A generator of the latent's draws, on the CPU: the same latents on every device.

    Raises:
        ValueError: if the seed is not in [0, 2**64).
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}: give a whole number in [0, 2**64)")
    key = mix(np.asarray([seed], dtype=np.uint64) ^ _OF_LATENTS)
    state = mix(key + (np.asarray([number], dtype=np.uint64) + np.uint64(1)) * GOLDEN_GAMMA)
    return torch.Generator().manual_seed(int(state[0]))


def sample_range(count: int, sample_numbers: Sequence[int] | None) -> list[int]:
    """The numbers of ``count`` samples.

    Raises:
        ValueError: if ``count`` is below 1, or there are not as many numbers of at least 0.
    """
    if count < 1:
        raise ValueError(f"num_samples is {count}: give at least 1")
    numbers = list(range(count)) if sample_numbers is None else [int(n) for n in sample_numbers]
    if len(numbers) != count or any(n < 0 for n in numbers):
        raise ValueError(f"sample_numbers must be one whole number >= 0 for each of the {count} samples")
    return numbers


def _sentence(model: "TextVAE", text: str, number: int) -> Tensor:
    """Ids of a sentence and its ``<eos>``, ``(T,)``."""
    if isinstance(text, str) and len(text.splitlines()) > 1:
        raise ValueError(f"sentence {number} has several lines: give one line each")
    ids = model.codec.encode(text.rstrip("\r\n") if isinstance(text, str) else text)
    eos = model.codec.eos_id
    if bool((ids == eos).any()):
        raise ValueError(f"sentence {number} holds the end token inside it: leave it out")
    return torch.cat([ids, torch.tensor([eos])])
