"""What a hybrid of recurrent VAE and GAN is made of: encoder, decoder and head; its critic is that of SequenceGAN.

q(z | x) = N(m(h), s(h)),  h the pooled outputs of a bidirectional stack over x
p(x | z) = prod_t p(x[t] | z)                                        a decoder that is driven by z alone
p(x | z) = prod_t p(x[t] | x[0..t-1], z)                             one that reads what it wrote (autoregressive)
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hybridgen import heads
from hybridgen.codecs import FeatureGroup
from hybridgen.heads.elements import ElementHead
from hybridgen.heads.relaxed import draw
from hybridgen.models.building import build_stack
from hybridgen.models.feature_head import FeatureHead
from hybridgen.models.processes import BatchNorm
from hybridgen.models.sequence_gan_output import calls_of, ends, folded, joined, over_time, pool, valid_steps
from hybridgen.models.sequence_gan_parts import Layout, Sample, one_hot
from hybridgen.objectives.likelihood import without_padding
from hybridgen.objectives.variational import DiagonalGaussian

#: Bound of the log variances of posteriors, both ways.
_LARGEST = 8.0
#: Heads by what a codec's elements are, where the configuration does not say.
_USUAL_HEADS = {"pianoroll": "bernoulli", "sketch": "bivariate_mixture", "image_rows": "mixture_of_logistics"}


class Rows(NamedTuple):
    """A batch of sequences from any data module; what there is not is None.

    Attributes:
        values: ``(B, T, F)``, zero past a row's end.
        lengths: ``(B,)``.
        labels: ``(B,)`` whole numbers.
        conditions: ``(B, T, C)``.
        mask: ``(B, T, F)`` bool, where values say something.
    """

    values: Tensor
    lengths: Tensor | None = None
    labels: Tensor | None = None
    conditions: Tensor | None = None
    mask: Tensor | None = None

    @classmethod
    def of(cls, batch: Any) -> "Rows":
        """Of a batch of SeriesData and AudioData, or of PianoRollData, ImageRowsData and SketchData."""
        if hasattr(batch, "elements"):
            lengths = batch.lengths.to(batch.elements.device)
            whole = bool((lengths == batch.elements.shape[1]).all())
            return cls(batch.elements, None if whole else lengths, batch.labels)
        return cls(batch.values, batch.lengths, batch.labels, batch.conditions, batch.mask)

    @property
    def frames(self) -> Tensor:
        """``(B,)``, the steps of each row."""
        whole = torch.full(self.values.shape[:1], self.values.shape[1], device=self.values.device)
        return whole if self.lengths is None else self.lengths

    def take(self, rows: Tensor | slice) -> "Rows":
        """Some of the rows, by numbers ``(N,)`` or a slice."""
        return Rows(*(None if part is None else part[rows] for part in self))

    def sample(self, values: Tensor) -> Sample:
        """Other values ``(B, T, F)`` of the same lengths, classes and conditions, as a critic reads them."""
        return Sample(values, self.lengths, self.labels, None, self.conditions)


def layout_of(codec: Any) -> Layout:
    """What the sequences of any codec consist of, as a critic must know it.

    Raises:
        ValueError: if series have attributes, which this model does not have.
    """
    if hasattr(codec, "groups"):
        layout = Layout.of(codec)
        if layout.num_attributes:
            raise ValueError(
                "the data has attributes of whole series, which a SequenceVAEGAN does not generate: leave out "
                "attribute_columns, or use SequenceGAN"
            )
        return layout
    width = codec.num_features
    groups = (FeatureGroup("element", "real", 0, width),)
    return Layout(groups, torch.zeros(width), len(codec.labels), 0, ())


def make_head(name: str | None, options: dict[str, Any] | None, codec: Any, width: int) -> ElementHead:
    """The distribution of an element: by name, or what is usual for the codec.

    Args:
        name: of :func:`hybridgen.heads.element_names`; None takes the usual one.
        options: of the head.
        codec: of the data.
        width: of what the head reads.

    Raises:
        ValueError: if the head is for other elements, or has no such option.
    """
    options = dict(options or {})
    if name is None and hasattr(codec, "groups"):
        try:
            return FeatureHead(width, codec.groups, codec.neutral, **options)
        except TypeError as error:
            raise ValueError(f"head_options: {error}") from None
    name = name or _USUAL_HEADS[codec.name]
    others = {group.kind for group in getattr(codec, "groups", ())} - {"unit", "symmetric", "real"}
    if others:
        raise ValueError(f"head {name!r} is for numbers, but the data has categories or missing cells: leave head out")
    if name == "mixture_of_logistics" and codec.name == "image_rows":
        options = {"num_levels": codec.levels, "low": 0.0, "high": 1.0} | options
    return heads.make(name, width, codec.num_features, **options)


class SequenceEncoder(nn.Module):
    """A stack in both directions, and a Gaussian from what it has read.

    Args:
        layout: of the data.
        stack: arguments of :class:`hybridgen.cells.Stack`.
        latent_size: D.
        steps_per_call: steps that one call of the cells reads.
        variational: whether codes have a variance; without, they are batch-normalised to mean 0 and variance 1, so that
            draws of the same kind can be decoded.
    """

    def __init__(
        self, layout: Layout, stack: dict[str, Any], *, latent_size: int, steps_per_call: int, variational: bool
    ) -> None:
        super().__init__()
        self.num_labels, self.steps_per_call = layout.num_labels, steps_per_call
        inputs = layout.num_features + layout.num_conditions + layout.num_labels
        self.stack = build_stack({**stack, "bidirectional": True}, inputs * steps_per_call)
        width = 3 * self.stack.output_size
        self.to_mean = nn.Linear(width, latent_size)
        self.to_log_variance = nn.Linear(width, latent_size) if variational else None
        self.normalise = None if variational else BatchNorm(latent_size)

    def forward(self, rows: Rows) -> DiagonalGaussian:
        """The posterior of each row, ``(B, D)``; without variance its log is -inf."""
        classes = one_hot(rows.labels, self.num_labels)
        repeated = None if classes is None else over_time(classes, rows.values.shape[1])
        inputs, calls = folded(joined(rows.values, rows.conditions, repeated), rows.lengths, self.steps_per_call)
        outputs, _ = self.stack(inputs, lengths=calls)
        read = joined(pool(outputs, calls), ends(outputs, calls))
        mean = self.to_mean(read)
        if self.to_log_variance is None:
            mean = self.normalise(mean)
            return DiagonalGaussian(mean, torch.full_like(mean, -torch.inf))
        return DiagonalGaussian(mean, _LARGEST * torch.tanh(self.to_log_variance(read) / _LARGEST))


class SequenceDecoder(nn.Module):
    """A stack that is driven by a latent (and by what it wrote before), and the head of each step.

    Args:
        layout: of the data.
        stack: arguments of :class:`hybridgen.cells.Stack`.
        latent_size: D.
        steps_per_call: steps that one call of the cells emits; 1 for an autoregressive one.
        autoregressive: whether a step reads the element before it.
        history_dropout: probability that it does not, in training.
    """

    def __init__(
        self,
        layout: Layout,
        stack: dict[str, Any],
        *,
        latent_size: int,
        steps_per_call: int,
        autoregressive: bool,
        history_dropout: float,
    ) -> None:
        super().__init__()
        self.num_labels, self.steps_per_call = layout.num_labels, steps_per_call
        self.history_dropout = history_dropout
        width = layout.num_features
        self.start = nn.Parameter(torch.zeros(width)) if autoregressive else None
        inputs = latent_size + layout.num_labels + layout.num_conditions * steps_per_call
        self.stack = build_stack({**stack, "bidirectional": False}, inputs + (width if autoregressive else 0))
        self.feature_size = self.stack.output_size
        self.spread = nn.Linear(self.stack.output_size + latent_size, steps_per_call * self.feature_size)

    def _context(self, z: Tensor, steps: int, rows: Rows) -> Tensor:
        """What every call reads beside the history, ``(B, calls, ...)``."""
        k = self.steps_per_call
        given = None if rows.conditions is None else folded(rows.conditions[:, :steps], rows.lengths, k)[0]
        return joined(over_time(joined(z, one_hot(rows.labels, self.num_labels)), -(-steps // k)), given)

    def forward(self, z: Tensor, steps: int, rows: Rows, random: torch.Generator | None = None) -> Tensor:
        """What the head reads, ``(B, T, H)``; an autoregressive decoder takes the history from ``rows.values``.

        Args:
            z: ``(B, D)``.
            steps: T.
            rows: lengths, classes and conditions and, for an autoregressive decoder, the values.
            random: of ``history_dropout``, on the CPU.
        """
        k = self.steps_per_call
        inputs = self._context(z, steps, rows)
        if self.start is not None:
            history = rows.values[:, : steps - 1]
            if self.training and self.history_dropout:
                kept = torch.rand(history.shape[:2], generator=random) >= self.history_dropout
                history = history * kept.unsqueeze(-1).to(history)
            inputs = joined(torch.cat([self.start.expand(len(z), 1, -1), history], 1), inputs)
        outputs, _ = self.stack(inputs, lengths=calls_of(rows.lengths, k))
        spread = self._spread(outputs, over_time(z, outputs.shape[1]))
        return spread.reshape(len(z), -1, self.feature_size)[:, :steps]

    def _spread(self, outputs: Tensor, z: Tensor) -> Tensor:
        return torch.tanh(self.spread(joined(outputs, z)))

    def unroll(
        self, head: ElementHead, z: Tensor, uniforms: Tensor, rows: Rows, *, relaxed: bool, temperature: float = 1.0
    ) -> Tensor:
        """Elements ``(B, T, F)`` of an autoregressive decoder that reads its own draws.

        With ``relaxed`` they have a gradient; it goes back through the state of the cells, but not through the elements
        that were read, which are taken as given: through them its variance would grow with time.

        Args:
            head: draws an element.
            z: ``(B, D)``.
            uniforms: ``(B, T, U)``.
            rows: lengths, classes and conditions.
            relaxed: whether draws have a gradient.
            temperature: of draws without.
        """
        steps = uniforms.shape[1]
        context = self._context(z, steps, rows).unbind(1)
        masks = self.stack.draw_masks(len(z), steps)
        state = self.stack.initial_state(len(z), device=z.device, dtype=z.dtype)
        element, drawn = self.start.expand(len(z), -1), []
        for step, (given, chance) in enumerate(zip(context, uniforms.unbind(1), strict=True)):
            output, state = self.stack.step(joined(element, given), state, masks=masks.at(step))
            made = draw(head, self._spread(output, z), chance, relaxed=relaxed, temperature=temperature)
            drawn.append(made)
            element = made.detach()
        return torch.stack(drawn, 1)


class SequenceVAE(nn.Module):
    """Encoder, decoder and head: the generator of the hybrid.

    Args:
        encoder: None for a generator that is trained by its critic alone.
        decoder: of latents.
        head: distribution of an element.
    """

    def __init__(self, encoder: SequenceEncoder | None, decoder: SequenceDecoder, head: ElementHead) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def nll(self, rows: Rows, z: Tensor, random: torch.Generator | None = None) -> Tensor:
        """``-log p(x | z)``, ``(B,)`` nats."""
        return self.terms(rows, z, random)["reconstruction"]

    def terms(self, rows: Rows, z: Tensor, random: torch.Generator | None = None) -> dict[str, Tensor]:
        """``reconstruction`` and, of strokes, its two parts ``moves`` and ``pen``: ``(B,)`` nats each."""
        values = rows.values
        valid = valid_steps(values, rows.lengths)
        hidden = self.decoder(z, values.shape[1], rows, random).flatten(0, 1)
        targets, mask = values.flatten(0, 1), None if rows.mask is None else rows.mask.flatten(0, 1)
        chosen = None if valid is None else valid.flatten().nonzero().squeeze(1)
        if chosen is not None:
            hidden, targets = hidden.index_select(0, chosen), targets.index_select(0, chosen)
            mask = None if mask is None else mask.index_select(0, chosen)
        if self.head.kind == "strokes":
            found = dict(zip(("moves", "pen"), self.head.terms(hidden, targets), strict=True))
            found["reconstruction"] = found["moves"] + found["pen"]
        elif mask is not None and isinstance(self.head, FeatureHead):
            found = {"reconstruction": self.head.nll(hidden, targets, mask)}
        else:
            found = {"reconstruction": self.head.nll(hidden, targets)}

        def summed(nats: Tensor) -> Tensor:
            if chosen is not None:
                nats = nats.new_zeros(values.shape[0] * values.shape[1]).index_copy(0, chosen, nats)
            return nats.view(values.shape[:2]).sum(1)

        return {name: summed(nats) for name, nats in found.items()}

    def draw(
        self,
        z: Tensor,
        uniforms: Tensor,
        rows: Rows,
        *,
        relaxed: bool = False,
        means: bool = False,
        temperature: float = 1.0,
    ) -> Tensor:
        """Sequences ``(B, T, F)`` of latents ``(B, D)``, zero past a row's end.

        Args:
            z: latents.
            uniforms: ``(B, T, U)``, what elements are drawn by; their T counts.
            rows: lengths, classes and conditions.
            relaxed: draw with a gradient.
            means: take the means of the head instead of draws; not for an autoregressive decoder.
            temperature: of draws without a gradient.
        """
        if self.decoder.start is not None:
            values = self.decoder.unroll(self.head, z, uniforms, rows, relaxed=relaxed, temperature=temperature)
        else:
            hidden = self.decoder(z, uniforms.shape[1], rows).flatten(0, 1)
            if means:
                values = self.head.mean(hidden)
            else:
                chances = uniforms.flatten(0, 1)
                values = draw(self.head, hidden, chances, relaxed=relaxed, temperature=temperature)
            values = values.unflatten(0, uniforms.shape[:2])
        return without_padding(values, rows.lengths)
