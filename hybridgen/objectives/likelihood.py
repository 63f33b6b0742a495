"""Likelihood of sequences: what is counted, what it is divided by, and the units it is told in.

Everything is in nats per element, and a mean is over the elements that are there: the number of valid targets,
never batch size times time. A sequence ``(B, T)`` says what is valid by ``lengths (B,)`` (the first ``lengths[b]``
elements of row b, as everywhere in :mod:`hybridgen.cells`), by a ``mask (B, T)`` (true is valid), or by neither.

Activation regularisation (AR) and temporal activation regularisation (TAR): Merity et al. 2017, "Revisiting
activation regularization for language RNNs", arXiv:1708.01009::

    AR  = alpha * mean over valid t and units of (m[t] h[t])^2           m the dropout mask: outputs after dropout
    TAR = beta * mean over valid pairs and units of (h[t] - h[t - 1])^2  outputs before dropout
"""

import math

import torch
from torch import Tensor


def valid_mask(shape: tuple[int, int], *, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor | None:
    """Which elements of ``(B, T)`` are there: bool ``(B, T)``, or None for all of them.

    Args:
        shape: (B, T).
        lengths: ``(B,)`` whole numbers in 0..T.
        mask: ``(B, T)`` bool.

    Raises:
        ValueError: if both are given, or one does not fit the shape.
    """
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask both say what is valid: give one of them")
    if mask is not None:
        if mask.dtype is not torch.bool or mask.shape != shape:
            raise ValueError(f"mask must be bool of shape {tuple(shape)} but is {mask.dtype} of {tuple(mask.shape)}")
        return mask
    if lengths is None:
        return None
    if lengths.shape != shape[:1]:
        raise ValueError(f"lengths must have shape ({shape[0]},) but have {tuple(lengths.shape)}")
    return torch.arange(shape[1], device=lengths.device) < lengths.unsqueeze(1)


def without_padding(values: Tensor, lengths: Tensor | None) -> Tensor:
    """``values (B, T, ...)`` with zeros past each row's end, ``lengths (B,)``; without lengths, the values."""
    valid = valid_mask(tuple(values.shape[:2]), lengths=lengths)
    if valid is None:
        return values
    return values.masked_fill(~valid.reshape(*valid.shape, *[1] * (values.dim() - 2)), 0.0)


def select(
    hidden: Tensor, targets: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The valid elements of a batch as rows, which is what a head takes.

    Args:
        hidden: ``(B, T, H)``.
        targets: ``(B, T)``.
        lengths: ``(B,)``.
        mask: ``(B, T)`` bool.

    Returns:
        ``(N, H)`` and ``(N,)``, N the number of valid elements, batch first. What is left out gets no gradient.

    Raises:
        ValueError: if a shape does not fit.
    """
    if hidden.shape[:2] != targets.shape:
        raise ValueError(f"hidden {tuple(hidden.shape)} and targets {tuple(targets.shape)} differ in batch or time")
    valid = valid_mask(tuple(targets.shape), lengths=lengths, mask=mask)
    if valid is None:
        return hidden.flatten(0, 1), targets.flatten()
    rows = valid.flatten().nonzero().squeeze(1)
    return hidden.flatten(0, 1).index_select(0, rows), targets.flatten().index_select(0, rows)


def sum_rows(nll: Tensor, shape: tuple[int, int], *, lengths: Tensor | None = None) -> Tensor:
    """What the rows of a batch have together, from the elements that :func:`select` took.

    Args:
        nll: ``(N,)`` nats of the valid elements, batch first.
        shape: ``(B, T)`` of the batch.
        lengths: ``(B,)``.

    Returns:
        ``(B,)`` nats.
    """
    valid = valid_mask(shape, lengths=lengths)
    if valid is None:
        return nll.view(shape).sum(1)
    return nll.new_zeros(shape).masked_scatter(valid, nll).sum(1)


def total_nll(nll: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, int]:
    """Sum of the valid elements and their exact number, for means over more than one batch.

    Args:
        nll: ``(B, T)`` nats; elements that are not valid may hold anything, NaN too.
        lengths: ``(B,)``.
        mask: ``(B, T)`` bool.

    Returns:
        A scalar in float64 with a gradient, and the count.

    Raises:
        ValueError: if a shape does not fit.
    """
    valid = valid_mask(tuple(nll.shape), lengths=lengths, mask=mask)
    chosen = nll if valid is None else nll[valid]
    # In double precision: the sum over a test set has millions of terms.
    return chosen.sum(dtype=torch.float64), chosen.numel()


def mean_nll(nll: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """Mean over the valid elements: a scalar in nats, in the type of ``nll``; zero where there is none.

    Args:
        nll: ``(B, T)`` nats.
        lengths: ``(B,)``.
        mask: ``(B, T)`` bool.

    Raises:
        ValueError: if a shape does not fit.
    """
    total, count = total_nll(nll, lengths=lengths, mask=mask)
    return (total / max(1, count)).to(nll.dtype)


def activation_regularisation(
    outputs: Tensor, *, alpha: float, lengths: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """AR of the outputs after dropout: a scalar, ``alpha`` times their mean square.

    Args:
        outputs: ``(B, T, H)``.
        alpha: weight; 2 in the paper.
        lengths: ``(B,)``.
        mask: ``(B, T)`` bool.

    Raises:
        ValueError: if ``alpha`` is negative or a shape does not fit.
    """
    if alpha < 0:
        raise ValueError(f"alpha is {alpha}: a regulariser's weight is at least 0")
    return alpha * _mean_square(outputs, valid_mask(tuple(outputs.shape[:2]), lengths=lengths, mask=mask))


def temporal_activation_regularisation(
    outputs: Tensor,
    *,
    beta: float,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    resets: Tensor | None = None,
) -> Tensor:
    """TAR of the outputs before dropout: a scalar, ``beta`` times the mean square of their change.

    A pair of neighbours counts where both are valid and no reset is between them. Pairs across two chunks of
    truncated backpropagation do not count.

    Args:
        outputs: ``(B, T, H)``.
        beta: weight; 1 in the paper.
        lengths: ``(B,)``.
        mask: ``(B, T)`` bool.
        resets: ``(B, T)`` bool: true where the state is fresh BEFORE that element.

    Raises:
        ValueError: if ``beta`` is negative or a shape does not fit.
    """
    if beta < 0:
        raise ValueError(f"beta is {beta}: a regulariser's weight is at least 0")
    shape = tuple(outputs.shape[:2])
    if resets is not None and (resets.dtype is not torch.bool or resets.shape != shape):
        raise ValueError(f"resets must be bool of shape {shape} but are {resets.dtype} of {tuple(resets.shape)}")
    valid = valid_mask(shape, lengths=lengths, mask=mask)
    pairs = None if valid is None else valid[:, 1:] & valid[:, :-1]
    if resets is not None:
        pairs = ~resets[:, 1:] if pairs is None else pairs & ~resets[:, 1:]
    return beta * _mean_square(outputs[:, 1:] - outputs[:, :-1], pairs)


def _mean_square(values: Tensor, valid: Tensor | None) -> Tensor:
    """Mean over the valid elements and all units of ``values (B, T, H)``; zero where there is none."""
    if valid is None:
        return values.square().sum() / max(1, values.numel())
    # Filled before squaring, so that what is not valid may be NaN and still gets a gradient of zero.
    squares = values.masked_fill(~valid.unsqueeze(-1), 0.0).square()
    return squares.sum() / (valid.sum() * values.shape[-1]).clamp(min=1)


def perplexity(nats_per_token: float) -> float:
    """``exp`` of the mean nats per token; infinite where that is more than a float holds."""
    try:
        return math.exp(nats_per_token)
    except OverflowError:
        return math.inf


def bits_per_unit(nats: float, count: int) -> float:
    """Total nats as bits per character, byte or token.

    Args:
        nats: of the whole text, a sum.
        count: characters, bytes or tokens of what was predicted. Only for a codec of one token per character is
            that the number of tokens.

    Raises:
        ValueError: if ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f"count is {count}: bits per unit need at least one unit")
    return nats / (count * math.log(2.0))
