"""The networks of the ``timegan`` mode of a sequence GAN: a code at every step, and an adversary of these codes.

Their losses, and the settings of TimeGAN's own code, are in :mod:`hybridgen.models.sequence_timegan_training`.

TimeGAN (Yoon, Jarrett & van der Schaar 2019, "Time-series generative adversarial networks", NeurIPS). With real series
x, noise z, what is given g (class and conditions) and everything in (0, 1) by a sigmoid::

    embedder    h_t = e(x_1..t, g)          real codes
    generator   u_t = u(z_1..t, g)          codes that are not supervised yet
    supervisor  s_t = s(h_1..t, g)          what h_(t+1) will be; of generated codes, s(u) are those of the sequence
    recovery    x_t = r(h_1..t, g)          series of codes, and r(s(u)) new ones

All are stacks of cells that look back only; the critic of codes looks both ways. Noise is normal, of the sequence and
of each call, as in the other modes; TimeGAN's own is uniform and of each step alone.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.codecs import FeatureGroup
from hybridgen.models.building import build_stack
from hybridgen.models.processes import summed
from hybridgen.models.sequence_gan_output import FeatureOutput, joined, over_time, valid_steps
from hybridgen.models.sequence_gan_parts import Layout, RecurrentCritic, RecurrentGenerator, Sample, one_hot
from hybridgen.objectives.likelihood import without_padding


def code_layout(layout: Layout, code_size: int) -> Layout:
    """The layout of sequences of codes: D numbers in (0, 1) a step, with the classes, conditions and attributes.

    Args:
        layout: of the data.
        code_size: D.
    """
    return replace(layout, groups=(FeatureGroup("code", "unit", 0, code_size),), neutral=torch.zeros(code_size))


def step_code_critic(layout: Layout, code_size: int, **options: Any) -> RecurrentCritic:
    """A critic of sequences of codes ``(B, T, D)``; options are those of :class:`RecurrentCritic` but the layout.

    Args:
        layout: of the data.
        code_size: D.
        options: for the critic.
    """
    return RecurrentCritic(code_layout(layout, code_size), **options)


class StepNetwork(nn.Module):
    """A stack from one sequence to another of as many steps, which looks back only.

    Args:
        layout: of the data, for the classes and conditions that it reads beside its input.
        stack: arguments of :class:`hybridgen.cells.Stack`.
        input_size: width I of a step.
        output_size: width O of a step of what comes out.
    """

    def __init__(self, layout: Layout, stack: dict[str, Any], input_size: int, output_size: int) -> None:
        super().__init__()
        self.num_labels = layout.num_labels
        inputs = input_size + layout.num_labels + layout.num_conditions
        self.stack = build_stack({**stack, "bidirectional": False}, inputs)
        self.head = nn.Linear(self.stack.output_size, output_size)

    def forward(
        self, inputs: Tensor, *, lengths: Tensor | None, labels: Tensor | None, conditions: Tensor | None
    ) -> Tensor:
        """Numbers ``(B, T, O)``; what they are past a row's end says nothing.

        Args:
            inputs: ``(B, T, I)``.
            lengths: ``(B,)``, or None where all rows have T steps.
            labels: ``(B,)``, where the data has classes.
            conditions: ``(B, T, C)``, where it has them.
        """
        classes = one_hot(labels, self.num_labels)
        given = None if classes is None else over_time(classes, inputs.shape[1])
        outputs, _ = self.stack(without_padding(joined(inputs, given, conditions), lengths), lengths=lengths)
        return self.head(outputs)


class StepEmbedder(nn.Module):
    """Real series to codes.

    Args:
        layout: of the data.
        stack: arguments of :class:`hybridgen.cells.Stack`.
        code_size: D.
    """

    def __init__(self, layout: Layout, stack: dict[str, Any], code_size: int) -> None:
        super().__init__()
        self.network = StepNetwork(layout, stack, layout.num_features, code_size)

    def forward(self, batch: Any) -> Sample:
        """Codes ``(B, T, D)`` of a batch, as a critic sees them; zero past a row's end.

        Args:
            batch: a :class:`hybridgen.data.SeriesBatch`.
        """
        given = {"lengths": batch.lengths, "labels": batch.labels, "conditions": batch.conditions}
        codes = without_padding(self.network(batch.values, **given).sigmoid(), batch.lengths)
        return Sample(codes, batch.lengths, batch.labels, batch.attributes, batch.conditions)


class TimeGANGenerator(nn.Module):
    """New series: codes from noise, supervised, and recovered.

    The recovery is a part of it, so that the moving average of a generator is of all that makes a series.

    Args:
        layout: of the data.
        stack: arguments of :class:`hybridgen.cells.Stack` for each of the three.
        code_size: D.
        sequence_noise: width of the noise of a sequence.
        step_noise: width of the noise of a call.
        steps_per_call: steps whose codes one call of the generator of codes emits.
    """

    def __init__(
        self,
        layout: Layout,
        stack: dict[str, Any],
        *,
        code_size: int,
        sequence_noise: int,
        step_noise: int,
        steps_per_call: int,
    ) -> None:
        super().__init__()
        noise = {"sequence_noise": sequence_noise, "step_noise": step_noise, "steps_per_call": steps_per_call}
        causal = {**stack, "bidirectional": False}
        self.codes = RecurrentGenerator(code_layout(layout, code_size), causal, **noise)
        self.supervisor = StepNetwork(layout, stack, code_size, code_size)
        self.recovery = StepNetwork(layout, stack, code_size, layout.num_features)
        self.output = FeatureOutput(layout.groups, layout.neutral)

    def draw(self, batch_size: int, steps: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Noise on the CPU; see :meth:`RecurrentGenerator.draw`."""
        noise = self.codes.draw(batch_size, steps, generator)
        noise["feature_chance"] = torch.rand(batch_size, steps, self.output.width, generator=generator)
        return noise

    def forward(
        self,
        noise: dict[str, Tensor],
        *,
        lengths: Tensor | None,
        labels: Tensor | None,
        conditions: Tensor | None,
        attributes: Tensor | None = None,
    ) -> Sample:
        """Generate series; attributes are those given, or drawn.

        Args:
            noise: from :meth:`draw`.
            lengths: ``(B,)``.
            labels: ``(B,)``.
            conditions: ``(B, T, C)``.
            attributes: ``(B, A)``.
        """
        given = {"lengths": lengths, "labels": labels, "conditions": conditions}
        return self.recover(self.supervise(self.codes(noise, attributes=attributes, **given)), noise["feature_chance"])

    def supervise(self, codes: Sample) -> Sample:
        """The supervisor's codes ``(B, T, D)`` of others: of real ones, step t is what step t + 1 should be.

        Args:
            codes: ``values (B, T, D)`` and what is given beside them.
        """
        numbers = self.supervisor(codes.values, **_given(codes))
        return codes._replace(values=without_padding(numbers.sigmoid(), codes.lengths))

    def recover(self, codes: Sample, uniforms: Tensor | None) -> Sample:
        """The series ``(B, T, F)`` of codes.

        Args:
            codes: ``values (B, T, D)`` and what is given beside them.
            uniforms: ``(B, T, F)``, what categories and missing cells are drawn by; the likeliest where None.
        """
        values = self.output(self.recovery(codes.values, **_given(codes)), uniforms)
        return codes._replace(values=without_padding(values, codes.lengths))

    def reconstruction_loss(self, codes: Sample, target: Tensor, mask: Tensor | None) -> Tensor:
        """How far the series of real codes are from the real series: a scalar; see :meth:`FeatureOutput.loss`.

        Args:
            codes: of the embedder.
            target: ``(B, T, F)``.
            mask: bool of the same shape: what of it is there.
        """
        return self.output.loss(self.recovery(codes.values, **_given(codes)), target, mask)

    def supervised_loss(self, codes: Sample) -> Tensor:
        """Mean squared error of the supervisor about the next step's code, over all there are: a scalar.

        In training the mean is over the batch of all processes.

        Args:
            codes: of the embedder.
        """
        errors = (self.supervise(codes).values[:, :-1] - codes.values[:, 1:]).square()
        valid = valid_steps(codes.values, codes.lengths)
        there = torch.ones_like(errors, dtype=torch.bool)
        if valid is not None:
            there = there & valid[:, 1:].unsqueeze(-1)
        total, count = errors.masked_fill(~there, 0.0).sum(), there.sum()
        if self.training:
            total, count = summed(total), summed(count)
        return total / count.clamp(min=1)


def _given(codes: Sample) -> dict[str, Tensor | None]:
    return {"lengths": codes.lengths, "labels": codes.labels, "conditions": codes.conditions}
