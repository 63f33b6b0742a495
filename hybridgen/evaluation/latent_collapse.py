"""Whether a decoder uses its latent variable: the verdict on posterior collapse, in one sentence.

No single figure tells. The KL can be large while every sentence has the same posterior (then the mutual information is
nothing; Hoffman & Johnson 2016), and the posterior can know its sentence while the decoder never looks (then another
sentence's latent does no harm). What settles it is the reconstruction loss when latents are shuffled between sentences;
this test is the toolkit's own.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Cause = Literal["none", "posterior is the prior", "posterior is constant", "decoder ignores the latent"]

#: Below this many nats per sentence a latent says nothing that anybody would notice: a sentence costs a hundred.
NEGLIGIBLE_NATS = 0.5

_ADVICE = {
    "posterior is the prior": (
        "raise the KL weight from 0 over more steps (linear or cyclical), set free bits or a target rate, or weaken "
        "the decoder by word dropout"
    ),
    "posterior is constant": (
        "the KL comes from a posterior that is the same for every sentence: use free bits on the batch mean or a "
        "target rate, or train the encoder more often (aggressive training)"
    ),
    "decoder ignores the latent": (
        "give the latent to the decoder at every input as well as in its initial state, and weaken the decoder by "
        "word dropout"
    ),
}


class CollapseVerdict(NamedTuple):
    """Whether the latent is ignored.

    Attributes:
        ignored: whether it is.
        cause: why, in four words or ``none``.
        sentence: what was found and, where it is ignored, what to try.
    """

    ignored: bool
    cause: Cause
    sentence: str


def shuffle_between(n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """A random order of n rows in which no row is in its own place.

    Args:
        n: rows, at least 2.
        generator: of the order.

    Returns:
        ``(n,)`` int64: row i gets the latent of sentence ``order[i]``. All rows are on one random cycle.

    Raises:
        ValueError: if n is below 2: there is nobody to swap with.
    """
    if n < 2:
        raise ValueError(f"there are {n} sentences: latents can be shuffled between at least 2")
    cycle = torch.randperm(n, generator=generator)
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return order


def collapse_verdict(
    *,
    kl: float,
    mutual_information: float,
    active_units: int,
    latent_size: int,
    shuffle_change: float,
    shuffle_standard_error: float = 0.0,
    negligible: float = NEGLIGIBLE_NATS,
) -> CollapseVerdict:
    """Judge the figures of an evaluation.

    Args:
        kl: nats per sentence.
        mutual_information: nats, see :func:`hybridgen.evaluation.mutual_information`.
        active_units: see :func:`hybridgen.evaluation.active_units`.
        latent_size: dimensions there are.
        shuffle_change: nats per sentence by which the reconstruction loss rises when each sentence is decoded with
            another's latent (see :func:`shuffle_between`).
        shuffle_standard_error: of that change over sentences; a change within two of it counts as none.
        negligible: nats per sentence that count as nothing.

    Returns:
        The verdict. It is "ignored" where shuffling does no harm, whatever the other figures are; they say why.
    """
    changes = shuffle_change > max(negligible, 2 * shuffle_standard_error)
    figures = (
        f"KL {kl:.2f} nats, mutual information {mutual_information:.2f} nats, {active_units} of {latent_size} units "
        f"active; another sentence's latent changes the loss by {shuffle_change:+.2f} nats per sentence"
    )
    if changes:
        return CollapseVerdict(False, "none", f"the latent is used: {figures}")
    cause: Cause = "decoder ignores the latent"
    if kl < negligible:
        cause = "posterior is the prior"
    elif mutual_information < negligible:
        cause = "posterior is constant"
    return CollapseVerdict(True, cause, f"the latent is ignored ({figures}): {_ADVICE[cause]}")
