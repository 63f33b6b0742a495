"""Dynamic evaluation: Krause et al. 2018, "Dynamic evaluation of neural sequence models", arXiv:1709.07432.

The text is scored in short segments; after each one has been scored, the weights take a step on its gradient, so
that the model follows the text while it is never scored on what it has learned from. With ``g`` the gradient of a
segment's mean nats and ``w0`` the trained weights, one of

    w += -learning_rate * g + decay * (w0 - w)                                    SGD
    w += -learning_rate * g / (s + epsilon) + min(1, decay * s / mean(s)) * (w0 - w)  scaled by RMS

where ``s`` is the root mean square of the gradient over the training text (:func:`gradient_scales`). ``mean(s)`` is
the mean over tensors of each tensor's mean, as in the authors' released code, so that their values carry over.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.evaluation.language import Chunk, LanguageScore, Run, Text, check_at_least


def dynamic_nats(
    run: Run,
    head: Any,
    tokens: Tensor,
    *,
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    decay: float = 0.0,
    scales: Sequence[Tensor] | None = None,
    epsilon: float = 2e-5,
    segment_length: int = 5,
    start: int | None = None,
    resets: Tensor | None = None,
    byte_count: int | None = None,
) -> LanguageScore:
    """Score a text with its state carried while the weights follow it; the weights are put back afterwards.

    Args:
        run: the model up to the head; it must leave gradients on.
        head: the head.
        tokens: ``(n,)`` token ids of the text.
        parameters: the weights that follow, of the model and of the head. They are changed in place and put
            back, bit for bit, even after an error; their ``.grad`` is not touched.
        learning_rate: eta; with ``scales``, the default of the authors' code for the Penn Treebank is 5e-5.
        decay: lambda, the pull back to the trained weights with every segment; 0.002 there.
        scales: from :func:`gradient_scales`, for the RMS rule; SGD where left out.
        epsilon: keeps the RMS rule off scales of zero.
        segment_length: tokens between two updates.
        start: a token to read before the text.
        resets: ``(n,)`` bool, fresh states; see :func:`~hybridgen.evaluation.carried_nats`. They leave the weights.
        byte_count: bytes of the predicted tokens' text, for bits per byte.

    Raises:
        ValueError: if the model is in training mode, the text has nothing to predict, an option does not fit, or
            no gradient arrives at the parameters.
    """
    text = Text.of(head, tokens, start, resets)
    weights = _trainable(parameters)
    for name, value in (("learning_rate", learning_rate), ("decay", decay), ("epsilon", epsilon)):
        check_at_least(name, value, 0)
    check_at_least("segment_length", segment_length, 1)
    if scales is not None and [s.shape for s in scales] != [w.shape for w in weights]:
        raise ValueError("scales do not have the shapes of the parameters: take gradient_scales of the same ones")
    steps, pulls = _rule(weights, scales, learning_rate, decay, epsilon)
    state, nats = None, 0.0
    with _put_back(weights) as trained, torch.enable_grad():
        for chunk in _segments(text, segment_length):
            nll, state = _segment_nll(run, head, chunk, state)
            nats += float(nll.detach().sum(dtype=torch.float64))
            gradients = _gradients(nll, weights)
            with torch.no_grad():
                for w, w0, gradient, step, pull in zip(weights, trained, gradients, steps, pulls, strict=True):
                    # In place, one pass over the weight each: this is most of the time of a short segment. The
                    # gradient is that of the weight as it was, so the pull may come first.
                    if decay:
                        w.lerp_(w0, pull)
                    if gradient is not None:
                        w.addcmul_(gradient, step, value=-1)
    rule = "SGD" if scales is None else "RMS"
    protocol = (
        f"carried state, dynamic evaluation ({rule}, learning rate {learning_rate:g}, decay {decay:g}, "
        f"segments of {segment_length})"
    )
    return LanguageScore(protocol=protocol, nats=nats, tokens=text.num_predicted, byte_count=byte_count)


def gradient_scales(
    run: Run,
    head: Any,
    tokens: Tensor,
    *,
    parameters: Iterable[nn.Parameter],
    segment_length: int = 5,
    lanes: int = 100,
    max_segments: int | None = None,
) -> tuple[Tensor, ...]:
    """Root mean square of each weight's gradient over the training text, for the RMS rule.

    Args:
        run: the model up to the head.
        head: the head.
        tokens: ``(n,)`` token ids of the training text; what does not fill all lanes is left out.
        parameters: the same as for :func:`dynamic_nats`.
        segment_length: the same as for :func:`dynamic_nats`.
        lanes: pieces of the text that run side by side. The gradient is that of a segment's mean over all lanes,
            so the scales, and the learning rate that fits them, depend on this; 100 is the authors'.
        max_segments: stop after so many segments.

    Returns:
        One tensor for each distinct parameter, of its shape.

    Raises:
        ValueError: as for :func:`dynamic_nats`, or if the text is shorter than the lanes.
    """
    text = Text.of(head, tokens, None, None)
    weights = _trainable(parameters)
    for name, value in (("segment_length", segment_length), ("lanes", lanes)):
        check_at_least(name, value, 1)
    if max_segments is not None:
        check_at_least("max_segments", max_segments, 1)
    if text.num_predicted < lanes:
        raise ValueError(f"lanes is {lanes} but the text predicts only {text.num_predicted} tokens: give fewer lanes")
    squares = [torch.zeros_like(w, memory_format=torch.contiguous_format) for w in weights]
    state, count = None, 0
    with torch.enable_grad():
        for chunk in _segments(text, segment_length, lanes):
            nll, state = _segment_nll(run, head, chunk, state)
            for square, gradient in zip(squares, _gradients(nll, weights), strict=True):
                if gradient is not None:
                    square.addcmul_(gradient, gradient)
            count += 1
            if count == max_segments:
                break
    return tuple((square / count).sqrt() for square in squares)


def _segments(text: Text, length: int, lanes: int = 1) -> Iterator[Chunk]:
    per_lane = text.num_predicted // lanes
    first = torch.arange(lanes).unsqueeze(1) * per_lane
    for begin in range(0, per_lane, length):
        yield text.read(first + torch.arange(begin, min(begin + length, per_lane)))


def _segment_nll(run: Run, head: Any, chunk: Chunk, state: Any) -> tuple[Tensor, Any]:
    hidden, state = run(chunk.inputs, state, chunk.resets)
    return head.nll(hidden.flatten(0, 1), chunk.targets.flatten()), _detach(state)


def _gradients(nll: Tensor, weights: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    if not nll.requires_grad:
        raise ValueError("no gradient arrives at the parameters: run must not switch gradients off")
    gradients = torch.autograd.grad(nll.mean(), weights, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        raise ValueError("no gradient arrives at the parameters: give those of the model that run and head are of")
    return gradients


def _rule(
    weights: list[nn.Parameter], scales: Sequence[Tensor] | None, learning_rate: float, decay: float, epsilon: float
) -> tuple[list[Tensor], list[Tensor | float]]:
    """What multiplies each weight's gradient, and its way back to the trained one."""
    if scales is None:
        return [w.new_tensor(learning_rate) for w in weights], [min(1.0, decay)] * len(weights)
    mean = torch.stack([s.mean() for s in scales]).mean()
    if not mean > 0:
        raise ValueError("scales are all zero: take gradient_scales of parameters that the text has gradients for")
    # The pull never overshoots the trained weight.
    return [learning_rate / (s + epsilon) for s in scales], [(decay * s / mean).clamp(max=1.0) for s in scales]


def _trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    weights = list({id(p): p for p in parameters}.values())  # a tied one once
    if not weights or not all(w.requires_grad for w in weights):
        raise ValueError("parameters must be weights that require a gradient, at least one")
    return weights


@contextmanager
def _put_back(weights: list[nn.Parameter]) -> Iterator[list[Tensor]]:
    """The weights' values now, which they have again afterwards, whatever happens."""
    values = [w.detach().clone() for w in weights]
    try:
        yield values
    finally:
        with torch.no_grad():
            for w, value in zip(weights, values, strict=True):
                w.copy_(value)


def _detach(state: Any) -> Any:
    """The state, any nesting of tensors, cut off from its history."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, dict):
        return {key: _detach(value) for key, value in state.items()}
    if isinstance(state, tuple | list):
        parts = [_detach(value) for value in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    return state
