"""The updates of a SequenceVAEGAN in training: of its critic, and of encoder and decoder."""

from typing import Any

import torch
from torch import Tensor

from hybridgen.models import sequence_gan_judging as judging
from hybridgen.models.processes import shared
from hybridgen.models.sequence_gan_output import valid_steps
from hybridgen.models.sequence_gan_parts import Scores
from hybridgen.models.sequence_vaegan_network import Rows
from hybridgen.objectives.variational import DiagonalGaussian, gaussian_kl


class HybridUpdates:
    """What a batch does to the networks; part of :class:`hybridgen.models.SequenceVAEGAN`.

    The critic compares the batch with as many generated sequences of the same lengths and classes: the first half are
    reconstructions of the batch's first half, the others are decoded from the prior.
    """

    def update_both(self, rows: Rows, step: int) -> dict[str, Any]:
        """One update of the critic, where there is one, and one of the generator whenever it is its turn."""
        values: dict[str, Any] = {}
        options, number = self.hparams, step // self.hparams.accumulate_batches
        if self.critic is not None:
            values |= self._criticise(rows, step)
        if self.critic is None or (number + 1) % options.critic_steps == 0:
            values |= self._generate(rows, step)
        return values

    def _batches_of(self, which: int) -> int:
        return self.hparams.accumulate_batches

    def _criticise(self, rows: Rows, step: int) -> dict[str, Any]:
        with torch.no_grad():
            posterior = None if self.generator.encoder is None else self.generator.encoder(rows)
            z = None if posterior is None else self._code(posterior)
            half = 0 if z is None else len(z) // 2
            codes = self._prior(len(rows.values) - half)
            codes = codes if z is None else torch.cat([z[:half], codes])
            fake = self._draws(codes, rows, relaxed=False)

        def judge(values: Tensor) -> Scores:
            return self.critic(rows.sample(values))

        valid = valid_steps(rows.values, rows.lengths)
        return self._update_critic((judge, judge), (rows.values, fake), step, rows.lengths, valid)

    def _generate(self, rows: Rows, step: int) -> dict[str, Any]:
        options, values = self.hparams, {}
        reconstruction, size = options.reconstruction, len(rows.values)
        _, means = shared({"frames": rows.frames.float().mean()}, size, rows.values.device)
        frames = means["frames"]
        loss, z, half = rows.values.new_zeros(()), None, 0
        if self.generator.encoder is not None:
            posterior = self.generator.encoder(rows)
            z, half = self._code(posterior), size // 2
            if self.kl_control is not None:
                term, plain, weight = self.kl_control(gaussian_kl(posterior), step=step)
                loss = loss + term / frames
                values |= {"kl": plain, "kl_weight": weight}
        if reconstruction in ("likelihood", "both"):
            nll = self.generator.nll(rows, z, self._random).mean()
            values["reconstruction_per_frame"] = nll.detach() / frames
            loss = loss + options.likelihood_weight * nll / frames
        if self.critic is not None:
            self.critic.requires_grad_(False)
            loss = loss + self._judged(rows, z, half, frames, values)
        values["loss"] = loss.detach()
        if self._update(1, self.generator, loss, step):
            self.average.update_parameters(self.generator)
        if self.critic is not None:
            self.critic.requires_grad_(True)
        return values

    def _judged(self, rows: Rows, z: Tensor | None, half: int, frames: Tensor, values: dict[str, Any]) -> Tensor:
        """The terms that the critic has a say in, weighted."""
        options, size = self.hparams, len(rows.values)
        compares = options.reconstruction in ("features", "both")
        codes = self._prior(size - half)
        if z is not None:
            # Larsen et al.: the encoder does not learn to please the critic.
            codes = torch.cat([z[:half].detach(), codes])
        both = torch.cat([z, codes]) if compares else codes
        twice = Rows(*(None if part is None else torch.cat([part, part]) for part in rows)) if compares else rows
        made = self._draws(both, twice, relaxed=True)
        fake = made[-size:]
        with torch.no_grad():
            real = self.critic(rows.sample(rows.values))
        valid = valid_steps(rows.values, rows.lengths)
        scores = self.critic(rows.sample(fake))
        verdict = judging.generator_loss(self.adversarial, scores, real if self.adversarial.pairs else None, valid)
        values["generator_loss"] = verdict.detach()
        loss = options.adversarial_weight * verdict
        if compares:
            features = self.critic(rows.sample(made[:size])).outputs
            distance = 0.5 * (features - real.outputs).square().sum(-1)  # (B, T)
            if valid is not None:
                distance = distance.masked_fill(~valid, 0.0)
            distance = distance.sum() / (size * frames)
            values["feature_distance"] = distance.detach()
            loss = loss + options.feature_weight * distance
        return loss

    def _code(self, posterior: DiagonalGaussian) -> Tensor:
        if self.kl_control is None:
            return posterior.mean
        noise = torch.randn(posterior.mean.shape, generator=self._random).to(posterior.mean)
        return posterior.mean + noise * (0.5 * posterior.log_variance).exp()

    def _prior(self, number: int) -> Tensor:
        return torch.randn(number, self.hparams.latent_size, generator=self._random).to(self.device)

    def _draws(self, z: Tensor, rows: Rows, *, relaxed: bool) -> Tensor:
        """Generated sequences ``(B, T, F)`` as the critic sees them."""
        shape = (len(z), rows.values.shape[1], self.generator.head.num_uniforms)
        uniforms = torch.rand(shape, generator=self._random).to(self.device)
        return self.generator.draw(z, uniforms, rows, relaxed=relaxed, means=self.hparams.critic_sees == "means")
