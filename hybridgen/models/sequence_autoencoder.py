"""The autoencoder of the latent mode of a sequence GAN: sequences to codes and back."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.models.building import build_stack
from hybridgen.models.linear_path import LinearPath
from hybridgen.models.processes import BatchNorm, from_first, summed, together
from hybridgen.models.sequence_gan_output import (
    FeatureOutput,
    calls_of,
    ends,
    folded,
    joined,
    over_time,
    padded,
    pool,
    shown,
)
from hybridgen.models.sequence_gan_parts import Layout


class SequenceAutoencoder(nn.Module):
    """Sequences to codes ``(B, D)`` of mean 0 and variance 1, and back.

    Codes are normalised over the batch and carry some noise in training, so that what lies between the codes of the
    data decodes to something like the data too. As RTSGAN (Pei et al. 2021, "Towards generating real-world time series
    data"), with the code read by every step of the decoder. What varies most in the data (a level, say) would fill all
    of the code and leave the rest below the noise: so dimensions that correlate cost something.

    Left to themselves, cells need very long to carry the fine detail of a sequence through a code. With a linear path
    they need not: the code starts as the principal components of whole sequences, and the cells learn what these leave
    (as the linear autoencoders that recurrent nets can start from: Pasa & Sperduti 2014, "Pre-training of recurrent
    neural networks via linear autoencoders").

    Args:
        layout: of the data.
        stack: arguments of :class:`hybridgen.cells.Stack` for encoder (always bidirectional) and decoder.
        code_size: D.
        code_noise: standard deviation of the noise on codes.
        code_floor: what codes are divided by at least; see :meth:`encode_all`.
        steps_per_call: steps that one call of the cells reads and emits. Cells remember a few broad steps far better
            than many narrow ones: what is noise from step to step only survives so.
        linear_steps: steps of the longest sequence of the linear path; 0 for none. :meth:`start` computes it.
    """

    decorrelation = 0.1  # weight of the squared correlations between dimensions of the code
    least_seen = 1e-4  # of the largest, how much any axis of the code is taken to decode to

    def __init__(
        self,
        layout: Layout,
        stack: dict[str, Any],
        *,
        code_size: int,
        code_noise: float,
        steps_per_call: int,
        code_floor: float = 0.1,
        linear_steps: int = 0,
    ) -> None:
        super().__init__()
        self.code_noise, self.code_floor, self.steps_per_call = code_noise, code_floor, steps_per_call
        inputs = steps_per_call * (layout.num_features + layout.num_conditions)
        self.encoder = build_stack({**stack, "bidirectional": True}, inputs)
        self.to_code = nn.Linear(3 * self.encoder.output_size, code_size)
        self.normalise = BatchNorm(code_size)
        self.register_buffer("white", torch.eye(code_size))
        self.register_buffer("unwhite", torch.eye(code_size))
        given = layout.num_conditions * steps_per_call
        self.decoder = build_stack({**stack, "bidirectional": False}, code_size + given)
        self.head = nn.Linear(self.decoder.output_size + code_size, steps_per_call * layout.num_features)
        self.linear = LinearPath(layout, code_size, linear_steps) if linear_steps else None
        self.output = FeatureOutput(layout.groups, layout.neutral, squash=not linear_steps)

    @property
    def has_basis(self) -> bool:
        """Whether :meth:`encode_all` has found what codes are turned by."""
        return not bool((self.white == torch.eye(len(self.white)).to(self.white)).all())

    @property
    def needs_start(self) -> bool:
        """Whether there is a linear path that was not computed yet."""
        return self.linear is not None and not bool(self.linear.fitted)

    @torch.no_grad()
    def start(self, values: Tensor, lengths: Tensor | None) -> None:
        """Compute the linear path from training sequences, where there is one; the cells start by adding nothing.

        Args:
            values: ``(N, T, F)``.
            lengths: ``(N,)``, or None where all have T steps.
        """
        if self.linear is None:
            return
        used = self.linear.fit(values, lengths)
        self.to_code.weight[:used] = 0.0
        self.to_code.bias[:used] = 0.0
        self.head.weight.zero_()
        self.head.bias.zero_()

    def encode(self, values: Tensor, lengths: Tensor | None, conditions: Tensor | None) -> Tensor:
        """Codes ``(B, D)`` without noise."""
        return self.normalise(self._unnormalised(values, lengths, conditions))

    def _unnormalised(self, values: Tensor, lengths: Tensor | None, conditions: Tensor | None) -> Tensor:
        inputs, calls = folded(joined(values, conditions), lengths, self.steps_per_call)
        outputs, _ = self.encoder(inputs, lengths=calls)
        code = self.to_code(joined(pool(outputs, calls), ends(outputs, calls)))
        return code if self.linear is None else code + self.linear.encode(values, lengths)

    @torch.no_grad()
    def encode_again(self, batches: Iterable[Any]) -> Tensor:
        """The codes that :meth:`encode_all` gave, by the map it found then.

        A GAN that is trained in this basis needs it for good. It could not be found anew: the signs of principal axes,
        and all axes along which nothing varies, are as the library of linear algebra happens to leave them.
        """
        raw = [self._unnormalised(batch.values, batch.lengths, batch.conditions).float() for batch in batches]
        return self.normalise.eval()(torch.cat(raw)) @ self.white

    @torch.no_grad()
    def encode_all(self, batches: Iterable[Any]) -> Tensor:
        """Codes ``(N, D)`` of all training sequences, given as batches, for the GAN; training of this is over then.

        Mean and variance of codes are from here on those of these sequences, not those of the last batches. Codes are
        turned to the principal axes of what they decode to, as far as that is linear in them, and each is divided by
        ``sqrt(variance + (code_floor * largest deviation) ** 2)``: so a critic sees what varies much in the sequences
        as well as what varies little, down to this part of the largest, and less of what hardly shows in them.
        :meth:`from_white` turns codes back.
        """
        raw: list[Tensor] = []
        size, features = self.white.shape[0], self.head.out_features // self.steps_per_call
        # Of each code, and last of 1, with the sequences: sums, since these may need much memory.
        products = torch.zeros(size + 1, 0, features, dtype=torch.float64, device=self.white.device)  # (D + 1, T, F)
        for batch in batches:
            raw.append(self._unnormalised(batch.values, batch.lengths, batch.conditions).float())
            longest = max(batch.values.shape[1], products.shape[1])
            wanted = padded(batch.values, batch.lengths, longest).double()
            factors = nn.functional.pad(raw[-1].double(), (0, 1), value=1.0)
            products = padded(products, None, longest) + torch.einsum("bd,btf->dtf", factors, wanted)
        raw = torch.cat(raw)
        self.normalise.running_mean.copy_(raw.mean(0))
        self.normalise.running_var.copy_(raw.var(0, correction=0))
        from_first(self.normalise.running_mean, self.normalise.running_var)
        codes = self.normalise.eval()(raw)
        # The linear map from codes to sequences that fits best.
        products, sums = products.flatten(1).split([size, 1])
        mean, deviation = self.normalise.running_mean, (self.normalise.running_var + self.normalise.eps).sqrt()
        products = (products - mean.double().unsqueeze(1) * sums) / deviation.double().unsqueeze(1)
        covariance = codes.T.double() @ codes.double() / len(codes)
        # Not by lstsq: its default on a CPU gives other last digits with every call, and of these are the axes along
        # which codes hardly vary.
        mapped = torch.linalg.solve(covariance + 1e-6 * torch.eye(size).to(covariance), products / len(codes))
        seen, turned = torch.linalg.eigh(mapped @ mapped.T)
        root = turned * seen.clamp(min=self.least_seen * float(seen[-1]) + 1e-12).sqrt()  # a square root of the metric
        variances, axes = torch.linalg.eigh(root.T @ covariance @ root)
        deviations = (variances.clamp(min=0) + self.code_floor**2 * variances[-1] + 1e-12).sqrt()
        white = root @ axes / deviations
        self.white.copy_(white)
        self.unwhite.copy_(torch.linalg.inv(white))
        from_first(self.white, self.unwhite)
        return codes @ self.white

    def from_white(self, white: Tensor) -> Tensor:
        """Codes for :meth:`decode` of what :meth:`encode_all` made for the GAN."""
        return white @ self.unwhite

    def decode(self, code: Tensor, steps: int, lengths: Tensor | None, conditions: Tensor | None) -> Tensor:
        """Numbers ``(B, T, F)`` for the output, of codes; any number of steps."""
        k = self.steps_per_call
        calls = -(-steps // k)
        given = None if conditions is None else folded(conditions, lengths, k)[0]
        repeated = over_time(code, calls)
        outputs, _ = self.decoder(joined(repeated, given), lengths=calls_of(lengths, k))
        numbers = self.head(joined(outputs, repeated)).reshape(len(code), calls * k, -1)[:, :steps]
        return numbers if self.linear is None else self.linear.add(numbers, code)

    def loss(self, values: Tensor, mask: Tensor | None, lengths: Tensor | None, conditions: Tensor | None,
             generator: torch.Generator | None) -> Tensor:  # fmt: skip
        """Reconstruction loss of a batch, a scalar; with noise on the codes where there is a generator."""
        clean = code = self.encode(values, lengths, conditions)
        if generator is not None and self.code_noise:
            noise = torch.randn(code.shape, generator=generator).to(code)
            code = code + self.code_noise * noise
        spread = 0.0 if generator is None else self.decorrelation * _correlation(clean)
        decoded = self.decode(code, values.shape[1], lengths, conditions)
        return self.output.loss(decoded, values, shown(values, mask, lengths)) + spread


def _correlation(code: Tensor) -> Tensor:
    """Sum of the squared correlations between the dimensions of normalised codes ``(B, D)``, for each dimension."""
    squares = (summed(code.T @ code) / together(len(code), code.device)).square()
    return (squares.sum() - squares.diagonal().sum()) / code.shape[1]
