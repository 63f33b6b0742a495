"""The updates of a sequence GAN in training: of its autoencoder, over codes and over sequences."""

from typing import Any

import torch
from torch import Tensor, nn

from hybridgen import codecs
from hybridgen.data import SeriesBatch
from hybridgen.models import sequence_gan_judging as judging
from hybridgen.models.sequence_gan_output import shown, valid_steps
from hybridgen.models.sequence_gan_parts import Sample, Scores
from hybridgen.models.sequence_gan_watch import Guard
from hybridgen.objectives import adversarial
from hybridgen.tracking.finite import in_any_process

_ROWS_AT_ONCE = 512


def enough(count: int, numbers: int) -> int:
    """How many of so many sequences statistics are computed from: memory and time grow with them, exactness hardly.

    Args:
        count: sequences there are.
        numbers: that each has.
    """
    return min(count, 20_000, max(1000, 50_000_000 // numbers))


def spread(sequences: Any, num_features: int) -> SeriesBatch:
    """:func:`enough` sequences of the data as one batch, evenly spread."""
    number = enough(len(sequences), sequences.max_length * num_features)
    return sequences.batch(torch.linspace(0, len(sequences) - 1, number).long().numpy())


class Updates:
    """What a batch does to the networks, and what of it a checkpoint holds; part of a model of several optimisers.

    Optimisers are torch's own here, not Lightning's, which would count every step of each of them.

    Attributes:
        skipped_updates: updates of whichever network that were left out because a number was not finite.
    """

    skipped_updates = 0
    _share = 1.0  # of the batch that all processes have together; see hybridgen.models.processes.shared

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the file complete: the options and the codec."""
        checkpoint["hybridgen_model"] = type(self).__name__
        checkpoint["options"] = self.options
        checkpoint["codec"] = self.codec.to_config()
        checkpoint["alarm"] = self.alarm.state_dict()
        checkpoint["guard"] = None if self.guard is None else self.guard.state_dict()
        checkpoint["skipped_updates"] = self.skipped_updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.codec is None:
            self._build(codecs.from_config(checkpoint["codec"]), checkpoint["options"]["max_length"])
        if "guard" in checkpoint:
            self.alarm.load_state_dict(checkpoint["alarm"])
            self._loaded_guard = checkpoint["guard"]
            self.skipped_updates = checkpoint["skipped_updates"]

    def learners(self, which: int) -> nn.Module:
        """What an optimiser's updates change: 1 the generator, 2 the critic, 3 the autoencoder."""
        if self.hparams.mode != "timegan" or which == 2:
            return (self.generator, self.critic, getattr(self, "autoencoder", None))[which - 1]
        parts = self.generator
        return nn.ModuleList([parts.codes, parts.supervisor] if which == 1 else [self.embedder, parts.recovery])

    def _learn(self, part: str, batch: SeriesBatch, done: int) -> dict[str, Any]:
        """Learn from a batch, the one after ``done`` others of its part of training; what is to be logged."""
        if self.hparams.mode == "timegan":
            return self._learn_step_codes(part, batch, done)
        if part == "warm_start":
            return self._warm_start(batch, done)
        if part == "autoencoder":
            return self._learn_codes(batch, done)
        return (self._update_over_codes if self.hparams.mode == "latent" else self._update_over_sequences)(batch, done)

    def _warm_start(self, batch: SeriesBatch, step: int) -> dict[str, Any]:
        """The generator learns by teacher forcing: it reads real steps and is to say the next ones."""
        noise = self._drawn(self.generator.draw(*batch.values.shape[:2], self._random))
        given = {"labels": batch.labels, "conditions": batch.conditions, "attributes": batch.attributes}
        logits = self.generator.logits(noise, lengths=batch.lengths, teacher=batch.values, **given)
        loss = self.generator.output.loss(logits, batch.values, shown(batch.values, batch.mask, batch.lengths))
        if self._update(1, self.generator, loss, step):
            self.average.update_parameters(self.generator)
        return {"teacher_forced": loss.detach()}

    def _learn_codes(self, batch: SeriesBatch, step: int) -> dict[str, Any]:
        if len(batch.values) < 2:
            raise ValueError("mode 'latent' normalises codes over a batch: set batch_size of the data to at least 2")
        loss = self.autoencoder.loss(batch.values, batch.mask, batch.lengths, batch.conditions, self._random)
        self._update(3, self.autoencoder, loss, step)
        return {"reconstruction": loss.detach()}

    def _update_over_codes(self, batch: SeriesBatch, step: int) -> dict[str, Any]:
        if self._codes is None:
            self._cache_codes(resumed=step > 0)
        options, values, rows = self.hparams, {}, len(batch.values)
        for number in range(step * options.latent_updates, (step + 1) * options.latent_updates):
            chosen = self._chosen(rows).to(self.device)
            real = self._codes[chosen]
            labels = None if self._labels is None else self._labels[chosen]

            def judge(codes: Tensor, labels: Tensor | None = labels) -> Scores:
                return self.critic(codes, labels)

            def make(labels: Tensor | None = labels) -> Tensor:
                return self.generator(self._drawn(self.generator.draw(rows, self._random)), labels)

            with torch.no_grad():
                fake = make()
            values |= self._update_critic((judge, judge), (real, fake), number)
            if (number + 1) % options.critic_steps == 0:
                made = make()
                self.critic.requires_grad_(False)
                values |= self._update_generator(made, judge(made), judge, real, number)
        return values

    def _chosen(self, rows: int) -> Tensor:
        """Which codes ``(rows,)`` an update is of."""
        return torch.randint(len(self._codes), (rows,), generator=self._random)

    def _update_over_sequences(self, batch: SeriesBatch, step: int) -> dict[str, Any]:
        options, number = self.hparams, step // self.hparams.accumulate_batches
        real = Sample(batch.values, batch.lengths, batch.labels, batch.attributes, batch.conditions)
        valid = valid_steps(batch.values, batch.lengths)
        given = {"lengths": batch.lengths, "labels": batch.labels, "conditions": batch.conditions}

        def make() -> Sample:
            return self.generator(self._drawn(self.generator.draw(*batch.values.shape[:2], self._random)), **given)

        def seen(values: Tensor) -> Tensor:
            if self.augment is None:
                return values
            return self.augment(values, lengths=batch.lengths, generator=judging.generator_on(self._random, values))

        def judge(sample: Sample) -> judging.Judge:
            return lambda values: self.critic(sample._replace(values=values))

        with torch.no_grad():
            fake = make()
        inputs = seen(real.values), seen(fake.values)
        values = self._update_critic((judge(real), judge(fake)), inputs, step, batch.lengths, valid)
        if (number + 1) % options.critic_steps == 0:
            made = make()
            self.critic.requires_grad_(False)
            scores = judge(made)(seen(made.values))
            values |= self._update_generator(made.values, scores, judge(real), inputs[0], step, batch, valid)
        return values

    def _update_critic(
        self,
        judges: tuple[judging.Judge, judging.Judge],
        inputs: tuple[Tensor, Tensor],
        number: int,
        lengths: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> dict[str, Any]:
        options = self.hparams
        due = number % options.penalty_every == 0
        found = judging.judge_both(
            self.adversarial,
            options.penalty if due else "none",
            judges,
            inputs,
            lengths=lengths,
            valid=valid,
            generator=self._random,
        )
        loss = found["loss"]
        values = {"critic_loss": loss.detach(), "critic_accuracy": found["accuracy"]}
        if "penalty" in found:
            loss = loss + options.penalty_weight * options.penalty_every * found["penalty"]
            values["penalty"] = found["penalty"].detach()
        self._update(2, self.critic, loss, number)
        return values

    def _update_generator(
        self,
        fake: Tensor,
        scores: Scores,
        judge: judging.Judge,
        real: Tensor,
        number: int,
        batch: SeriesBatch | None = None,
        valid: Tensor | None = None,
    ) -> dict[str, Any]:
        options = self.hparams
        beside = None
        if self.adversarial.pairs or options.feature_matching:
            with torch.no_grad():
                beside = judge(real)
        loss = judging.generator_loss(self.adversarial, scores, beside if self.adversarial.pairs else None, valid)
        values = {"generator_loss": loss.detach()}
        if options.feature_matching:
            loss = loss + options.feature_matching * adversarial.feature_matching(beside.features, scores.features)
        if options.moment_weight and batch is not None:
            ends = {"real_lengths": batch.lengths, "fake_lengths": batch.lengths}
            loss = loss + options.moment_weight * adversarial.moment_loss(batch.values, fake, **ends)
        stepped = self._update(1, self.generator, loss, number)
        self.critic.requires_grad_(True)
        if stepped:
            self.average.update_parameters(self.generator)
        return values

    def _update(self, which: int, module: nn.Module, loss: Tensor, number: int) -> bool:
        """Backward and, where all batches of an update are there, a step; whether there was one."""
        optimizer, options = self._raw[which], self.hparams
        batches = self._batches_of(which)
        if number % batches == 0:
            optimizer.zero_grad()
        self.manual_backward(loss * (self._share / batches))
        if (number + 1) % batches:
            return False
        norm = nn.utils.clip_grad_norm_(module.parameters(), options.gradient_clip_val or float("inf"))
        if in_any_process(~(loss.isfinite() & norm.isfinite())):
            self.skipped_updates += 1
            self.guard.roll_back(self._raw[1:], self.global_step)
            return False
        optimizer.step()
        self.guard.good()
        return True

    def _batches_of(self, which: int) -> int:
        """How many batches an update of an optimiser's network is of."""
        # An update over codes is never of more than one batch.
        return 1 if self.hparams.mode == "latent" and which != 3 else self.hparams.accumulate_batches

    def _drawn(self, noise: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in noise.items()}

    @torch.no_grad()
    def _cache_codes(self, resumed: bool) -> None:
        """Codes of all training sequences, by the finished autoencoder; ``resumed`` where a GAN knows its codes."""
        self.autoencoder.requires_grad_(False).eval()
        sequences = self.trainer.datamodule.sequences("train")
        pieces = torch.arange(len(sequences)).split(_ROWS_AT_ONCE)
        batches = (self.transfer_batch_to_device(sequences.batch(p.numpy()), self.device, 0) for p in pieces)
        with torch.autocast(self.device.type, enabled=False):
            resumed = resumed and self.autoencoder.has_basis
            parts = [(self.autoencoder.encode_again if resumed else self.autoencoder.encode_all)(batches)]
            if self.hparams.calibrate and not resumed:
                some = self.transfer_batch_to_device(spread(sequences, self.layout.num_features), self.device, 0)
                self.calibration.observe(parts[0], some.values, some.lengths)
        parts.append(self._coded_lengths(torch.as_tensor(sequences.lengths)).to(parts[0]))
        if sequences.attributes is not None:
            parts.append(torch.as_tensor(sequences.attributes).to(parts[0]))
        self._codes = torch.cat(parts, 1)
        # From here on the autoencoder is what it is: going back must not change it.
        if "autoencoder" in self.guard.modules:
            self.guard = Guard({name: getattr(self, name) for name in ("generator", "critic", "average")})
        labelled = sequences.labels is not None and self.layout.num_labels
        self._labels = torch.as_tensor(sequences.labels).to(self.device) if labelled else None
