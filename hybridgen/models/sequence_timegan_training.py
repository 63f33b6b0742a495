"""The updates of the ``timegan`` mode of a sequence GAN.

With the networks of :mod:`hybridgen.models.sequence_timegan`, R the reconstruction loss, S the supervised loss (mean
squared error of the next step's code) and L the chosen pair of adversarial losses::

    autoencoder   embedder, recovery       10 sqrt(R)
    supervisor    supervisor               S
    adversarial   critic                   L(real codes, s(u)) + gamma L(., u) + penalty, unless below its threshold
                  generator, supervisor    L(s(u)) + gamma L(u) + 100 sqrt(S) + moment_weight * moments of r(s(u))
                  embedder, recovery       10 sqrt(R) + 0.1 S

as in the code that Yoon et al. (2019) released, in which the moments are too, though not in the paper. Its own settings
are ``loss: non_saturating``, ``penalty: none``, ``scores: steps``, ``minibatch: false``, ``betas: [0.9, 0.999]``,
``schedule: constant``, all learning rates 1e-3, ``code_size: 24``, three GRU layers of 24 and 50,000 batches for each
part. It learns twice with generator and embedder for each time with the critic, and R is there the mean squared error;
here they take turns, and R is relative to each feature's variance, as in the other modes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.data import SeriesBatch
from hybridgen.models import sequence_gan_judging as judging
from hybridgen.models.processes import shared
from hybridgen.models.sequence_gan_output import shown, valid_steps
from hybridgen.models.sequence_gan_parts import Sample, Scores
from hybridgen.objectives import adversarial

#: Weights of the released code: gamma, of what is not supervised, and of the terms above.
GAMMA, SUPERVISED, MOMENTS, RECONSTRUCTION, PREDICTABLE = 1.0, 100.0, 100.0, 10.0, 0.1


class JointUpdates:
    """What a batch does to the networks of the ``timegan`` mode; see :class:`hybridgen.models.SequenceGAN`."""

    def _learn_step_codes(self, part: str, batch: SeriesBatch, done: int) -> dict[str, Any]:
        if part == "autoencoder":
            return self._update_embedder(batch, done, supervised=False)
        if part == "supervisor":
            with torch.no_grad():
                real = self.embedder(batch)
            loss = self.generator.supervised_loss(real)
            self._update(1, self.learners(1), loss, done)
            return {"supervised": loss.detach()}
        with torch.no_grad():
            real = self.embedder(batch)
        values = self._update_step_critic(batch, real, done)
        if (done // self.hparams.accumulate_batches + 1) % self.hparams.critic_steps == 0:
            values |= self._update_step_generator(batch, real, done)
            values |= self._update_embedder(batch, done, supervised=True)
        return values

    def _update_embedder(self, batch: SeriesBatch, number: int, *, supervised: bool) -> dict[str, Any]:
        codes = self.embedder(batch)
        found = self.generator.reconstruction_loss(codes, batch.values, shown(batch.values, batch.mask, batch.lengths))
        loss = RECONSTRUCTION * _root(found)
        with _frozen(self.generator.supervisor):
            if supervised:
                loss = loss + PREDICTABLE * self.generator.supervised_loss(codes)
            self._update(3, self.learners(3), loss, number)
        return {"reconstruction": found.detach()}

    def _update_step_critic(self, batch: SeriesBatch, real: Sample, number: int) -> dict[str, Any]:
        options = self.hparams
        valid = valid_steps(batch.values, batch.lengths)
        with torch.no_grad():
            first = self._made_codes(batch)
            fake = self.generator.supervise(first)
        due = options.penalty != "none" and number % options.penalty_every == 0
        found = judging.judge_both(
            self.adversarial,
            options.penalty if due else "none",
            (self._judge(real), self._judge(fake)),
            (real.values, fake.values),
            lengths=batch.lengths,
            valid=valid,
            generator=self._random,
        )
        loss = found["loss"] + GAMMA * self._unsupervised_loss(real, first, valid)
        values = {"critic_loss": loss.detach(), "critic_accuracy": found["accuracy"]}
        learns = self._critic_learns(loss, len(batch.values), number)
        if "penalty" in found:
            loss = loss + options.penalty_weight * options.penalty_every * found["penalty"]
            values["penalty"] = found["penalty"].detach()
        if learns:
            self._update(2, self.critic, loss, number)
        return values

    def _unsupervised_loss(self, real: Sample, first: Sample, valid: Tensor | None) -> Tensor:
        """The critic's loss of codes that are not supervised, without that of real ones where it can be without."""
        fake = self.critic(first)
        if self.adversarial.pairs:
            return judging.critic_loss(self.adversarial, self.critic(real), fake, valid)
        terms = []
        for scores, mask in ((fake.sequence, None), (fake.steps, valid)):
            if scores is not None:
                # The mask leaves out whatever stands in the place of real scores.
                none = torch.zeros_like(scores, dtype=torch.bool)
                terms.append(self.adversarial.critic(scores, scores, real_mask=none, fake_mask=mask))
        return torch.stack(terms).sum()

    def _critic_learns(self, loss: Tensor, rows: int, number: int) -> bool:
        """Whether the critic's loss is above its threshold, in all processes together, where an update begins."""
        options = self.hparams
        if options.critic_threshold is None or options.loss == "wasserstein":
            return True
        if number % options.accumulate_batches:
            # An update that has begun is finished: else gradients of a part of its batches would be left.
            return any(parameter.grad is not None for parameter in self.critic.parameters())
        _, found = shared({"loss": loss}, rows, self.device)
        # Also where it is not a number, for which training then goes back.
        learns = not float(found["loss"]) <= options.critic_threshold
        if not learns:
            self._raw[2].zero_grad()
        return learns

    def _update_step_generator(self, batch: SeriesBatch, real: Sample, number: int) -> dict[str, Any]:
        options, parts = self.hparams, self.generator
        valid = valid_steps(batch.values, batch.lengths)
        with _frozen(self.critic, parts.recovery):
            noise = self._drawn(parts.draw(*batch.values.shape[:2], self._random))
            first = self._made_codes(batch, noise)
            codes = parts.supervise(first)
            made = parts.recover(codes, noise["feature_chance"])
            scores, of_first, beside = self.critic(codes), self.critic(first), None
            if self.adversarial.pairs or options.feature_matching:
                with torch.no_grad():
                    beside = self.critic(real)
            paired: Scores | None = beside if self.adversarial.pairs else None
            loss = judging.generator_loss(self.adversarial, scores, paired, valid)
            values = {"generator_loss": loss.detach()}
            loss = loss + GAMMA * judging.generator_loss(self.adversarial, of_first, paired, valid)
            supervised = parts.supervised_loss(real)
            values["supervised"] = supervised.detach()
            loss = loss + SUPERVISED * _root(supervised)
            if options.feature_matching:
                loss = loss + options.feature_matching * adversarial.feature_matching(beside.features, scores.features)
            ends = {"real_lengths": batch.lengths, "fake_lengths": batch.lengths}
            moments = adversarial.moment_loss(batch.values, made.values, **ends)
            loss = loss + (MOMENTS if options.moment_weight is None else options.moment_weight) * moments
            if self._update(1, self.learners(1), loss, number):
                self.average.update_parameters(parts)
        return values

    def _made_codes(self, batch: SeriesBatch, noise: dict[str, Tensor] | None = None) -> Sample:
        """Generated codes, not supervised yet, of the lengths, classes and conditions of a batch."""
        if noise is None:
            noise = self._drawn(self.generator.draw(*batch.values.shape[:2], self._random))
        given = {"lengths": batch.lengths, "labels": batch.labels, "conditions": batch.conditions}
        return self.generator.codes(noise, **given)

    def _judge(self, sample: Sample) -> judging.Judge:
        return lambda values: self.critic(sample._replace(values=values))

    def _reconstruction(self, batch: SeriesBatch) -> Tensor:
        """The reconstruction loss of a batch in evaluation."""
        return self.generator.reconstruction_loss(
            self.embedder(batch), batch.values, shown(batch.values, batch.mask, batch.lengths)
        )


def _root(loss: Tensor) -> Tensor:
    """The square root, with a derivative at 0."""
    return (loss + 1e-8).sqrt()


@contextmanager
def _frozen(*modules: nn.Module) -> Iterator[None]:
    """Gradients flow through these networks within it, but leave nothing in their weights."""
    for module in modules:
        module.requires_grad_(False)
    try:
        yield
    finally:
        for module in modules:
            module.requires_grad_(True)
