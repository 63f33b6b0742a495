"""Generators and critics: recurrent ones of sequences, and those of codes in the latent mode."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hybridgen.codecs import FeatureGroup
from hybridgen.models.building import build_stack
from hybridgen.models.sequence_gan_output import (
    FeatureOutput,
    calls_of,
    folded,
    joined,
    over_time,
    perceptron,
    pool,
)
from hybridgen.objectives import adversarial
from hybridgen.objectives.likelihood import without_padding


@dataclass(frozen=True)
class Layout:
    """What a codec's sequences consist of.

    Attributes:
        groups: what the F features of a step are.
        neutral: ``(F,)``.
        num_labels: classes; 0 without.
        num_conditions: features that are given at every step.
        attribute_groups: what the A features of a whole series are.
    """

    groups: tuple[FeatureGroup, ...]
    neutral: Tensor
    num_labels: int
    num_conditions: int
    attribute_groups: tuple[FeatureGroup, ...]

    @classmethod
    def of(cls, codec: Any) -> "Layout":
        """The layout of a codec of series or of sounds."""
        return cls(
            tuple(codec.groups),
            codec.neutral,
            codec.num_labels,
            getattr(codec, "num_conditions", 0),
            tuple(getattr(codec, "attribute_groups", ())),
        )

    def check_conditions(self, given: Any, wanted: str) -> None:
        """Check that conditions are given where there were such in training, and only there.

        Raises:
            ValueError: if it is not so; ``wanted`` says what to give.
        """
        if given is None and self.num_conditions:
            raise ValueError(f"this model was trained with conditions: give {wanted}")
        if given is not None and not self.num_conditions:
            raise ValueError("this model was trained without conditions: leave conditions out")

    @property
    def num_features(self) -> int:
        """F."""
        return self.groups[-1].stop

    @property
    def num_attributes(self) -> int:
        """A."""
        return self.attribute_groups[-1].stop if self.attribute_groups else 0

    def attribute_output(self) -> FeatureOutput:
        """The activations of attributes."""
        return FeatureOutput(self.attribute_groups, torch.zeros(self.num_attributes))


class Sample(NamedTuple):
    """Sequences as a critic sees them; what there is not is None.

    Attributes:
        values: ``(B, T, F)``, zero past a row's end.
        lengths: ``(B,)``.
        labels: ``(B,)`` whole numbers.
        attributes: ``(B, A)``.
        conditions: ``(B, T, C)``.
    """

    values: Tensor
    lengths: Tensor | None
    labels: Tensor | None
    attributes: Tensor | None
    conditions: Tensor | None


class Scores(NamedTuple):
    """What a critic says.

    Attributes:
        sequence: ``(B,)``, or None.
        steps: ``(B, T)``, or None.
        features: ``(B, D)``, what feature matching compares.
        outputs: ``(B, T, H)``, of the stack at every step, or None for a critic of codes.
    """

    sequence: Tensor | None
    steps: Tensor | None
    features: Tensor
    outputs: Tensor | None = None


def one_hot(labels: Tensor | None, num_labels: int) -> Tensor | None:
    """``(B, num_labels)``, or None without classes."""
    return None if labels is None or not num_labels else nn.functional.one_hot(labels, num_labels).float()


class RecurrentGenerator(nn.Module):
    """A stack that is driven by noise: one draw for the sequence and one for every call, ``steps_per_call`` steps.

    Attributes of the series are made first, from the sequence's noise, and drive the stack like the class. With
    feedback each call also reads what the one before made, zeros at first, and gradients flow through it; this goes
    call by call, but for a teacher's sequence, which is all there beforehand (C-RNN-GAN, Mogren 2016).

    Args:
        layout: of the data.
        stack: arguments of :class:`hybridgen.cells.Stack`.
        sequence_noise: width of the noise of a sequence.
        step_noise: width of the noise of a call.
        steps_per_call: steps that one call of the cells emits.
        feedback: whether a call reads what the one before made.
    """

    def __init__(
        self,
        layout: Layout,
        stack: dict[str, Any],
        *,
        sequence_noise: int,
        step_noise: int,
        steps_per_call: int,
        feedback: bool = False,
    ) -> None:
        super().__init__()
        self.feedback = feedback
        self.num_labels = layout.num_labels
        self.sequence_noise, self.step_noise, self.steps_per_call = sequence_noise, step_noise, steps_per_call
        context = sequence_noise + layout.num_labels + layout.num_attributes
        inputs = context + step_noise + (layout.num_conditions + feedback * layout.num_features) * steps_per_call
        self.stack = build_stack(stack, inputs)
        self.head = nn.Linear(self.stack.output_size, steps_per_call * layout.num_features)
        self.output = FeatureOutput(layout.groups, layout.neutral)
        self.attribute_output = layout.attribute_output() if layout.num_attributes else None
        self.attributes = None
        if layout.num_attributes:
            self.attributes = perceptron(sequence_noise + layout.num_labels, 64, 1, layout.num_attributes)

    def draw(self, batch_size: int, steps: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Noise on the CPU, ``(B, size)`` and of steps ``(B, T, size)``; the first rows do not depend on the length."""
        calls = -(-steps // self.steps_per_call)
        noise = {"sequence": torch.randn(batch_size, self.sequence_noise, generator=generator)}
        if self.attribute_output is not None:
            noise["attribute_chance"] = torch.rand(batch_size, self.attribute_output.width, generator=generator)
        noise["steps"] = torch.randn(batch_size, calls, self.step_noise, generator=generator)
        noise["chance"] = torch.rand(batch_size, steps, self.output.width, generator=generator)
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
        """Generate sequences; attributes are those given, or drawn.

        Args:
            noise: from :meth:`draw`.
            lengths: ``(B,)``.
            labels: ``(B,)``.
            conditions: ``(B, T, C)``.
            attributes: ``(B, A)``.
        """
        if self.attributes is not None and attributes is None:
            drawn = self.attributes(joined(noise["sequence"], one_hot(labels, self.num_labels)))
            attributes = self.attribute_output(drawn, noise["attribute_chance"])
        given = {"labels": labels, "conditions": conditions, "attributes": attributes}
        if self.feedback:
            values = self._call_by_call(noise, self._inputs(noise, lengths, **given))
        else:
            values = self.output(self.logits(noise, lengths=lengths, **given), noise["chance"])
        return Sample(without_padding(values, lengths), lengths, labels, attributes, conditions)

    def logits(
        self,
        noise: dict[str, Tensor],
        *,
        lengths: Tensor | None,
        labels: Tensor | None,
        conditions: Tensor | None,
        attributes: Tensor | None,
        teacher: Tensor | None = None,
    ) -> Tensor:
        """What is said about all steps in one call of the stack, ``(B, T, F)``, for the output to make features of.

        Args:
            noise: from :meth:`draw`.
            lengths: ``(B,)``.
            labels: ``(B,)``.
            conditions: ``(B, T, C)``.
            attributes: ``(B, A)``, where the data has them.
            teacher: features ``(B, T, F)``, of which each call reads the steps before its own in place of what the
                generator makes itself.

        Raises:
            ValueError: if there is a teacher without feedback, or feedback without a teacher.
        """
        if self.feedback != (teacher is not None):
            raise ValueError("a generator reads a teacher's steps if it was made with feedback, and only then")
        inputs, k = self._inputs(noise, lengths, labels, conditions, attributes), self.steps_per_call
        if teacher is not None:
            before = folded(teacher, lengths, k)[0]
            inputs = joined(inputs, nn.functional.pad(before[:, :-1], (0, 0, 1, 0)))
        outputs, _ = self.stack(inputs, lengths=calls_of(lengths, k))
        steps = noise["chance"].shape[1]
        return self.head(outputs).reshape(len(outputs), outputs.shape[1] * k, -1)[:, :steps]

    def _inputs(
        self,
        noise: dict[str, Tensor],
        lengths: Tensor | None,
        labels: Tensor | None,
        conditions: Tensor | None,
        attributes: Tensor | None,
    ) -> Tensor:
        """What the calls read but for feedback, ``(B, calls, width)``."""
        given = None if conditions is None else folded(conditions, lengths, self.steps_per_call)[0]
        context = joined(noise["sequence"], one_hot(labels, self.num_labels), attributes)
        return joined(over_time(context, noise["steps"].shape[1]), noise["steps"], given)

    def _call_by_call(self, noise: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """Features ``(B, T, F)``, each call after the first reading those of the one before."""
        (rows, calls), k, chance = inputs.shape[:2], self.steps_per_call, noise["chance"]
        steps, width = chance.shape[1:]
        chances = nn.functional.pad(chance, (0, 0, 0, calls * k - steps), value=0.5).split(k, 1)
        masks, state, made = self.stack.draw_masks(rows, calls), None, []
        before = inputs.new_zeros(rows, k * width)
        for call, (own, drawn) in enumerate(zip(inputs.unbind(1), chances, strict=True)):
            output, state = self.stack.step(joined(own, before), state, masks=masks.at(call))
            made.append(self.output(self.head(output).reshape(rows, k, width), drawn))
            before = made[-1].flatten(1)
        return torch.cat(made, 1)[:, :steps]


class RecurrentCritic(nn.Module):
    """A stack that reads a sequence, and scores of the whole and of every step.

    It also reads how each feature changes from step to step, and how much the batch varies (``minibatch``).

    Args:
        layout: of the data.
        stack: arguments of :class:`hybridgen.cells.Stack`; bidirectional unless it says otherwise.
        scores: ``both``, ``sequence`` or ``steps``.
        minibatch: whether it sees the standard deviation over the batch.
        spectral_norm: whether its matrices are divided by their largest singular value.
    """

    def __init__(
        self, layout: Layout, stack: dict[str, Any], *, scores: str, minibatch: bool, spectral_norm: bool
    ) -> None:
        super().__init__()
        self.num_labels = layout.num_labels
        inputs = 2 * layout.num_features + layout.num_labels + layout.num_attributes + layout.num_conditions
        self.minibatch = adversarial.MinibatchStandardDeviation() if minibatch else None
        self.stack = build_stack({"bidirectional": True} | stack, inputs + minibatch)
        width = self.stack.output_size
        self.of_steps = nn.Linear(width, 1) if scores in ("both", "steps") else None
        self.of_sequence = perceptron(2 * width, width, 1, 1) if scores in ("both", "sequence") else None
        if spectral_norm:
            adversarial.spectral_norm_(self)

    def forward(self, sample: Sample) -> Scores:
        """The scores of a batch."""
        values, lengths = sample.values, sample.lengths
        steps = values.shape[1]
        changes = nn.functional.pad(values[:, 1:] - values[:, :-1], (0, 0, 1, 0))
        fixed = [one_hot(sample.labels, self.num_labels), sample.attributes]
        constant = [over_time(part, steps) for part in fixed if part is not None]
        inputs = joined(values, changes, *constant, sample.conditions)
        if self.minibatch is not None:
            inputs = self.minibatch(inputs, lengths=lengths)
        outputs, _ = self.stack(inputs, lengths=lengths)
        pooled = pool(outputs, lengths)
        return Scores(
            None if self.of_sequence is None else self.of_sequence(pooled).squeeze(-1),
            None if self.of_steps is None else self.of_steps(outputs).squeeze(-1),
            pooled,
            outputs,
        )


class CodeGenerator(nn.Module):
    """Codes of sequences from noise: the latent code, the length where lengths differ, and the attributes.

    Attributes are made first and drive the rest like the class, so that they can be chosen.

    Args:
        layout: of the data.
        code_size: of the autoencoder.
        with_length: whether the code has a place for the length.
        noise_size: width of the noise.
        hidden_size: of its layers.
        num_layers: hidden ones.
    """

    def __init__(
        self, layout: Layout, *, code_size: int, with_length: bool, noise_size: int, hidden_size: int, num_layers: int
    ) -> None:
        super().__init__()
        self.noise_size, self.num_labels, self.free = noise_size, layout.num_labels, code_size + with_length
        self.attribute_output = layout.attribute_output() if layout.num_attributes else None
        self.width = self.free + layout.num_attributes
        self.attributes = None
        if layout.num_attributes:
            self.attributes = perceptron(noise_size + layout.num_labels, 64, 1, layout.num_attributes)
        inputs = noise_size + layout.num_labels + layout.num_attributes
        self.layers = perceptron(inputs, hidden_size, num_layers, self.free)

    def draw(self, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The noise of a batch, ``(B, size)`` by name, on the CPU."""
        return {
            "code": torch.randn(batch_size, self.noise_size, generator=generator),
            "attribute_chance": torch.rand(batch_size, self.width - self.free, generator=generator),
        }

    def forward(self, noise: dict[str, Tensor], labels: Tensor | None, attributes: Tensor | None = None) -> Tensor:
        """Codes ``(B, width)``; their attributes ``(B, A)`` are those given, or drawn."""
        classes = one_hot(labels, self.num_labels)
        if self.attributes is not None and attributes is None:
            logits = self.attributes(joined(noise["code"], classes))
            attributes = self.attribute_output(logits, noise["attribute_chance"])
        return joined(self.layers(joined(noise["code"], classes, attributes)), attributes)


class CodeCritic(nn.Module):
    """Scores of codes.

    Args:
        width: of a code.
        num_labels: classes.
        hidden_size: of its layers.
        num_layers: hidden ones.
        minibatch: whether it sees the standard deviation over the batch.
        spectral_norm: whether its matrices are divided by their largest singular value.
    """

    def __init__(
        self, width: int, num_labels: int, *, hidden_size: int, num_layers: int, minibatch: bool, spectral_norm: bool
    ) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.minibatch = adversarial.MinibatchStandardDeviation() if minibatch else None
        self.features = perceptron(width + num_labels + minibatch, hidden_size, num_layers - 1, hidden_size)
        self.score = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(hidden_size, 1))
        if spectral_norm:
            adversarial.spectral_norm_(self)

    def forward(self, codes: Tensor, labels: Tensor | None) -> Scores:
        """The scores of a batch of codes ``(B, width)``."""
        if self.minibatch is not None:
            codes = self.minibatch(codes)
        features = self.features(joined(codes, one_hot(labels, self.num_labels)))
        return Scores(self.score(features).squeeze(-1), None, features)
