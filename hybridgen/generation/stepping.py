"""The step of a recurrent model over tokens, prepared once for a whole generation."""

from typing import Any

from torch import Tensor

from hybridgen.cells import Stack
from hybridgen.cells.stepping import prepare_steps
from hybridgen.generation.prompts import Step
from hybridgen.heads.base import ClassHead


def token_step(embedding: Tensor, stack: Stack, head: ClassHead) -> Step:
    """The function ``(tokens (B,), state) -> (log_probs (B, V), state)`` that :func:`sample` takes.

    It computes with the weights as they are now, laid out for few rows: make it anew for each generation.

    Args:
        embedding: ``(V, I)``.
        stack: in evaluation mode.
        head: what turns outputs into log-probabilities.

    Raises:
        ValueError: if the stack is in training mode or bidirectional.
    """
    advance, log_probs = prepare_steps(stack, embedding.detach()), head.prepare_log_probs()

    def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        output, state = advance(tokens, state)
        return log_probs(output), state

    return step
