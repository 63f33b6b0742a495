"""Cross entropy of a linear layer's logits, a chunk of rows at a time.

    nll[n] = -log softmax(hidden[n] weight.T + bias)[targets[n]]

and, for a mixture of K softmaxes with prior probabilities ``pi`` (Yang et al. 2018, arXiv:1711.03953),

    nll[n] = -log sum_k pi[n, k] softmax(hidden[n, k] weight.T + bias)[targets[n]]

The logits ``(N, V)`` of a word model are larger than everything else in its training step together. Here a chunk
of rows goes all the way, logits, probabilities and the gradients of hidden, weight and bias, before the next
begins, so that never more than two buffers of a chunk's size exist (after Wijmans et al. 2024, "Cut your losses
in large-vocabulary language models", arXiv:2411.09009, and the fused losses of Liger Kernel, arXiv:2410.10989).

When the gradient is taken: the gradient of hidden in row n is ``grad_output[n]`` times something known in the
forward pass, so that is kept. The gradient of the weight, ``sum_n grad_output[n] ...``, is known then only up to
a factor common to all rows: it is kept for ``grad_output = 1``, and scaled in the backward pass where all rows
turn out to count the same, as they do after ``nll.mean()`` or ``nll.sum()``. Where they do not, the chunks are
gone through once more with the row weights as they are. Both are exact; the first needs three products per
chunk, as plain autograd does, the second five. So drop masked rows before the call rather than after it: that
is the fast case, and saves their products.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hybridgen.cells.matmul import product

#: Elements of a chunk of logits, where that is no less than ``FEWEST_ROWS`` rows: 16 MiB of float32.
CHUNK_ELEMENTS = 2**22
#: With fewer rows than this, a chunk spends more time on reading the weight than on multiplying by it.
FEWEST_ROWS = 256


def cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    log_prior: Tensor | None = None,
    label_smoothing: float = 0.0,
    chunk_size: int | None = None,
) -> Tensor:
    """Negative log-likelihood of each target; differentiable in hidden, weight, bias and log_prior.

    A second derivative is there too: the gradient of a gradient is taken through :func:`plain_cross_entropy`,
    which holds all logits at once. Under ``torch.compile`` the whole is that plain version.

    Args:
        hidden: ``(N, H)``; with ``log_prior`` ``(N * K, H)``, the K experts of a row next to each other.
        weight: ``(V, H)``.
        bias: ``(V,)`` or None.
        targets: ``(N,)`` int64 in 0..V-1.
        log_prior: ``(N, K)`` log probabilities of the experts.
        label_smoothing: share of the target's probability that is spread over all classes alike; the result is
            then what ``torch.nn.functional.cross_entropy`` gives, no longer a likelihood.
        chunk_size: rows n of a chunk. Default: ``CHUNK_ELEMENTS`` logits, but at least ``FEWEST_ROWS`` rows of
            ``hidden``. Makes no difference to the result beyond rounding.

    Returns:
        ``(N,)`` nats, float32 where hidden is of a half type or autocast is on.
    """
    if torch.compiler.is_compiling() or targets.shape[0] == 0:
        return plain_cross_entropy(hidden, weight, bias, targets, log_prior, label_smoothing)
    rows = chunk_rows(targets.shape[0], hidden.shape[0] // targets.shape[0], weight.shape[0], chunk_size)
    device = hidden.device.type
    autocast = torch.is_autocast_enabled(device)
    multiply_as = torch.get_autocast_dtype(device) if autocast else hidden.dtype
    settings = _Settings(rows, label_smoothing, multiply_as)
    tensors = (hidden, weight, bias, log_prior)
    with torch.autocast(device, enabled=False):
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
            return _CrossEntropy.apply(hidden, weight, bias, log_prior, targets, settings)
        return _walk(hidden, weight, bias, log_prior, targets, settings).nll


def plain_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    log_prior: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """:func:`cross_entropy` by torch's own operations, all logits at once: ``(N,)`` nats."""
    experts = 1 if log_prior is None else log_prior.shape[1]
    logits = F.linear(hidden, weight, bias)  # (N * K, V)
    logits = logits.to(_wide(logits.dtype))
    targets = targets.repeat_interleave(experts)
    nll = F.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    return nll if log_prior is None else -torch.logsumexp(log_prior - nll.view(-1, experts), 1)


def chunk_rows(num_rows: int, experts: int, num_classes: int, chunk_size: int | None = None) -> int:
    """Rows n of a chunk, the default rule of :func:`cross_entropy`, all chunks about equally large."""
    if chunk_size is None:
        chunk_size = max(1, max(CHUNK_ELEMENTS // num_classes, FEWEST_ROWS) // experts)
    num_chunks = -(-num_rows // chunk_size)
    return max(1, -(-num_rows // max(1, num_chunks)))


class _Settings(NamedTuple):
    rows: int  # of a chunk
    label_smoothing: float
    multiply_as: torch.dtype  # operands of the products; sums and logarithms are float32 or float64


class _Walked(NamedTuple):
    """What one walk through the chunks gives; gradients are those of ``(row_weights * nll).sum()``."""

    nll: Tensor  # (N,)
    hidden: Tensor | None = None  # (N * K, H)
    weight: Tensor | None = None  # (V, H), but laid out as it came about
    bias: Tensor | None = None  # (V,)
    posterior: Tensor | None = None  # (N, K): minus the gradient of log_prior


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _walk(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    log_prior: Tensor | None,
    targets: Tensor,
    settings: _Settings,
    *,
    for_hidden: bool = False,
    for_weight: bool = False,
    row_weights: Tensor | None = None,
) -> _Walked:
    """Go through the chunks; a gradient is computed where it is asked for (the bias' with the weight's)."""
    num_rows, (num_classes, width) = targets.shape[0], weight.shape
    experts = hidden.shape[0] // num_rows
    low, wide, smoothing = settings.multiply_as, _wide(settings.multiply_as), settings.label_smoothing
    hidden, weight = hidden.to(low), weight.to(low)
    bias = None if bias is None else bias.to(low)
    nll = hidden.new_empty(num_rows, dtype=wide)
    posterior = None if log_prior is None else hidden.new_empty(num_rows, experts, dtype=wide)
    grad_hidden = []
    grad_bias = hidden.new_zeros(num_classes, dtype=wide) if for_weight and bias is not None else None
    # Products are fastest where the longer dimension runs along the rows of the result.
    transposed = num_classes >= width
    grad_weight, buffer = None, None
    for start in range(0, num_rows, settings.rows):
        stop = min(start + settings.rows, num_rows)
        rows = hidden[start * experts : stop * experts]  # (R, H)
        target = targets[start:stop].repeat_interleave(experts).unsqueeze(1)  # (R, 1)
        logits = product(rows, weight.t(), bias).to(wide)  # (R, V)
        buffer = torch.empty_like(logits) if buffer is None else buffer[: logits.shape[0]]
        row_nll = _nll_and_probabilities(logits, target, smoothing, buffer)
        del logits  # its memory serves the next chunk
        scale = None if row_weights is None else row_weights[start:stop].to(wide).repeat_interleave(experts)
        if log_prior is not None:
            joint = log_prior[start:stop].to(wide) - row_nll.view(-1, experts)  # (R / K, K)
            posterior[start:stop] = torch.softmax(joint, 1)
            share = posterior[start:stop].flatten()  # (R,): how much of the row's gradient is each expert's
            scale = share if scale is None else scale * share
            row_nll = -torch.logsumexp(joint, 1)
        nll[start:stop] = row_nll
        if not (for_hidden or for_weight):
            continue
        residual = _gradient_in_logits(buffer, target, smoothing)
        if grad_bias is not None:
            grad_bias += residual.sum(0) if scale is None else scale @ residual
        residual = residual.to(low)
        if for_hidden:
            piece = product(residual, weight)
            grad_hidden.append(piece if scale is None else piece.mul_(scale.unsqueeze(1)))
        if for_weight:
            scaled = rows if scale is None else (rows * scale.unsqueeze(1)).to(low)
            piece = product(scaled.t(), residual) if transposed else product(residual.t(), scaled)
            grad_weight = piece.to(wide) if grad_weight is None else grad_weight.add_(piece)
    if transposed and grad_weight is not None:
        grad_weight = grad_weight.t()
    joined = (grad_hidden[0] if len(grad_hidden) == 1 else torch.cat(grad_hidden)) if for_hidden else None
    return _Walked(nll, joined, grad_weight, grad_bias, posterior)


def _nll_and_probabilities(logits: Tensor, target: Tensor, smoothing: float, probabilities: Tensor) -> Tensor:
    """The nats ``(R,)`` of ``target (R, 1)``; fills ``probabilities (R, V)``."""
    torch.softmax(logits, 1, out=probabilities)
    # log sum exp(logits), from the largest class, whose probability never underflows.
    normaliser = logits.amax(1) - probabilities.amax(1).log()
    chosen = logits.gather(1, target).squeeze(1)
    if smoothing:
        chosen = (1 - smoothing) * chosen + smoothing * logits.mean(1)
    return normaliser - chosen


def _gradient_in_logits(probabilities: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Turn the probabilities, in their own memory, into the gradient of those nats in the logits."""
    if smoothing:
        probabilities.sub_(smoothing / probabilities.shape[1])
    subtracted = torch.full_like(target, smoothing - 1, dtype=probabilities.dtype)
    return probabilities.scatter_add_(1, target, subtracted)


class _CrossEntropy(torch.autograd.Function):
    """:func:`_walk` with the gradients kept from the forward pass wherever that is exact."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        log_prior: Tensor | None,
        targets: Tensor,
        settings: _Settings,
    ) -> Tensor:
        for_hidden, for_weight = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:3])
        walked = _walk(hidden, weight, bias, log_prior, targets, settings, for_hidden=for_hidden, for_weight=for_weight)
        ctx.save_for_backward(hidden, weight, bias, log_prior, targets, *walked[1:])
        ctx.settings = settings
        return walked.nll

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, targets, of_hidden, of_weight, of_bias, posterior = ctx.saved_tensors
        needed = ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():
            return *_differentiable_gradients(inputs, targets, ctx.settings, grad, needed), None, None
        hidden, weight, bias, log_prior = inputs
        grad_hidden = grad_weight = grad_bias = grad_prior = None
        if needed[0]:
            experts = hidden.shape[0] // targets.shape[0]
            grad_hidden = (of_hidden * grad.repeat_interleave(experts).unsqueeze(1)).to(hidden.dtype)
        if needed[1] or needed[2]:
            scale: Tensor | float = grad[0]
            if not bool((grad == grad[0]).all()):
                walked = _walk(
                    hidden, weight, bias, log_prior, targets, ctx.settings, for_weight=True, row_weights=grad
                )
                of_weight, of_bias, scale = walked.weight, walked.bias, 1.0
            if needed[1]:
                # One pass scales it and brings it into the parameter's own layout.
                grad_weight = torch.empty(weight.shape, dtype=of_weight.dtype, device=weight.device)
                grad_weight = torch.mul(of_weight, scale, out=grad_weight).to(weight.dtype)
            if needed[2]:
                grad_bias = (of_bias * scale).to(bias.dtype)
        if needed[3]:
            grad_prior = (posterior * -grad.unsqueeze(1)).to(log_prior.dtype)
        return grad_hidden, grad_weight, grad_bias, grad_prior, None, None


def _differentiable_gradients(
    inputs: list[Tensor | None], targets: Tensor, settings: _Settings, grad: Tensor, needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradients of hidden, weight, bias and log_prior as functions that can be differentiated again."""
    # Through aliases: with tied weights hidden itself depends on the weight, and that path is not asked for here.
    aliases = [None if t is None else t.view_as(t) for t in inputs]
    layer = [None if t is None else t.to(settings.multiply_as) for t in aliases[:3]]
    nll = plain_cross_entropy(*layer, targets, aliases[3], settings.label_smoothing)
    wanted = [alias for alias, need in zip(aliases, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(nll, wanted, grad, create_graph=True))
    return [next(gradients) if need else None for need in needed]
