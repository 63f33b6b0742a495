"""Aggressive training of the encoder, as a state machine that a training loop asks what to update.

He et al. 2019, "Lagging inference networks and posterior collapse in variational autoencoders", arXiv:1901.05534,
algorithm 1: while it is on, the encoder is updated on batch after batch until the loss stops falling, then the
decoder once. It is switched off for good as soon as the mutual information on validation data no longer rises.

The inner loop ends when the mean loss of ``window`` encoder steps is not below that of the window before, or after
``longest`` steps. Each step here takes a batch of its own from the epoch, so an epoch is as long as ever and holds
fewer updates of the decoder.
"""

import math
from typing import Any, Literal

Part = Literal["encoder", "decoder", "both"]


class AggressiveTraining:
    """Which part of a model the next step updates.

    Args:
        window: encoder steps whose losses are compared; 15 in the authors' code.
        longest: encoder steps of an inner loop at most; 100 there.
        patience: how many times in a row the mutual information may not rise; 1 stops at the first.

    Raises:
        ValueError: if an option is below 1.
    """

    def __init__(self, *, window: int = 15, longest: int = 100, patience: int = 1) -> None:
        for name, value in (("window", window), ("longest", longest), ("patience", patience)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"aggressive {name} is {value!r}: give a whole number of at least 1")
        self.window, self.longest, self.patience = window, longest, patience
        self.active = True
        self.best_information = -math.inf
        self._without_rise = 0
        self._restart()

    @property
    def part(self) -> Part:
        """What the next step updates."""
        if not self.active:
            return "both"
        return "decoder" if self._decoder_next else "encoder"

    def step(self, loss: float) -> None:
        """Tell it that a step was taken: ``part`` of the model was updated by the gradient of this loss."""
        if not self.active:
            return
        if self._decoder_next:
            self._restart()
            return
        self._steps += 1
        self._sum += loss
        if self._steps % self.window == 0:
            stopped_falling = self._sum >= self._previous
            self._previous, self._sum = self._sum, 0.0
            self._decoder_next = stopped_falling
        if self._steps >= self.longest:
            self._decoder_next = True

    def observe(self, mutual_information: float) -> bool:
        """Tell it the mutual information on validation data, once per epoch; returns whether it is still on."""
        if self.active:
            if mutual_information > self.best_information:
                self.best_information, self._without_rise = mutual_information, 0
            else:
                self._without_rise += 1
                self.active = self._without_rise < self.patience
        return self.active

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain values."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for name in _STATE:
            setattr(self, name, state[name])

    def _restart(self) -> None:
        self._steps, self._sum, self._previous, self._decoder_next = 0, 0.0, math.inf, False


_STATE = ("active", "best_information", "_without_rise", "_steps", "_sum", "_previous", "_decoder_next")
