"""One update of critic and generator, of sequences or of codes: the part that all modes share."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from hybridgen.cells import double_backward
from hybridgen.models.sequence_gan_parts import Scores
from hybridgen.objectives import adversarial

Judge = Callable[[Tensor], Scores]


def critic_loss(loss: adversarial.AdversarialLoss, real: Scores, fake: Scores, valid: Tensor | None) -> Tensor:
    """The critic's loss, a scalar, summed over the kinds of scores that there are.

    Args:
        loss: which loss.
        real: scores of real sequences, ``(B,)`` or of every step ``(B, T)``.
        fake: the same of generated ones.
        valid: ``(B, T)`` bool, the steps there are; all where it is None.
    """
    terms = []
    if real.sequence is not None:
        terms.append(loss.critic(real.sequence, fake.sequence))
    if real.steps is not None:
        terms.append(loss.critic(real.steps, fake.steps, real_mask=valid, fake_mask=valid))
    return torch.stack(terms).sum()


def generator_loss(
    loss: adversarial.AdversarialLoss, fake: Scores, real: Scores | None, valid: Tensor | None
) -> Tensor:
    """The generator's loss, a scalar, summed over the kinds of scores that there are.

    Args are those of :func:`critic_loss`; ``real`` is given where the loss is relative to it.
    """
    terms = []
    if fake.sequence is not None:
        terms.append(loss.generator(fake.sequence, None if real is None else real.sequence))
    if fake.steps is not None:
        of_real = None if real is None else real.steps
        mask = {"real_mask": None if real is None else valid, "fake_mask": valid}
        terms.append(loss.generator(fake.steps, of_real, **mask))
    return torch.stack(terms).sum()


def one_score(scores: Scores, valid: Tensor | None) -> Tensor:
    """One number a sequence, ``(B,)``: what accuracy and penalties are of."""
    total = 0
    if scores.sequence is not None:
        total = total + scores.sequence
    if scores.steps is not None:
        if valid is None:
            total = total + scores.steps.mean(1)
        else:
            total = total + scores.steps.masked_fill(~valid, 0.0).sum(1) / valid.sum(1).clamp(min=1)
    return total


def judge_both(
    loss: adversarial.AdversarialLoss,
    penalty: str,
    judges: tuple[Judge, Judge],
    inputs: tuple[Tensor, Tensor],
    *,
    lengths: Tensor | None = None,
    valid: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Any]:
    """The critic's side of an update: its loss, the penalty and how often it was right.

    Args:
        loss: the pair of losses.
        penalty: ``gradient_penalty``, ``r1_r2`` (half the sum of both), ``r1`` (half of it) or ``none``.
        judges: the critic as a function of the values alone, of real and of generated samples.
        inputs: these values, ``(B, T, F)`` or ``(B, D)``.
        lengths: ``(B,)``, of both.
        valid: ``(B, T)``, the same as a mask.
        generator: of the places between real and generated.
    """
    # In one type: under autocast what a generator makes is of lower precision than what the data holds.
    inputs = tuple(x.detach().to(inputs[0].dtype) for x in inputs)
    real, fake = (x.requires_grad_(penalty in ("r1_r2", "r1")) for x in inputs)
    # Without a penalty there is no second derivative, and the cells may take their fastest way.
    with double_backward() if penalty in ("r1_r2", "r1") else nullcontext():
        scores = judges[0](real), judges[1](fake)
    found = {"loss": critic_loss(loss, *scores, valid)}
    numbers = [one_score(s, valid) for s in scores]
    if penalty == "gradient_penalty":
        ends = {"real_lengths": lengths, "fake_lengths": lengths, "generator": generator_on(generator, real)}

        def between(values: Tensor, _: Tensor | None = None) -> Tensor:
            return one_score(judges[0](values), valid)

        found["penalty"] = adversarial.gradient_penalty(between, real, fake, **ends)
    elif penalty != "none":
        sides = list(zip(numbers, (real, fake), strict=True))[: 2 if penalty == "r1_r2" else 1]
        found["penalty"] = 0.5 * sum(adversarial.penalty_of(n, x, lengths=lengths) for n, x in sides)
    found["accuracy"] = adversarial.accuracy(*numbers, pairs=loss.pairs)
    return found


def generator_on(generator: torch.Generator | None, like: Tensor) -> torch.Generator | None:
    """A generator on the device of a tensor of any shape, seeded by the one on the CPU."""
    if generator is None or like.device.type == "cpu":
        return generator
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator(like.device).manual_seed(seed)
