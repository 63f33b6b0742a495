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
    if continuous or isinstance(head, GaussianHead):
        # Inverse distribution functions are too coarse in half precision, and not there on every device.
        uniforms = uniforms.to(torch.promote_types(hidden.dtype, torch.float32))
        return head._draw(head._outputs(hidden), uniforms.clamp(_EDGE, 1 - _EDGE), 1.0)
    hard, soft = head.sample(hidden, uniforms=uniforms), head.mean(hidden)
    return hard + (soft - soft.detach())


def draw(head: ElementHead, hidden: Tensor, uniforms: Tensor, *, relaxed: bool, temperature: float = 1.0) -> Tensor:
    """A draw ``(..., F)`` for hidden states ``(..., H)``.

    It has a gradient where it is ``relaxed``; otherwise it is one at a temperature, without.
    """
    if relaxed and torch.is_grad_enabled():
        return relaxed_sample(head, hidden, uniforms)
    return head.sample(hidden, uniforms=uniforms, temperature=temperature)
