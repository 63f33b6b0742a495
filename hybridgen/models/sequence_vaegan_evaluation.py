"""Evaluation of a SequenceVAEGAN: bounds on the likelihood, and how far its samples are from data.

Every figure in nats is told per sequence (summed over its steps and features, averaged over sequences; nothing is
averaged over a padded length or over dimensions, as published code of sketches does) and per frame (all nats by all
frames).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.evaluation.latent_bounds import SentenceTotals
from hybridgen.evaluation.series import mean_discrepancy
from hybridgen.models.processes import gathered
from hybridgen.models.sequence_gan_options import random_of
from hybridgen.models.sequence_gan_output import valid_steps
from hybridgen.models.sequence_gan_watch import collapse_ratios
from hybridgen.models.sequence_vaegan_network import Rows
from hybridgen.objectives.variational import gaussian_kl

#: Sequences that a validation compares with samples, at most: its cost grows with their square.
COMPARED = 1000


class Evaluation:
    """Validation and test; part of :class:`hybridgen.models.SequenceVAEGAN`. All of it is of the averaged generator."""

    @property
    def has_likelihood(self) -> bool:
        """Whether the head was trained as a distribution, so that bounds mean something."""
        return self.hparams.reconstruction in ("likelihood", "both")

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation()

    def validation_step(self, batch: Any, batch_index: int) -> None:
        self._evaluate(batch, batch_index, 0)

    def on_validation_epoch_end(self) -> None:
        self._tell("val")

    def on_test_epoch_start(self) -> None:
        self._start_evaluation()

    def test_step(self, batch: Any, batch_index: int) -> None:
        self._evaluate(batch, batch_index, self.hparams.iwae_samples)

    def on_test_epoch_end(self) -> None:
        self._tell("test")

    def _start_evaluation(self) -> None:
        self._totals: dict[str, SentenceTotals] = {}
        self._errors: list[Tensor] = []
        self._real: list[Tensor] = []
        self._fake: list[Tensor] = []

    @torch.no_grad()
    def _evaluate(self, batch: Any, batch_index: int, samples: int) -> None:
        rows = Rows.of(batch)
        self.check_rows(rows)
        # The same draws in every evaluation, so that two epochs differ by what was learned.
        random = random_of(0, batch_index, self.global_rank)
        if self.has_likelihood:
            for name, nats in self.bounds(rows, random, samples=samples).items():
                self._totals.setdefault(name, SentenceTotals()).update(nats, rows.frames)
        taken = sum(len(part) for part in self._real)
        rows = rows.take(slice(0, max(0, COMPARED - taken)))
        if not len(rows.values):
            return
        z = torch.randn(len(rows.values), self.hparams.latent_size, generator=random).to(self.device)
        steps = rows.values.shape[1]
        shape = (len(z), steps, self.average.module.head.num_uniforms)
        made = self._bounded(self.average.module.draw(z, torch.rand(shape, generator=random).to(self.device), rows))
        for values, kept in ((rows.values, self._real), (made, self._fake)):
            kept.append(nn.functional.pad(values, (0, 0, 0, max(0, self.max_length - steps)))[:, : self.max_length])
        if samples and self.average.module.encoder is not None:
            back = self.decode_rows(self.average.module.encoder(rows).mean, rows, temperature=0.0)
            error, valid = (back - rows.values).square().mean(-1), valid_steps(rows.values, rows.lengths)
            self._errors.append(error.flatten() if valid is None else error[valid])

    @torch.no_grad()
    def bounds(self, rows: Rows, random: torch.Generator, *, samples: int = 0) -> dict[str, Tensor]:
        """Negative bounds and what they consist of, ``(B,)`` nats of whole sequences.

        Args:
            rows: B sequences.
            random: of the latents.
            samples: k of the importance-weighted bound; 0 leaves it out.

        Returns:
            ``reconstruction`` (-log p(x|z) at one draw of z), of strokes also ``moves`` and ``pen``, of which it is the
            sum; of a variational model ``kl``, ``elbo``, the sum of both, and ``iwaeK``.
        """
        network = self.average.module
        posterior = network.encoder(rows)
        if self.kl_control is None:
            return network.terms(rows, posterior.mean)
        z = posterior.sample(generator=random)
        found = network.terms(rows, z)
        found["kl"] = gaussian_kl(posterior).sum(-1)
        found["elbo"] = found["reconstruction"] + found["kl"]
        if samples:
            weights = []
            for number in range(samples):
                z = z if number == 0 else posterior.sample(generator=random)
                nll = found["reconstruction"] if number == 0 else network.nll(rows, z)
                prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
                weights.append(prior - posterior.log_prob(z) - nll)
            found[f"iwae{samples}"] = math.log(samples) - torch.stack(weights).logsumexp(0)
        return found

    def _tell(self, stage: str) -> None:
        values: dict[str, Any] = {}
        for name, totals in self._totals.items():
            totals.sums = self.trainer.strategy.reduce(totals.sums.to(self.device), reduce_op="sum").cpu()
            score = totals.score(name)
            values |= {f"{name}_per_frame": score.nats_per_token, f"{name}_per_sequence": score.nats_per_sentence}
            if stage == "test" and not math.isnan(score.standard_error):
                values[f"{name}_per_frame_standard_error"] = score.token_standard_error
                values[f"{name}_per_sequence_standard_error"] = score.standard_error
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()})
        values = {}
        if self._errors:
            values["reconstruction_error"] = torch.cat(self._errors).mean().sqrt()
        parts = [torch.cat(part) if part else torch.zeros(0) for part in (self._real, self._fake)]
        real, fake = (gathered(part, self.device) for part in parts)
        number = len(real)
        if number > 1:
            ratios = collapse_ratios(real, fake)
            values |= {
                "mean_discrepancy": mean_discrepancy(real, fake).squared,
                "pairwise_distance_ratio": ratios.pairwise_distance,
                "variance_ratio": ratios.variance,
            }
            if (
                stage == "val"
                and self.critic is not None
                and not self.trainer.sanity_checking
                and self.global_step > 500
            ):
                self.alarm.see_ratios(ratios, self.global_step)
        else:
            # One alone has no distribution; a checkpoint is still told by its validation.
            values["mean_discrepancy"] = math.nan
        self._real.clear()
        self._fake.clear()
        self.log_dict({f"{stage}/{n}": v for n, v in values.items()}, sync_dist=True, batch_size=max(1, number))
