"""What critic and generator minimise, given the critic's scores C of real x and generated y.

A score is a real number, large for "real"; no loss here needs a sigmoid on the critic. ``sp`` is softplus::

    name                 critic                                         generator
    non_saturating       E sp(-C(x)) + E sp(C(y))                       E sp(-C(y))
    least_squares        E (C(x) - 1)^2 / 2 + E C(y)^2 / 2              E (C(y) - 1)^2 / 2
    wasserstein          E C(y) - E C(x)                                -E C(y)
    hinge                E max(0, 1 - C(x)) + E max(0, 1 + C(y))        -E C(y)
    relativistic         E sp(-(C(x) - C(y)))                           E sp(-(C(y) - C(x)))

Goodfellow et al. 2014, arXiv:1406.2661; Mao et al. 2017, arXiv:1611.04076; Arjovsky et al. 2017, arXiv:1701.07875;
Lim & Ye 2017, arXiv:1705.02894; the pairing loss RpGAN of Jolicoeur-Martineau 2019, arXiv:1807.00734, which is that of
R3GAN (Huang et al. 2024, arXiv:2501.05441) together with R1 and R2.

Scores are ``(B,)``, one a sequence, or ``(B, T)``, one a step; the mean is over those that are there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hybridgen.closest import did_you_mean


@dataclass(frozen=True)
class AdversarialLoss:
    """A pair of losses; see :func:`make`.

    Attributes:
        name: of the pair.
        pairs: whether every generated sample is judged beside a real one, so that both losses need both scores.
    """

    name: str
    pairs: bool
    _critic: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    _generator: Callable[[Tensor, Tensor | None], Tensor]

    def critic(
        self, real: Tensor, fake: Tensor, *, real_mask: Tensor | None = None, fake_mask: Tensor | None = None
    ) -> Tensor:
        """What the critic minimises: a scalar.

        Args:
            real: scores of real sequences, ``(B,)`` or ``(B, T)``.
            fake: scores of generated ones, detached from the generator by the caller.
            real_mask: bool like ``real``: which of its scores are there.
            fake_mask: the same for ``fake``.

        Raises:
            ValueError: if a mask does not fit, or the scores of a relativistic pair differ in shape.
        """
        _check(real, real_mask, "real")
        _check(fake, fake_mask, "fake")
        if self.pairs:
            (terms,) = self._critic(*_filled_pair(self.name, real, real_mask, fake, fake_mask))
            return _mean(terms, _both(real_mask, fake_mask))
        of_real, of_fake = self._critic(_filled(real, real_mask), _filled(fake, fake_mask))
        return _mean(of_real, real_mask) + _mean(of_fake, fake_mask)

    def generator(
        self,
        fake: Tensor,
        real: Tensor | None = None,
        *,
        real_mask: Tensor | None = None,
        fake_mask: Tensor | None = None,
    ) -> Tensor:
        """What the generator minimises: a scalar.

        Args:
            fake: scores of generated sequences, ``(B,)`` or ``(B, T)``, with their gradient.
            real: scores of real ones; read only where :attr:`pairs`.
            real_mask: bool like ``real``: which of its scores are there.
            fake_mask: the same for ``fake``.

        Raises:
            ValueError: if a relativistic loss gets no real scores, or a shape does not fit.
        """
        _check(fake, fake_mask, "fake")
        if not self.pairs:
            return _mean(self._generator(_filled(fake, fake_mask), None), fake_mask)
        if real is None:
            raise ValueError(f"the generator's loss of {self.name!r} compares with real samples: give their scores")
        _check(real, real_mask, "real")
        filled_real, filled_fake = _filled_pair(self.name, real, real_mask, fake, fake_mask)
        return _mean(self._generator(filled_fake, filled_real), _both(real_mask, fake_mask))


_LOSSES = {
    loss.name: loss
    for loss in (
        AdversarialLoss(
            "non_saturating", False, lambda r, f: (F.softplus(-r), F.softplus(f)), lambda f, _: F.softplus(-f)
        ),
        AdversarialLoss(
            "least_squares",
            False,
            lambda r, f: (0.5 * (r - 1).square(), 0.5 * f.square()),
            lambda f, _: 0.5 * (f - 1).square(),
        ),
        AdversarialLoss("wasserstein", False, lambda r, f: (-r, f), lambda f, _: -f),
        AdversarialLoss("hinge", False, lambda r, f: (F.relu(1 - r), F.relu(1 + f)), lambda f, _: -f),
        AdversarialLoss("relativistic", True, lambda r, f: (F.softplus(f - r),), lambda f, r: F.softplus(r - f)),
    )
}


def names() -> tuple[str, ...]:
    """The names :func:`make` knows."""
    return tuple(_LOSSES)


def make(name: str) -> AdversarialLoss:
    """A pair of losses by name.

    Args:
        name: one of :func:`names`.

    Raises:
        ValueError: if there is none of that name; the message names the closest.
    """
    if name not in _LOSSES:
        hint = did_you_mean(name, names(), f"choose one of {', '.join(names())}")
        raise ValueError(f"there is no adversarial loss named {name!r}: {hint}")
    return _LOSSES[name]


def accuracy(real: Tensor, fake: Tensor, *, pairs: bool = False) -> float:
    """Share of the critic's verdicts that are right, ties counting half: 0.5 where it cannot tell.

    Args:
        real: scores of real sequences, any shape.
        fake: scores of generated ones.
        pairs: whether a verdict is "this real one is more real than this generated one", as for ``relativistic``;
            otherwise it is the sign of a score.
    """
    with torch.no_grad():
        margins = (real - fake).flatten() if pairs else torch.cat([real.flatten(), -fake.flatten()])
        return float(((margins.sign() + 1) / 2).mean())


def _check(scores: Tensor, mask: Tensor | None, name: str) -> None:
    if mask is not None and (mask.dtype is not torch.bool or mask.shape != scores.shape):
        raise ValueError(
            f"{name}_mask must be bool of shape {tuple(scores.shape)} but is {mask.dtype} of {tuple(mask.shape)}"
        )


def _filled(scores: Tensor, mask: Tensor | None) -> Tensor:
    # Filled before any arithmetic, so that what is not there may be NaN and still gets a gradient of zero.
    return scores if mask is None else scores.masked_fill(~mask, 0.0)


def _filled_pair(
    name: str, real: Tensor, real_mask: Tensor | None, fake: Tensor, fake_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    if real.shape != fake.shape:
        raise ValueError(
            f"{name} pairs scores one by one, but real has shape {tuple(real.shape)} and fake {tuple(fake.shape)}"
        )
    return _filled(real, real_mask), _filled(fake, fake_mask)


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _mean(terms: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return terms.mean()
    return terms.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)
