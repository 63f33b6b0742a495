"""The step of a recurrent model over tokens, prepared once for a whole generation."""

from typing import Any

import torch
from torch import Tensor

from hybridgen.cells import Stack
from hybridgen.cells.stepping import prepare_steps
from hybridgen.generation.drawing import Choice, draw_from_levels
from hybridgen.heads.base import ClassHead


class TokenStep:
    """The function ``(tokens (B,), state) -> (log_probs (B, V), state)`` that :func:`sample` takes.

    It computes with the weights as they are now, laid out for few rows: make it anew for each generation.

    Args:
        embedding: ``(V, I)``.
        stack: in evaluation mode.
        head: what turns outputs into log-probabilities.

    Attributes:
        draws: whether :meth:`draw` is there: whether the head has two levels.

    Raises:
        ValueError: if the stack is in training mode or bidirectional.
    """

    def __init__(self, embedding: Tensor, stack: Stack, head: ClassHead) -> None:
        self._advance = prepare_steps(stack, embedding.detach())
        self._levels = head.prepare_levels()
        self._log_probs = head.prepare_log_probs() if self._levels is None else self._levels.log_probs
        self.draws = self._levels is not None

    def __call__(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        output, state = self._advance(tokens, state)
        return self._log_probs(output), state

    def draw(self, tokens: Tensor, state: Any, uniforms: Tensor) -> tuple[Choice | None, Any]:
        """One step and one draw from the model as it is, without the log-probabilities of the whole vocabulary.

        Args:
            tokens: ``(B,)``.
            state: before them.
            uniforms: ``(B,)`` float64 in [0, 1).

        Returns:
            The next tokens (None where something is not finite) and the state.
        """
        with torch.no_grad():
            output, state = self._advance(tokens, state)
            return draw_from_levels(self._levels, output, uniforms), state
