"""The contract of a head over elements: vectors of F numbers, such as a frame of music or a row of an image.

An element head offers functions of hidden states ``(N, H)``::

    head.nll(hidden, targets)        # (N,): -log p(target), exact, in nats; targets (N, F)
    head.sample(hidden, ...)         # (N, F): a draw from p
    head.mean(hidden)                # (N, F): the expectation of p

A draw is made of uniform numbers by inverting distribution functions, ``num_uniforms`` of them for an element, so that
whoever draws may bring them: a sample is then the same alone and in any batch.
"""

import torch
from torch import Tensor, nn

from hybridgen.cells.matmul import linear
from hybridgen.heads.base import Head, check_size, linear_weight

#: Uniform numbers are kept this far from 0 and 1, where the inverse of a distribution function is infinite.
_EDGE = 1e-7


class ElementHead(Head):
    """A distribution over vectors ``(F,)`` given a hidden state, whose parameters are a linear map of it.

    Args:
        hidden_size: width H of a hidden state.
        element_size: width F of an element.
        num_outputs: how many numbers describe the distribution of one element.
        num_uniforms: how many uniform numbers a draw takes.

    Attributes:
        kind: what the numbers of an element must be, ``binary`` or ``real`` or ``strokes``; data say what they hold.

    Raises:
        ValueError: if a size is not a whole number of at least 1.
    """

    kind = "real"

    def __init__(self, hidden_size: int, element_size: int, *, num_outputs: int, num_uniforms: int) -> None:
        super().__init__(hidden_size)
        check_size("element_size", element_size)
        self.element_size = element_size
        self.num_uniforms = num_uniforms
        self.weight = linear_weight(num_outputs, hidden_size)
        self.bias = nn.Parameter(torch.zeros(num_outputs))

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood of the targets.

        Args:
            hidden: ``(N, H)``.
            targets: ``(N, F)``; what values they may have, the head says. Values are not looked at (that would cost
                more than the likelihood, at every step of a particle filter): data check them once.

        Returns:
            ``(N,)`` nats, with a gradient.

        Raises:
            ValueError: if a shape does not fit.
        """
        raise NotImplementedError(f"{type(self).__name__} must define nll()")

    def sample(
        self,
        hidden: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        uniforms: Tensor | None = None,
    ) -> Tensor:
        """Draw elements.

        Args:
            hidden: ``(N, H)``.
            generator: of the random numbers; torch's own by default.
            temperature: at least 0. The density is raised to the power 1/temperature where that stays in the family
                (Bernoulli, categorical, normal); a logistic's variance is multiplied by it. 0 is the mode.
            uniforms: ``(N, num_uniforms)`` in [0, 1): take these instead of drawing.

        Returns:
            ``(N, F)``, without a gradient.

        Raises:
            ValueError: if the temperature is negative or a shape does not fit.
        """
        if not temperature >= 0:
            raise ValueError(f"temperature is {temperature}: give a number of at least 0")
        self._check_hidden(hidden)
        shape = (len(hidden), self.num_uniforms)
        # In half precision a number near 1 is 1, and its quantile infinite.
        precise = torch.promote_types(hidden.dtype, torch.float32)
        if uniforms is None:
            uniforms = torch.rand(shape, generator=generator, device=hidden.device, dtype=precise)
        elif uniforms.shape != shape:
            raise ValueError(f"uniforms must have shape {shape} but have {tuple(uniforms.shape)}")
        with torch.no_grad():
            uniforms = uniforms.to(precise).clamp(_EDGE, 1 - _EDGE)
            return self._draw(self._outputs(hidden), uniforms, max(temperature, 1e-12))

    def mean(self, hidden: Tensor) -> Tensor:
        """The expectation of the element, ``(N, F)``, with a gradient."""
        raise NotImplementedError(f"{type(self).__name__} must define mean()")

    def extra_repr(self) -> str:
        """The sizes, as ``print(module)`` shows them."""
        return f"{self.hidden_size}, {self.element_size}"

    def _draw(self, outputs: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        """Elements ``(N, F)`` from the distribution's numbers and uniform ones inside (0, 1)."""
        raise NotImplementedError(f"{type(self).__name__} must define _draw()")

    def _outputs(self, hidden: Tensor) -> Tensor:
        outputs = linear(hidden, self.weight, self.bias)
        # Half precision is too coarse for densities and for inverse distribution functions.
        return outputs.to(torch.promote_types(outputs.dtype, torch.float32))

    def _checked_outputs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The numbers of the distributions, ``(N, num_outputs)``, having checked the shapes."""
        self._check_hidden(hidden)
        if targets.shape != (hidden.shape[0], self.element_size):
            raise ValueError(
                f"targets must have shape ({hidden.shape[0]}, {self.element_size}) but have {tuple(targets.shape)}"
            )
        return self._outputs(hidden)


def bounded(raw: Tensor, low: float, high: float) -> Tensor:
    """A smooth map onto (low, high) that is 0 at 0 and has slope about 1 there.

    For the log of a scale: a hard clamp has no gradient beyond its bounds, and no bound at all lets a density run away
    to infinity on repeated values.

    Args:
        raw: any shape.
        low: below 0.
        high: above 0.
    """
    return torch.where(raw < 0, low * torch.tanh(raw / low), high * torch.tanh(raw / high))


def check_bounds(min_log_scale: float, max_log_scale: float) -> None:
    """Check that ``min_log_scale < 0 < max_log_scale``.

    Raises:
        ValueError: if it is not so.
    """
    if not min_log_scale < 0 < max_log_scale:
        raise ValueError(
            f"min_log_scale={min_log_scale} and max_log_scale={max_log_scale} must lie below and above 0: "
            "scale the data to a standard deviation near 1"
        )


def choose(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Categories drawn by inverting the cumulative distribution.

    Args:
        logits: ``(..., K)``.
        uniforms: ``(...)`` in (0, 1).

    Returns:
        ``(...)`` int64 in 0..K-1.
    """
    cumulative = torch.softmax(logits, -1).cumsum(-1)
    # Rounding may leave the last cumulative probability below a uniform number near 1.
    return (uniforms.unsqueeze(-1) > cumulative).sum(-1).clamp(max=logits.shape[-1] - 1)
