"""Penalties on the gradient of a critic C by its input, each with a second derivative::

    gradient_penalty   E (|| dC/du || - 1)^2,  u = e x + (1 - e) y,  e uniform in [0, 1], one for a sequence
    r1                 E || dC/dx ||^2     on real x
    r2                 E || dC/dy ||^2     on generated y

WGAN-GP: Gulrajani et al. 2017, arXiv:1704.00028. R1 and R2: Mescheder et al. 2018, arXiv:1801.04406, who weight them
by gamma / 2; the weight is the caller's.

A critic is any function ``critic(inputs)``, or ``critic(inputs, lengths)`` where lengths are given, that returns scores
``(B,)`` or ``(B, T)``. The score of a sequence is then the mean over its valid steps. Its forward pass runs inside
:func:`hybridgen.cells.double_backward`: recurrent critics of the cell library can be penalised on every device.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hybridgen.cells import double_backward
from hybridgen.objectives.likelihood import valid_mask, without_padding

Critic = Callable[..., Tensor]


def gradient_penalty(
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    *,
    real_lengths: Tensor | None = None,
    fake_lengths: Tensor | None = None,
    target: float = 1.0,
    one_sided: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The penalty of WGAN-GP between real and generated samples: a scalar, of which 10 times is usual.

    Args:
        critic: see the module's text.
        real: ``(B, T, F)`` or ``(B, D)``.
        fake: like ``real``.
        real_lengths: ``(B,)``; a pair is interpolated over the steps that both have.
        fake_lengths: ``(B,)``.
        target: the norm that costs nothing.
        one_sided: penalise only what is above it.
        generator: of the random places between real and generated.

    Raises:
        ValueError: if the shapes differ, or lengths are given for one side only.
    """
    if real.shape != fake.shape:
        raise ValueError(f"real {tuple(real.shape)} and fake {tuple(fake.shape)} must have the same shape")
    if (real_lengths is None) != (fake_lengths is None):
        raise ValueError("lengths are given for one of real and fake only: give both or none")
    lengths = None if real_lengths is None else torch.minimum(real_lengths, fake_lengths)
    shape = (len(real),) + (1,) * (real.dim() - 1)
    place = torch.rand(shape, device=real.device, dtype=real.dtype, generator=generator)
    # Under autocast what a generator makes is of lower precision than what the data holds.
    fake = fake.to(real.dtype)
    real, fake = without_padding(real.detach(), lengths), without_padding(fake.detach(), lengths)
    squares = _squared_norms(critic, torch.lerp(fake, real, place), lengths)
    # The square root has no derivative at 0, where a critic that says the same to all has its gradient.
    excess = (squares + 1e-12).sqrt() - target
    return (excess.relu() if one_sided else excess).square().mean()


def r1(critic: Critic, real: Tensor, *, lengths: Tensor | None = None) -> Tensor:
    """Mean squared gradient norm on real samples: a scalar, to be weighted by gamma / 2.

    Args:
        critic: see the module's text.
        real: ``(B, T, F)`` or ``(B, D)``.
        lengths: ``(B,)``.
    """
    return _squared_norms(critic, without_padding(real.detach(), lengths), lengths).mean()


def r2(critic: Critic, fake: Tensor, *, lengths: Tensor | None = None) -> Tensor:
    """:func:`r1` on generated samples."""
    return r1(critic, fake, lengths=lengths)


def penalty_of(scores: Tensor, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
    """R1 or R2 of scores that are there already: one forward pass serves the loss and its penalty.

    Args:
        scores: ``(B,)`` or ``(B, T)``, computed from ``inputs`` inside :func:`hybridgen.cells.double_backward`.
        inputs: ``(B, T, F)`` or ``(B, D)``, a leaf that requires a gradient.
        lengths: ``(B,)``.
    """
    return _squares_of(scores, inputs, lengths).mean()


def _squared_norms(critic: Critic, inputs: Tensor, lengths: Tensor | None) -> Tensor:
    with torch.enable_grad(), double_backward():
        inputs = inputs.detach().requires_grad_(True)
        scores = critic(inputs) if lengths is None else critic(inputs, lengths)
        return _squares_of(scores, inputs, lengths)


def _squares_of(scores: Tensor, inputs: Tensor, lengths: Tensor | None) -> Tensor:
    """Squared norm ``(B,)`` of each sequence's gradient."""
    if scores.dim() > 1:
        valid = valid_mask(tuple(scores.shape[:2]), lengths=lengths)
        if valid is None:
            scores = scores.flatten(1).mean(1)
        else:
            scores = scores.masked_fill(~valid, 0.0).sum(1) / valid.sum(1).clamp(min=1)
    (gradient,) = torch.autograd.grad(scores.sum(), inputs, create_graph=True)
    return without_padding(gradient, lengths).flatten(1).square().sum(1)
