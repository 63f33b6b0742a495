"""Negative log-likelihoods of sequences of frames under every convention that published tables use.

Four conventions are in use for one and the same data, and differ by up to 0.8 nats a frame:

* per frame, all frames: all nats by all frames (Boulanger-Lewandowski 2012, DMM, FIVO);
* per frame, the first one skipped: only what was predicted from something (TCN);
* per sequence: all nats by all sequences;
* per frame, mean of sequences: each sequence's own nats per frame, averaged (TSBN, and the braces in DMM's table).
"""

import math

import torch
from torch import Tensor

from hybridgen.evaluation.latent_bounds import SentenceTotals


class FrameTotals:
    """Sums over batches of sequences, from which every convention and its standard error follow exactly.

    ``sums`` is one float64 tensor ``(3, 6)``, so that several processes add theirs up at once.
    """

    def __init__(self) -> None:
        self._all, self._rest, self._means = (SentenceTotals() for _ in range(3))

    @property
    def sums(self) -> Tensor:
        """Everything, ``(3, 6)`` float64."""
        return torch.stack([totals.sums for totals in (self._all, self._rest, self._means)])

    @sums.setter
    def sums(self, value: Tensor) -> None:
        for totals, row in zip((self._all, self._rest, self._means), value, strict=True):
            totals.sums = row

    def update(self, nats: Tensor, first: Tensor, frames: Tensor) -> None:
        """Add sequences.

        Args:
            nats: ``(B,)`` of each whole sequence.
            first: ``(B,)``, the same estimator's nats of its first frame alone. For a bound, the difference of the
                two is an estimate of the other frames' nats, no bound.
            frames: ``(B,)`` how many frames each has, at least 1.
        """
        self._all.update(nats, frames)
        self._rest.update(nats - first, frames - 1)
        self._means.update(nats / frames, torch.ones_like(nats))

    def scores(self) -> dict[str, float]:
        """Nats by convention, each with a standard error over sequences.

        Returns:
            ``per_frame``, ``per_frame_skip_first`` (left out where no sequence has a second frame),
            ``per_sequence`` and ``per_frame_mean_of_sequences``, and each with ``_standard_error`` behind it.

        Raises:
            ValueError: if there are no sequences.
        """
        score, means = self._all.score("nats"), self._means.score("nats")
        found = {
            "per_frame": (score.nats_per_token, score.token_standard_error),
            "per_sequence": (score.nats_per_sentence, score.standard_error),
            "per_frame_mean_of_sequences": (means.nats_per_sentence, means.standard_error),
        }
        if float(self._rest.sums[1]) > 0:
            rest = self._rest.score("nats")
            found["per_frame_skip_first"] = (rest.nats_per_token, rest.token_standard_error)
        values = {}
        for name, (value, error) in found.items():
            values[name] = value
            if not math.isnan(error):
                values[f"{name}_standard_error"] = error
        return values
