"""New sequences from a trained sequence GAN, in features or in real units."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hybridgen.data import SeriesBatch
from hybridgen.models.calibration import Maps
from hybridgen.models.sequence_gan_options import random_of
from hybridgen.models.sequence_gan_parts import Sample
from hybridgen.models.sequence_gan_training import enough
from hybridgen.objectives.likelihood import without_padding

_ROWS_AT_ONCE = 256
#: Sequences that calibration is computed from: as many as there were in training, within these bounds.
_FEWEST, _MOST = 1000, 10_000


class Sampling:
    """What a sequence GAN can do once it is trained; see :class:`hybridgen.models.SequenceGAN`."""

    @property
    def latent_size(self) -> int:
        """Width of the noise of a whole sequence."""
        return self.hparams.sequence_noise

    def generate(
        self,
        num_samples: int,
        *,
        length: int | None = None,
        labels: Any = None,
        attributes: Any = None,
        conditions: Any = None,
        latents: Tensor | None = None,
        seed: int = 0,
        start: str | None = None,
    ) -> list[Any]:
        """New sequences in real units.

        Args:
            num_samples: how many.
            length: steps of each, also more than training had; by default drawn like those of the training data.
            labels: a class for all of them or a list of one for each, by name; by default drawn like the training data.
            attributes: a mapping of values that all of them shall have, or a list of one for each; drawn by default.
            conditions: what columns are given: a mapping of arrays ``(T,)``, for all of them.
            latents: ``(num_samples, latent_size)``, instead of draws of the noise of whole sequences.
            seed: sample i of a seed is always the same.
            start: the first time of each series, by default that of the training data.

        Returns:
            What the codec makes of them: :class:`hybridgen.codecs.Series`, or waveforms.

        Raises:
            ValueError: if an option does not fit.
        """
        encoded = self._encoded_attributes(attributes, num_samples)
        given = None
        if conditions is not None:
            if not self.layout.num_conditions:
                raise ValueError("conditions are given, but the data of this model had none: leave them out")
            given = self.codec.encode_conditions(conditions)
        numbers = self._label_numbers(labels, num_samples)
        options = {"length": length, "labels": numbers, "attributes": encoded, "conditions": given, "latents": latents}
        sample = self.generate_features(num_samples, **options, seed=seed)
        if self.codec.name != "series":
            return self.codec.decode(sample.values, lengths=sample.lengths)
        return self.codec.decode(**sample._asdict(), start=start)

    @torch.no_grad()
    def generate_features(
        self,
        num_samples: int,
        *,
        length: int | None = None,
        labels: Tensor | None = None,
        attributes: Tensor | None = None,
        conditions: Tensor | None = None,
        latents: Tensor | None = None,
        seed: int = 0,
    ) -> Sample:
        """New sequences as features, on the CPU; see :meth:`generate`.

        Args:
            num_samples: how many.
            length: steps of each.
            labels: ``(num_samples,)`` numbers of classes.
            attributes: ``(num_samples, A)``.
            conditions: ``(T, C)``, for all.
            latents: ``(num_samples, latent_size)``, instead of draws of the noise of whole sequences.
            seed: of the draws.

        Raises:
            ValueError: if an option does not fit.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples is {num_samples}: give at least 1")
        if length is not None and length < 1:
            raise ValueError(f"length is {length}: give at least 1")
        self.layout.check_conditions(conditions, "what they are, conditions=")
        if conditions is not None:
            if length is not None and length > len(conditions):
                raise ValueError(f"length is {length}, but conditions have {len(conditions)} steps: give as many")
            length = len(conditions) if length is None else length
        if latents is not None:
            check_latents(latents, num_samples, self.latent_size)
        was_training = self.training
        self.eval()
        steps = self.max_length if length is None else length
        maps, pieces = self._maps(), []
        for chunk, first in enumerate(range(0, num_samples, _ROWS_AT_ONCE)):
            random = random_of(seed, chunk)
            rows = slice(first, min(first + _ROWS_AT_ONCE, num_samples))
            classes, ends = self._drawn_classes(random, None if labels is None else labels[rows])
            if length is not None:
                ends = torch.full_like(ends, length)
            # Whole chunks are drawn and then cut, so that a sample does not depend on how many there are.
            noise = self.generator.draw(
                *((_ROWS_AT_ONCE, steps) if self.hparams.mode != "latent" else (_ROWS_AT_ONCE,)), random
            )
            number = rows.stop - rows.start
            noise = {name: value[:number].to(self.device) for name, value in noise.items()}
            if latents is not None:
                name = "sequence" if self.hparams.mode != "latent" else "code"
                noise[name] = latents[rows].to(noise[name])
            chance = torch.rand(_ROWS_AT_ONCE, steps, self.layout.num_features, generator=random)[:number]
            given = {
                "labels": None if classes is None else classes[:number].to(self.device),
                "attributes": None if attributes is None else attributes[rows].to(self.device),
                "conditions": None if conditions is None else conditions[:steps].expand(number, -1, -1).to(self.device),
            }
            fixed = self.hparams.mode != "latent" or length is not None
            lengths = ends[:number].to(self.device) if fixed else None
            pieces.append(self._sample(noise, lengths, steps, chance.to(self.device), **given, maps=maps))
        self.train(was_training)
        whole = [None if parts[0] is None else torch.cat(parts).cpu() for parts in zip(*pieces, strict=True)]
        sample = Sample(*whole)
        if bool((sample.lengths == sample.values.shape[1]).all()):
            sample = sample._replace(lengths=None)
        return sample

    def _sample(
        self,
        noise: dict[str, Tensor],
        lengths: Tensor | None,
        steps: int,
        chance: Tensor,
        *,
        labels: Tensor | None,
        attributes: Tensor | None,
        conditions: Tensor | None,
        maps: Maps | None,
    ) -> Sample:
        """Sequences of the averaged generator; in ``latent`` it decides about lengths that are not given."""
        given = {"labels": labels, "conditions": conditions}
        if self.hparams.mode != "latent":
            return self.average.module(noise, lengths=lengths, attributes=attributes, **given)
        size = self.hparams.code_size
        code = self.average.module(noise, labels, attributes)
        if lengths is None:
            lengths = self._decoded_lengths(code[:, size])
        attributes = code[:, size + 1 :] if self.layout.num_attributes else None
        own = code[:, :size] if maps is None else maps.codes(code[:, :size])
        numbers, values = self._decoded(own, steps, lengths, chance, conditions)
        if maps is not None:
            values = maps.values(numbers, values)
        return Sample(without_padding(values, lengths), lengths, labels, attributes, conditions)

    def _decoded(
        self, codes: Tensor, steps: int, lengths: Tensor | None, chance: Tensor, conditions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the decoder says of codes ``(B, D)``, and the features ``(B, T, F)`` made of it."""
        numbers = self.autoencoder.decode(self.autoencoder.from_white(codes), steps, lengths, conditions)
        return numbers, self.autoencoder.output(numbers, chance)

    def _maps(self) -> Maps | None:
        """The maps of the generator as it is, from samples of it: computed once, until a weight changes."""
        if self.hparams.mode != "latent" or not self.hparams.calibrate:
            return None
        if not bool(self.calibration.code_covariance.any()):
            return None
        parts = (self.average.module, self.autoencoder, self.calibration)
        tensors = [t.detach().double() for part in parts for t in (*part.parameters(), *part.buffers())]
        now = self.device, *torch.stack([total for t in tensors for total in (t.sum(), t.square().sum())]).tolist()
        if self._found_maps is None or self._found_maps[0] != now:
            self._found_maps = (now, self._compute_maps())
        return self._found_maps[1]

    def _compute_maps(self) -> Maps:
        random, size = random_of(0, -1), self.hparams.code_size
        trained = int(self.length_counts.sum().clamp(_FEWEST, _MOST))
        number = enough(trained, self.max_length * self.layout.num_features)
        noise = {name: value.to(self.device) for name, value in self.generator.draw(number, random).items()}
        labels = draw_classes(self.length_counts, number, random, None)[0] if self.layout.num_labels else None
        codes = self.average.module(noise, None if labels is None else labels.to(self.device))
        maps = Maps(self.calibration, codes[:, :size])
        if not self.layout.num_conditions:  # without them there are no sequences
            lengths = self._decoded_lengths(codes[:, size])
            pieces = []
            for rows in torch.arange(number).split(_ROWS_AT_ONCE):
                chance = torch.rand(len(rows), self.max_length, self.layout.num_features, generator=random)
                moved = maps.codes(codes[rows, :size])
                pieces.append(self._decoded(moved, self.max_length, lengths[rows], chance.to(self.device), None))
            numbers, values = (torch.cat(part) for part in zip(*pieces, strict=True))
            maps.see(numbers, values, lengths)
        return maps

    def _beside(self, batch: SeriesBatch, random: torch.Generator, maps: Maps | None) -> Sample:
        """Generated sequences of the lengths, classes and conditions of a batch; calibrated where there are maps."""
        rows, steps = batch.values.shape[:2]
        noise = self.generator.draw(*((rows, steps) if self.hparams.mode != "latent" else (rows,)), random)
        chance = torch.rand(rows, steps, self.layout.num_features, generator=random).to(self.device)
        lengths = torch.full((rows,), steps, device=self.device) if batch.lengths is None else batch.lengths
        noise = {name: value.to(self.device) for name, value in noise.items()}
        given = {"labels": batch.labels, "attributes": None, "conditions": batch.conditions}
        return self._sample(noise, lengths, steps, chance, **given, maps=maps)

    def _drawn_classes(self, random: torch.Generator, labels: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """Classes and lengths of a whole chunk; see :func:`draw_classes`."""
        numbers, lengths = draw_classes(self.length_counts, _ROWS_AT_ONCE, random, labels)
        return (numbers if self.layout.num_labels else None), lengths

    def _label_numbers(self, labels: Any, num_samples: int) -> Tensor | None:
        if labels is None:
            return None
        several = isinstance(labels, Sequence) and not isinstance(labels, str)
        names = list(labels) if several else [labels] * num_samples
        if len(names) != num_samples:
            raise ValueError(f"there are {len(names)} labels for {num_samples} samples: give one, or one for each")
        return torch.tensor([self.codec.label_index(name) for name in names])

    def _encoded_attributes(self, attributes: Any, num_samples: int) -> Tensor | None:
        if attributes is None:
            return None
        if not self.layout.num_attributes:
            raise ValueError("attributes are given, but the data of this model had none: leave them out")
        rows = list(attributes) if isinstance(attributes, Sequence) else [attributes] * num_samples
        if len(rows) != num_samples:
            raise ValueError(f"there are {len(rows)} attributes for {num_samples} samples: give one, or one for each")
        return torch.stack([self.codec.encode_attributes(row) for row in rows])

    def _length_scale(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the training lengths."""
        counts = self.length_counts.sum(0)
        steps = torch.arange(len(counts), device=counts.device)
        mean = (counts * steps).sum() / counts.sum()
        return mean, (counts * (steps - mean).square()).sum().div(counts.sum()).sqrt()

    def _coded_lengths(self, lengths: Tensor) -> Tensor:
        """Lengths ``(B,)`` as the part of a code ``(B, 1)`` that says them; 0 where all are the same."""
        mean, deviation = self._length_scale()
        return ((lengths.to(mean) - mean) / deviation.clamp(min=1e-6)).unsqueeze(1)

    def _decoded_lengths(self, coded: Tensor) -> Tensor:
        mean, deviation = self._length_scale()
        return (coded * deviation + mean).round().long().clamp(1, self.max_length)


def check_latents(latents: Tensor, num_samples: int, latent_size: int) -> None:
    """Check that latents are floating point of shape ``(num_samples, latent_size)``.

    Raises:
        ValueError: if they are not.
    """
    if tuple(latents.shape) != (num_samples, latent_size) or not latents.is_floating_point():
        raise ValueError(
            f"latents must be floating point of shape ({num_samples}, {latent_size}) but are {latents.dtype} of "
            f"{list(latents.shape)}"
        )


def draw_classes(
    length_counts: Tensor, number: int, random: torch.Generator, labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Classes and lengths of new sequences, drawn as frequent as in training where they are not given.

    Args:
        length_counts: ``(classes, longest + 1)``, how many training sequences of each class have each length.
        number: how many to draw.
        random: of the draws.
        labels: ``(n,)`` classes of the first ones, n at most ``number``.

    Returns:
        ``(number,)`` classes, all 0 without such, and ``(number,)`` lengths.

    Raises:
        ValueError: if nothing was counted yet.
    """
    counts = length_counts.cpu()
    frequency = counts.sum(1)
    if not frequency.sum() > 0:
        raise ValueError("this model has not been trained: it knows no lengths yet")
    numbers = torch.multinomial(frequency, number, True, generator=random)
    chance = torch.rand(number, 1, generator=random)
    if labels is not None:
        numbers[: len(labels)] = labels
    missing = frequency[numbers] == 0
    rows = torch.where(missing.unsqueeze(1), counts.sum(0), counts[numbers])
    cumulative = rows.cumsum(1) / rows.sum(1, keepdim=True)
    lengths = torch.searchsorted(cumulative, chance, right=True).squeeze(1).clamp(1, counts.shape[1] - 1)
    return numbers, lengths
