"""The two halves of a text VAE: a sentence becomes a posterior, a latent becomes a sentence."""

from typing import Any

import torch
from torch import Tensor, nn

from hybridgen.cells.noise import bernoulli
from hybridgen.models.building import build_stack
from hybridgen.objectives.variational import (
    BatchNormMean,
    DeltaPosterior,
    DiagonalGaussian,
    MixturePrior,
    StandardNormalPrior,
    UniformSpherePrior,
    VampPrior,
    VonMisesFisher,
)

POOLINGS = ("last", "mean", "max")
LATENT_TO = ("state", "input", "both")
POSTERIORS = ("gaussian", "vmf")
PRIORS = ("standard", "mixture", "vamp")

Posterior = DiagonalGaussian | VonMisesFisher


class SentenceEncoder(nn.Module):
    """Embedded sentences to posteriors.

        h = stack(embeddings),  s = pool(h[0..length-1]),  q(z | x) from linear maps of s

    Args:
        stack: arguments of :class:`hybridgen.cells.Stack` without ``input_size``.
        embedding_size: E.
        latent_size: D.
        pooling: ``last`` (the output at the sentence's end; of the backward direction at its beginning), ``mean`` or
            ``max`` over the sentence's own steps.
        posterior: ``gaussian`` or ``vmf``.
        kappa: concentration of ``vmf``.
        batch_norm_gamma: BN-VAE's fixed scale of the mean, or None.
        delta: delta-VAE's committed nats per dimension, or None.
    """

    def __init__(
        self,
        stack: dict[str, Any],
        embedding_size: int,
        latent_size: int,
        *,
        pooling: str,
        posterior: str,
        kappa: float,
        batch_norm_gamma: float | None,
        delta: float | None,
    ) -> None:
        super().__init__()
        self.stack = build_stack(stack, embedding_size)
        self.pooling, self.posterior, self.kappa = pooling, posterior, kappa
        self.to_mean = nn.Linear(self.stack.output_size, latent_size)
        self.to_log_variance = nn.Linear(self.stack.output_size, latent_size) if posterior == "gaussian" else None
        self.batch_norm = None if batch_norm_gamma is None else BatchNormMean(latent_size, batch_norm_gamma)
        self.delta = None if delta is None else DeltaPosterior(delta)

    def forward(self, embedded: Tensor, lengths: Tensor | None = None) -> Posterior:
        """Encode sentences.

        Args:
            embedded: ``(B, T, E)``.
            lengths: ``(B,)``, at least 1 each; None where all have T.

        Returns:
            The posterior of each, ``(B, D)``.
        """
        pooled = self._pool(self.stack(embedded, lengths=lengths)[0], lengths)
        # Under autocast a KL of numbers with eight bits would be none.
        mean = self.to_mean(pooled).to(self.to_mean.weight.dtype)
        if self.to_log_variance is None:
            return VonMisesFisher.from_direction(mean, self.kappa)
        log_variance = self.to_log_variance(pooled).to(mean.dtype)
        if self.delta is not None:
            return self.delta(mean, log_variance)
        return DiagonalGaussian(mean if self.batch_norm is None else self.batch_norm(mean), log_variance)

    def _pool(self, outputs: Tensor, lengths: Tensor | None) -> Tensor:
        """``(B, T, H)`` to ``(B, H)``. Outputs past a sentence's end are zero."""
        rows, steps, width = outputs.shape
        if self.pooling == "last":
            if lengths is None:
                last = outputs[:, -1]
            else:
                last = outputs.flatten(0, 1)[torch.arange(rows, device=outputs.device) * steps + lengths - 1]
            if not self.stack.bidirectional:
                return last
            return torch.cat([last[:, : width // 2], outputs[:, 0, width // 2 :]], -1)
        if self.pooling == "mean":
            return outputs.mean(1) if lengths is None else outputs.sum(1) / lengths.unsqueeze(1)
        if lengths is not None:
            beyond = torch.arange(steps, device=outputs.device) >= lengths.unsqueeze(1)
            outputs = outputs.masked_fill(beyond.unsqueeze(-1), -torch.inf)
        return outputs.amax(1)


class SentenceDecoder(nn.Module):
    """Latents and the words so far to hidden states.

        state[0] = tanh(W z) for outputs, W z for memories         latent_to: state, both
        h[t]     = stack([embedding(x[t-1]), z], state[t-1])       latent_to: input, both

    Args:
        stack: arguments of :class:`hybridgen.cells.Stack` without ``input_size``.
        embedding_size: E.
        latent_size: D.
        latent_to: ``state``, ``input`` or ``both``.

    Raises:
        ValueError: if the cell has no state that a latent could set.
    """

    def __init__(self, stack: dict[str, Any], embedding_size: int, latent_size: int, *, latent_to: str) -> None:
        super().__init__()
        self.at_input = latent_to in ("input", "both")
        self.stack = build_stack(stack, embedding_size + (latent_size if self.at_input else 0))
        if self.stack.bidirectional:
            raise ValueError("the decoder cannot be bidirectional: it would read the words that it is to predict")
        # Components that are normalisers, stabilisers or windows of inputs are no place for arbitrary numbers.
        names = self.stack.state_widths()
        self._outputs = {f"layer{k}_{cell.hidden_component}" for k, cell in enumerate(self.stack.cells)}
        memories = {f"layer{k}_{cell.memory_component}" for k, cell in enumerate(self.stack.cells)}
        self._set = [name for name in names if name in self._outputs | memories] if latent_to != "input" else []
        if latent_to != "input" and not self._set:
            raise ValueError(
                f"latent_to is {latent_to!r}, but the cell {self.stack.cell_name!r} has no state that a latent could "
                "set: use latent_to 'input'"
            )
        self.widths = [names[name] for name in self._set]
        self.to_state = nn.Linear(latent_size, sum(self.widths)) if self._set else None

    def initial_state(self, z: Tensor) -> Any:
        """The state before the first word, from ``z (B, D)``."""
        state = self.stack.initial_state(len(z))
        if self.to_state is None:
            return state
        parts = zip(self._set, self.to_state(z).to(state[0].dtype).split(self.widths, -1), strict=True)
        return state._replace(**{n: (part.tanh() if n in self._outputs else part).contiguous() for n, part in parts})

    def forward(self, embedded: Tensor, z: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Hidden states ``(B, T, H)`` of sentences read as ``embedded (B, T, E)`` with their ``z (B, D)``."""
        state = self.initial_state(z)
        if self.at_input:
            embedded = torch.cat([embedded, z.unsqueeze(1).expand(-1, embedded.shape[1], -1)], -1)
        return self.stack(embedded, state, lengths=lengths)[0]

    def step(self, embedded: Tensor, z: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One word ``(B, E)``: hidden state ``(B, H)`` and the new state."""
        return self.stack.step(torch.cat([embedded, z], -1) if self.at_input else embedded, state)


def make_prior(
    name: str, options: dict[str, Any], *, posterior: str, latent_size: int, encoder: SentenceEncoder, embedding: Tensor
) -> nn.Module:
    """The prior by name.

    Args:
        name: one of ``PRIORS``.
        options: ``num_components`` for a mixture or VampPrior, ``length`` of the VampPrior's pseudo-sentences.
        posterior: with ``vmf``, the standard prior is the uniform distribution on the sphere.
        latent_size: D.
        encoder: what the VampPrior's pseudo-inputs go through.
        embedding: ``(V, E)``, whose spread the pseudo-inputs start with.

    Raises:
        ValueError: if an option does not fit.
    """
    known = {"standard": (), "mixture": ("num_components",), "vamp": ("num_components", "length")}[name]
    for option in options:
        if option not in known:
            raise ValueError(f"prior {name!r} has no option {option!r}: it has {', '.join(known) or 'none'}")
    if name == "standard":
        return UniformSpherePrior(latent_size) if posterior == "vmf" else StandardNormalPrior(latent_size)
    number = options.get("num_components", 20)
    if name == "mixture":
        return MixturePrior(latent_size, number)
    length = options.get("length", 20)
    if length < 1:
        raise ValueError(f"length of the prior's pseudo-sentences is {length}: give at least 1")
    return VampPrior(encoder, (length, embedding.shape[1]), number, spread=float(embedding.detach().std()))


def drop_words(inputs: Tensor, rate: float) -> Tensor:
    """Which inputs ``(B, T)`` word dropout takes away, bool; never the first, which is no word (Bowman et al. 2016)."""
    dropped = bernoulli(tuple(inputs.shape), rate, torch.empty((), device=inputs.device)).bool()
    dropped[:, 0] = False
    return dropped
