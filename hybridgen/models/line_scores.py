"""How probable lines are under a language model: exact, where a text VAE has bounds on the same lines."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hybridgen import evaluation
from hybridgen.data import TextBatch
from hybridgen.models.processes import summed
from hybridgen.objectives import likelihood

if TYPE_CHECKING:
    from hybridgen.models.language_model import LanguageModel


class LineScores:
    """One pass over lines, each from a fresh state; the sums that a text VAE's bounds are computed from.

    Args:
        model: the language model, in evaluation mode.
    """

    def __init__(self, model: "LanguageModel") -> None:
        self.model, self.totals = model, evaluation.SentenceTotals()

    @torch.no_grad()
    def update(self, batch: TextBatch) -> None:
        """Add a batch of lines."""
        model = self.model
        hidden, _ = model.hidden(batch.inputs, lengths=batch.lengths)
        rows, targets = likelihood.select(hidden, batch.targets, lengths=batch.lengths)
        nats = likelihood.sum_rows(model.head.nll(rows, targets), tuple(batch.targets.shape), lengths=batch.lengths)
        self.totals.update(nats, batch.row_targets)

    def metrics(self) -> dict[str, float]:
        """The values of ``test/...``, of all processes' lines; ``<eos>`` is counted in each."""
        whole = evaluation.SentenceTotals()
        whole.sums = summed(self.totals.sums.to(self.model.device))
        score = whole.score("exact")
        return {
            "nats_lines": score.nats_per_token,
            "nats_per_sentence": score.nats_per_sentence,
            "nats_per_sentence_standard_error": score.standard_error,
            "perplexity": score.perplexity,
        }


def predicted_rows(model: "LanguageModel", outputs: Tensor, batch: TextBatch) -> list[dict[str, Any]]:
    """What :meth:`LanguageModel.predict_step` says of each row of a batch, from the stack's outputs ``(B, T, H)``."""
    rows, counts, places = [], batch.row_targets.tolist(), (batch.positions + 1).tolist()
    for hidden, targets, count, place in zip(outputs, batch.targets, counts, places, strict=True):
        nats = float(model.head.nll(hidden[:count], targets[:count]).sum(dtype=torch.float64))
        text, perplexity = model.codec.decode(targets[:count]), likelihood.perplexity(nats / count)
        rows.append({"position": place, "text": text, "tokens": count, "nats": nats, "perplexity": perplexity})
    return rows
