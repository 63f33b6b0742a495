"""New sequences from a trained SequenceVAEGAN, and its latent space: posteriors, reconstruction, interpolation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hybridgen.codecs import SeriesCodec
from hybridgen.codecs.audio import AudioCodec
from hybridgen.codecs.labels import find_label
from hybridgen.generation.latent_paths import path_between
from hybridgen.models.feature_head import FeatureHead
from hybridgen.models.sequence_gan_options import random_of
from hybridgen.models.sequence_gan_parts import Sample
from hybridgen.models.sequence_gan_sampling import check_latents, draw_classes
from hybridgen.models.sequence_vaegan_network import Rows
from hybridgen.objectives.variational import DiagonalGaussian

_ROWS_AT_ONCE = 256


class Generation:
    """What a hybrid can do once it is trained; see :class:`hybridgen.models.SequenceVAEGAN`."""

    @property
    def latent_size(self) -> int:
        """Dimensions of the latent of a sequence."""
        return self.hparams.latent_size

    def generate(
        self,
        num_samples: int = 1,
        *,
        length: int | None = None,
        labels: Any = None,
        conditions: Any = None,
        latents: Tensor | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        start: str | None = None,
    ) -> list[Any]:
        """New sequences, for the codec to write.

        Args:
            num_samples: how many.
            length: steps of each, also more than training had; by default drawn like those of the training data.
                Sketches end where they say so.
            labels: a class for all of them or a list of one for each, by name; by default drawn like the training data.
            conditions: what columns are given: a mapping of arrays ``(T,)``, for all of them.
            latents: ``(num_samples, latent_size)``, instead of draws from the prior.
            seed: sample i of a seed (and length) is always the same.
            temperature: of the head's draws, at least 0; see :meth:`hybridgen.heads.ElementHead.sample`.
            start: the first time of each series, by default that of the training data.

        Returns:
            :class:`hybridgen.codecs.Series`, waveforms ``(N,)``, or elements ``(T, F)``.

        Raises:
            ValueError: if an option does not fit.
        """
        given = None
        if conditions is not None:
            if not self.layout.num_conditions:
                raise ValueError("conditions are given, but the data of this model had none: leave them out")
            given = self.codec.encode_conditions(conditions)
        numbers = self._label_numbers(labels, num_samples)
        options = {"length": length, "labels": numbers, "conditions": given, "latents": latents}
        sample = self.generate_features(num_samples, **options, seed=seed, temperature=temperature)
        return self.decoded(sample, start=start)

    def decoded(self, sample: Sample, *, start: str | None = None) -> list[Any]:
        """Features as what :meth:`generate` returns."""
        if isinstance(self.codec, SeriesCodec):
            return self.codec.decode(**sample._asdict(), start=start)
        if isinstance(self.codec, AudioCodec):
            return self.codec.decode(sample.values, lengths=sample.lengths)
        ends = [sample.values.shape[1]] * len(sample.values) if sample.lengths is None else sample.lengths.tolist()
        return [row[:end].float() for row, end in zip(sample.values, ends, strict=True)]

    @torch.no_grad()
    def generate_features(
        self,
        num_samples: int,
        *,
        length: int | None = None,
        labels: Tensor | None = None,
        conditions: Tensor | None = None,
        latents: Tensor | None = None,
        seed: int = 0,
        temperature: float = 1.0,
    ) -> Sample:
        """New sequences as features, on the CPU; see :meth:`generate`.

        Args:
            num_samples: how many.
            length: steps of each.
            labels: ``(num_samples,)`` numbers of classes.
            conditions: ``(T, C)``, for all.
            latents: ``(num_samples, latent_size)``, instead of draws from the prior.
            seed: of the draws.
            temperature: of the head's draws.

        Raises:
            ValueError: if an option does not fit.
        """
        if self.codec is None:
            raise ValueError("this model has not been trained: fit it, or load a checkpoint")
        for name, value in (("num_samples", num_samples), ("length", 1 if length is None else length)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}: give a whole number of at least 1")
        self.layout.check_conditions(conditions, "what they are, conditions=")
        if conditions is not None:
            if length is not None and length > len(conditions):
                raise ValueError(f"length is {length}, but conditions have {len(conditions)} steps: give as many")
            length = len(conditions) if length is None else length
        if latents is not None:
            check_latents(latents, num_samples, self.latent_size)
        steps = self.max_length if length is None else length
        pieces = []
        for chunk, first in enumerate(range(0, num_samples, _ROWS_AT_ONCE)):
            random = random_of(seed, chunk)
            taken = slice(first, min(first + _ROWS_AT_ONCE, num_samples))
            number = taken.stop - taken.start
            # Whole chunks are drawn and then cut, so that a sample does not depend on how many there are.
            classes, ends = draw_classes(
                self.length_counts, _ROWS_AT_ONCE, random, None if labels is None else labels[taken]
            )
            if length is not None or self.average.module.head.kind == "strokes":
                ends = torch.full_like(ends, steps)  # strokes say themselves where they end
            z = torch.randn(_ROWS_AT_ONCE, self.latent_size, generator=random)[:number].to(self.device)
            z = z if latents is None else latents[taken].to(z)
            given = None if conditions is None else conditions[:steps].expand(number, -1, -1).to(self.device)
            rows = Rows(
                z.new_zeros(number, steps, 0),
                ends[:number].to(self.device),
                classes[:number].to(self.device) if self.layout.num_labels else None,
                given,
            )
            values = self.decode_rows(z, rows, temperature=temperature, random=random)
            pieces.append(self._ended(values, rows))
        whole = [None if parts[0] is None else torch.cat(parts).cpu() for parts in zip(*pieces, strict=True)]
        sample = Sample(*whole)
        if sample.lengths is not None and bool((sample.lengths == sample.values.shape[1]).all()):
            sample = sample._replace(lengths=None)
        return sample

    @torch.no_grad()
    def decode_rows(
        self, z: Tensor, rows: Rows, *, temperature: float = 1.0, random: torch.Generator | None = None
    ) -> Tensor:
        """Features ``(B, T, F)`` of latents, of the lengths, classes and conditions of rows; by the averaged generator.

        Args:
            z: ``(B, D)``.
            rows: their values' T counts.
            temperature: of the head's draws; 0 is the mode, which needs no random numbers.
            random: of the draws, on the CPU.
        """
        random = random or torch.Generator().manual_seed(0)
        was_training = self.training
        self.eval()
        network = self.average.module
        shape = (max(len(z), 1 if temperature == 0 else _ROWS_AT_ONCE), rows.values.shape[1], network.head.num_uniforms)
        uniforms = torch.rand(shape, generator=random)[: len(z)].to(self.device)
        try:
            return self._bounded(network.draw(z.to(self.device), uniforms, rows, temperature=temperature))
        finally:
            self.train(was_training)

    def _bounded(self, values: Tensor) -> Tensor:
        head = self.average.module.head
        return head.within_range(values) if isinstance(head, FeatureHead) else values

    def _ended(self, values: Tensor, rows: Rows) -> Sample:
        """Strokes end where their pen says so, at the latest where the decoder stopped."""
        lengths = rows.lengths
        if self.average.module.head.kind == "strokes":
            ended = values[..., 4] > 0.5
            steps = torch.arange(1, values.shape[1] + 1, device=values.device)
            lengths = torch.where(ended, steps, values.shape[1]).amin(1)
            values = values.masked_fill((steps > lengths[:, None]).unsqueeze(-1), 0.0)
        return Sample(values, lengths, rows.labels, None, rows.conditions)

    # The latent space ------------------------------------------------------------------------------------------

    def posterior_of(
        self, sequences: Sequence[Tensor], *, labels: Any = None, conditions: Any = None
    ) -> DiagonalGaussian:
        """The posteriors of sequences, ``(N, D)``; without ``variational`` their log variances are -inf.

        Args:
            sequences: features ``(T, F)`` each, of any lengths of at least 1.
            labels: the class of each by name, or one for all; needed where the model knows classes.
            conditions: features ``(T, C)`` of each, where the model has conditions.

        Raises:
            ValueError: if a shape or a class does not fit, or the model has no encoder.
        """
        return self._posterior(self._rows(sequences, labels, conditions))

    @torch.no_grad()
    def _posterior(self, rows: Rows) -> DiagonalGaussian:
        encoder = self.average.module.encoder
        if encoder is None:
            raise ValueError(
                "this model was trained with reconstruction 'none': it has no encoder and knows no latents"
            )
        was_training = self.training
        self.eval()
        try:
            return encoder(rows)
        finally:
            self.train(was_training)

    def reconstruct(
        self,
        sequences: Sequence[Tensor],
        *,
        labels: Any = None,
        conditions: Any = None,
        use_mean: bool = True,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Sample:
        """Sequences through the latent and back, as features on the CPU.

        Args:
            sequences: features ``(T, F)`` each.
            labels: as for :meth:`posterior_of`.
            conditions: likewise.
            use_mean: take the posterior's mean instead of a draw from it.
            temperature: of the head's draws; 0 is the mode.
            seed: of what is drawn.
        """
        rows = self._rows(sequences, labels, conditions)
        random = random_of(seed, 0)
        posterior = self._posterior(rows)
        z = posterior.mean if use_mean or self.kl_control is None else posterior.sample(generator=random)
        return self._finished(z, rows, temperature, random)

    def interpolate(
        self,
        start: Tensor,
        end: Tensor,
        steps: int,
        *,
        labels: Any = None,
        path: str = "slerp",
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Sample:
        """Sequences on the way from one to another; the ends are their own reconstructions. Lengths change evenly.

        Args:
            start: features ``(T, F)``.
            end: likewise, of any length.
            steps: sequences, both ends included.
            labels: the class of all of them, or those of start and end; what lies between takes the nearer one's.
            path: ``slerp`` or ``lerp``; see :mod:`hybridgen.generation.latent_paths`.
            temperature: of the head's draws.
            seed: of what is drawn; the same for all of them.

        Raises:
            ValueError: if something does not fit, or the model has conditions, between which nothing lies.
        """
        if self.layout.num_conditions:
            raise ValueError("this model has conditions at every step: there is nothing between those of two sequences")
        names = [labels, labels] if labels is None or isinstance(labels, str) else list(labels)
        given = None if names[0] is None else names
        rows = self._rows([start, end], given, None)
        means = self._posterior(rows).mean.cpu()
        z = path_between(means[0], means[1], steps, path).to(self.device)
        share = torch.linspace(0, 1, steps)
        lengths = torch.lerp(torch.tensor(float(len(start))), torch.tensor(float(len(end))), share).round().long()
        between = Rows(
            z.new_zeros(steps, int(lengths.max()), 0),
            lengths.to(self.device),
            None if rows.labels is None else rows.labels[(share > 0.5).long().to(self.device)],
        )
        return self._finished(z, between, temperature, random_of(seed, 0), alike=True)

    def _finished(
        self, z: Tensor, rows: Rows, temperature: float, random: torch.Generator, *, alike: bool = False
    ) -> Sample:
        if self.average.module.head.kind == "strokes":
            rows = rows._replace(values=z.new_zeros(len(z), self.max_length, 0), lengths=None)
        if alike and temperature > 0:  # the same draws for every row: what differs comes from the latent
            state = random.get_state()
            parts = []
            for number in range(len(z)):
                random.set_state(state)
                one = rows.take(slice(number, number + 1))
                parts.append(self.decode_rows(z[number : number + 1], one, temperature=temperature, random=random))
            values = torch.cat(parts)
        else:
            values = self.decode_rows(z, rows, temperature=temperature, random=random)
        sample = self._ended(values, rows)
        return Sample(*(None if part is None else part.cpu() for part in sample))

    def _rows(self, sequences: Sequence[Tensor], labels: Any, conditions: Any) -> Rows:
        width = self.layout.num_features
        if not sequences or any(s.dim() != 2 or s.shape[1] != width or not len(s) for s in sequences):
            raise ValueError(f"sequences must have the shape (T, {width}) with T at least 1: give at least one such")
        self.layout.check_conditions(conditions, "those of each sequence")
        numbers = self._label_numbers(labels, len(sequences))
        if self.layout.num_labels and numbers is None:
            raise ValueError("this model is conditional: give the label of each sequence")

        def padded(parts: Sequence[Tensor]) -> Tensor:
            return torch.nn.utils.rnn.pad_sequence([p.float().to(self.device) for p in parts], batch_first=True)

        lengths = torch.tensor([len(s) for s in sequences], device=self.device)
        return Rows(
            padded(sequences),
            None if bool((lengths == lengths[0]).all()) else lengths,
            None if numbers is None else numbers.to(self.device),
            None if conditions is None else padded(conditions),
        )

    def _label_numbers(self, labels: Any, number: int) -> Tensor | None:
        if labels is None:
            return None
        if isinstance(labels, Tensor):
            return labels
        several = isinstance(labels, Sequence) and not isinstance(labels, str)
        names = list(labels) if several else [labels] * number
        if len(names) != number:
            raise ValueError(f"there are {len(names)} labels for {number} sequences: give one, or one for each")
        return torch.tensor([find_label(self.codec.labels, name) for name in names])
