"""Draws from a head that a gradient goes through: what a critic reads of a generator.

Normal and logistic variables are reparameterised (Kingma & Welling 2014, arXiv:1312.6114), which is exact. What is
discrete (keys, levels, the state of a pen, which component of a mixture) is drawn hard forwards, while the gradient is
that of the expectation: the straight-through estimator (Bengio et al. 2013, arXiv:1308.3432). It is biased, and it lets
the critic read nothing but what samples will be like: soft probabilities would be told from data by their softness.
"""

import torch
from torch import Tensor

from hybridgen.heads.elements import ElementHead
from hybridgen.heads.gaussian import GaussianHead
from hybridgen.heads.logistics import MixtureOfLogisticsHead
from hybridgen.heads.strokes import BivariateMixtureHead

_EDGE = 1e-6


def relaxed_sample(head: ElementHead, hidden: Tensor, uniforms: Tensor) -> Tensor:
    """Draw elements, with a gradient to ``hidden`` and to the head's weights.

    Args:
        head: any head over elements; one that has a method ``relaxed_sample`` of its own is asked.
        hidden: ``(N, H)``.
        uniforms: ``(N, num_uniforms)`` in [0, 1): the same give the same draw as :meth:`ElementHead.sample`.

    Returns:
        ``(N, F)``.
    """
    own = getattr(head, "relaxed_sample", None)
    if own is not None:
        return own(hidden, uniforms)
    continuous = isinstance(head, MixtureOfLogisticsHead) and head.num_levels is None
    if continuous or isinstance(head, GaussianHead | BivariateMixtureHead):
        # Inverse distribution functions are too coarse in half precision.
        uniforms = uniforms.to(torch.promote_types(hidden.dtype, torch.float32))
        outputs = head._outputs(hidden)
        drawn = head._draw(outputs, uniforms.clamp(_EDGE, 1 - _EDGE), 1.0)
        return drawn if isinstance(head, GaussianHead) else _straight_through(drawn, _choices(head, outputs))
    return _straight_through(head.sample(hidden, uniforms=uniforms), head.mean(hidden))


def _straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of ``hard``, with the gradient of ``soft`` added to its own."""
    return hard + (soft - soft.detach())


def _choices(head: MixtureOfLogisticsHead | BivariateMixtureHead, outputs: Tensor) -> Tensor:
    """The expectation over what is discrete in a draw, ``(N, F)``: a gradient to the probabilities alone."""
    if isinstance(head, MixtureOfLogisticsHead):
        logits, means, _ = head._split(outputs)
        return (torch.softmax(logits, -1) * means.detach()).sum(-1)
    logits, means, _, _, pen = head._split(outputs)
    move = (torch.softmax(logits, -1).unsqueeze(1) * means.detach()).sum(-1)
    return torch.cat([move, torch.softmax(pen, -1)], -1)


def draw(head: ElementHead, hidden: Tensor, uniforms: Tensor, *, relaxed: bool, temperature: float = 1.0) -> Tensor:
    """A draw ``(..., F)`` for hidden states ``(..., H)``.

    It has a gradient where it is ``relaxed``; otherwise it is one at a temperature, without.
    """
    if relaxed and torch.is_grad_enabled():
        return relaxed_sample(head, hidden, uniforms)
    return head.sample(hidden, uniforms=uniforms, temperature=temperature)
