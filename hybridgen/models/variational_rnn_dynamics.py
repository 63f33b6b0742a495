"""Three ways for latents to follow each other in time.

``vrnn`` (Chung et al. 2015, arXiv:1506.02216): the latent enters the recurrence::

    p(z_t | h_{t-1}),  q(z_t | h_{t-1}, x_t),  p(x_t | z_t, h_{t-1}),  h_t = f(h_{t-1}, x_t, z_t)

``srnn`` (Fraccaro et al. 2016, arXiv:1605.07571): a deterministic recurrence below, a Markov chain of latents above::

    d_t = f(d_{t-1}, x_{t-1}),  p(z_t | z_{t-1}, d_t),  p(x_t | z_t, d_t),  q(z_t | z_{t-1}, a_t),
    a_t = g(a_{t+1}, [d_t, x_t])

``dmm`` (Krishnan et al. 2017, arXiv:1609.09869): latents alone carry the sequence, through a gated transition::

    p(z_t | z_{t-1}),  p(x_t | z_t),  q(z_t | z_{t-1}, b_t),  b_t = g(b_{t+1}, x_t)

What depends on the data alone is computed for all steps at once and enters each step's one product as its bias.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.cells.noise import dropout_mask
from hybridgen.models.building import build_stack
from hybridgen.models.variational_rnn_parts import (
    Perceptron,
    Step,
    TwoGaussians,
    add_labels,
    draw_latent,
    label_table,
    log_variance,
)


class RecurrentLatents(nn.Module):
    """``vrnn``: the latent enters the recurrence.

    Args:
        element_size: width F of an element.
        latent_size: width D of a latent.
        width: M of the hidden layers of prior, posterior, decoder and encoders.
        num_layers: ReLU layers of the element encoder.
        stack: the recurrence, arguments of :class:`hybridgen.cells.Stack` without ``input_size``.
        smoothing: the posterior also reads the future, through a stack of the same kind that runs backwards.
        residual: see :class:`TwoGaussians`.
        dropout: of the encoded elements and of the decoder's features, one mask for all steps.
        num_labels: number of classes, 0 for none.
    """

    def __init__(
        self,
        element_size: int,
        latent_size: int,
        width: int,
        num_layers: int,
        stack: dict[str, Any],
        *,
        smoothing: bool,
        residual: bool,
        dropout: float,
        num_labels: int,
    ) -> None:
        super().__init__()
        self.latent_size, self.feature_size, self.width, self.dropout = latent_size, width, width, dropout
        self.encoder = Perceptron(element_size, width, num_layers)
        self.stack = build_stack(stack, 2 * width)
        self.backward_stack = build_stack(stack, width) if smoothing else None
        self.evidence = nn.Linear(self.backward_stack.output_size if smoothing else width, width, bias=False)
        self.hidden = nn.Linear(self.stack.output_size, 3 * width)  # of prior, posterior and decoder
        self.gaussians = TwoGaussians(width, latent_size, residual=residual)
        self.latent_encoder = nn.Linear(latent_size, width)
        self.decoder = nn.Linear(width, width, bias=False)
        self.labels = label_table(num_labels, 3 * width)
        self._masks: Any = None
        self._kept: Tensor | None = None

    def contexts(self, elements: Tensor, lengths: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
        """The biases of the three hidden layers ``(B, T, 3M)`` and the encoded elements ``(B, T, M)``."""
        encoded = self.encoder(elements)  # (B, T, M)
        if self.training and self.dropout:
            encoded = encoded * dropout_mask((len(encoded), 1, self.width), self.dropout, encoded)
        seen = encoded if self.backward_stack is None else _backwards(self.backward_stack, encoded, lengths)
        return self._biases(self.evidence(seen), labels), encoded

    def start(self, rows: int, time: int) -> tuple[Tensor, ...]:
        """The carry ``(rows, width)`` before the first step; draws what is random for all steps."""
        self._masks = self.stack.draw_masks(rows, time) if self.training and _is_noisy(self.stack) else None
        self._kept = None
        if self.training and self.dropout:
            self._kept = dropout_mask((rows, self.width), self.dropout, self.hidden.weight)
        state = self.stack.initial_state(rows)
        return (state[0].new_zeros(rows, self.stack.output_size), *state)

    def step(
        self, carry: tuple[Tensor, ...], context: tuple[Tensor, ...], noise: Tensor, time: int
    ) -> tuple[Step, tuple[Tensor, ...]]:
        """One step of N paths; see :class:`~hybridgen.models.variational_rnn_parts.Dynamics`."""
        bias, encoded = context
        output, *state = carry
        hidden = torch.addmm(bias, output, self.hidden.weight.t())
        nets, decoder = hidden.split([2 * self.width, self.width], -1)
        *parameters, mean, log_var = self.gaussians(torch.relu(nets))
        latent = draw_latent(mean, log_var, noise)
        code = torch.relu(F.linear(latent, self.latent_encoder.weight, self.latent_encoder.bias))
        features = torch.relu(torch.addmm(decoder, code, self.decoder.weight.t()))
        if self._kept is not None:
            features = features * self._kept
        carry = self._advance(torch.cat([encoded, code], -1), state, time)
        return Step(*parameters, mean, log_var, latent, features), carry

    def begin(self, rows: int, labels: Tensor | None) -> Any:
        """The state of generation before its first element, ``(rows, width)`` each; ``labels (rows,)``."""
        return self._biases(self.hidden.weight.new_zeros(rows, self.width), labels), self.start(rows, 0), None

    def draw(self, state: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """Draw a latent from the prior by ``noise (N, D)``.

        Returns:
            The head's features ``(N, width)``, and the state in which the element is observed.
        """
        bias, carry, _ = state
        hidden = torch.addmm(bias, carry[0], self.hidden.weight.t())
        nets, decoder = hidden.split([2 * self.width, self.width], -1)
        mean, log_var, _, _ = self.gaussians(torch.relu(nets))
        code = torch.relu(self.latent_encoder(draw_latent(mean, log_var, noise)))
        return torch.relu(decoder + self.decoder(code)), (bias, carry, code)

    def observe(self, state: Any, element: Tensor) -> Any:
        """The state after an element ``(N, F)``."""
        bias, carry, code = state
        return bias, self._advance(torch.cat([self.encoder(element), code], -1), carry[1:], 0), None

    def _biases(self, evidence: Tensor, labels: Tensor | None) -> Tensor:
        """The posterior's evidence beside nothing for prior and decoder, ``(..., 3M)``, with bias and class."""
        return add_labels(F.pad(evidence, (self.width, self.width)) + self.hidden.bias, self.labels, labels)

    def _advance(self, inputs: Tensor, state: Any, time: int) -> tuple[Tensor, ...]:
        if self._masks is None and self.stack.num_layers == 1 and _is_plain(self.stack):
            # One bare cell, as nearly always here: what a stack does around it would cost as much again.
            cell = self.stack.cells[0]
            output, new = cell.step(inputs, cell.State(*state))
        else:
            masks = None if self._masks is None else self._masks.at(time)
            output, new = self.stack.step(inputs, self.stack.State(*state), masks=masks)
        return (output, *new)


class LatentChain(nn.Module):
    """``srnn``: a Markov chain of latents above a deterministic recurrence; arguments as :class:`RecurrentLatents`."""

    def __init__(
        self,
        element_size: int,
        latent_size: int,
        width: int,
        num_layers: int,
        stack: dict[str, Any],
        *,
        smoothing: bool,
        residual: bool,
        dropout: float,
        num_labels: int,
    ) -> None:
        super().__init__()
        self.latent_size, self.feature_size, self.width, self.dropout = latent_size, width, width, dropout
        self.encoder = Perceptron(element_size, width, num_layers)
        self.stack = build_stack(stack, width)
        deterministic = self.stack.output_size
        self.backward_stack = build_stack(stack, deterministic + width) if smoothing else None
        seen = self.backward_stack.output_size if smoothing else deterministic + width
        self.evidence = nn.Linear(seen, width, bias=False)
        self.hidden = nn.Linear(deterministic, 3 * width)
        self.gaussians = TwoGaussians(width, latent_size, residual=residual)
        self.from_latent = nn.Linear(latent_size, 2 * width, bias=False)
        self.decoder = nn.Linear(latent_size, width, bias=False)
        self.labels = label_table(num_labels, 3 * width)
        self._kept: Tensor | None = None

    def contexts(self, elements: Tensor, lengths: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
        """The biases of the three hidden layers, ``(B, T, 3M)``."""
        encoded = self.encoder(elements)  # (B, T, M)
        if self.training and self.dropout:
            encoded = encoded * dropout_mask((len(encoded), 1, self.width), self.dropout, encoded)
        below, _ = self.stack(F.pad(encoded, (0, 0, 1, 0))[:, :-1], lengths=lengths)  # reads x_{t-1}
        seen = torch.cat([below, encoded], -1)
        if self.backward_stack is not None:
            seen = _backwards(self.backward_stack, seen, lengths)
        evidence = F.pad(self.evidence(seen), (self.width, self.width))
        return (add_labels(self.hidden(below) + evidence, self.labels, labels),)

    def start(self, rows: int, time: int) -> tuple[Tensor, ...]:
        """The carry ``(rows, width)`` before the first step: a latent of zeros."""
        self._kept = None
        if self.training and self.dropout:
            self._kept = dropout_mask((rows, self.width), self.dropout, self.hidden.weight)
        return (self.hidden.weight.new_zeros(rows, self.latent_size),)

    def step(
        self, carry: tuple[Tensor, ...], context: tuple[Tensor, ...], noise: Tensor, time: int
    ) -> tuple[Step, tuple[Tensor, ...]]:
        """One step of N paths; see :class:`~hybridgen.models.variational_rnn_parts.Dynamics`."""
        nets, decoder = context[0].split([2 * self.width, self.width], -1)
        hidden = torch.relu(torch.addmm(nets, carry[0], self.from_latent.weight.t()))
        *parameters, mean, log_var = self.gaussians(hidden)
        latent = draw_latent(mean, log_var, noise)
        features = torch.relu(torch.addmm(decoder, latent, self.decoder.weight.t()))
        if self._kept is not None:
            features = features * self._kept
        return Step(*parameters, mean, log_var, latent, features), (latent,)

    def begin(self, rows: int, labels: Tensor | None) -> Any:
        """The state of generation before its first element, ``(rows, width)`` each; ``labels (rows,)``."""
        (latent,) = self.start(rows, 0)
        return latent, self.stack.initial_state(rows), self.hidden.weight.new_zeros(rows, self.width), labels

    def draw(self, state: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """Draw a latent from the prior by ``noise (N, D)``.

        Returns:
            The head's features ``(N, width)``, and the state in which the element is observed.
        """
        latent, recurrent, encoded, labels = state
        below, recurrent = self.stack.step(encoded, recurrent)
        bias = add_labels(self.hidden(below), self.labels, labels)
        nets, decoder = bias.split([2 * self.width, self.width], -1)
        mean, log_var, _, _ = self.gaussians(torch.relu(nets + self.from_latent(latent)))
        latent = draw_latent(mean, log_var, noise)
        return torch.relu(decoder + self.decoder(latent)), (latent, recurrent, None, labels)

    def observe(self, state: Any, element: Tensor) -> Any:
        """The state after an element ``(N, F)``."""
        latent, recurrent, _, labels = state
        return latent, recurrent, self.encoder(element), labels


class DeepMarkov(nn.Module):
    """``dmm``: latents alone carry the sequence; arguments as :class:`RecurrentLatents`.

    As published, the posterior smooths: filtering, it has to guess from one element what the chain must carry.
    """

    def __init__(
        self,
        element_size: int,
        latent_size: int,
        width: int,
        num_layers: int,
        stack: dict[str, Any],
        *,
        smoothing: bool,
        residual: bool,
        dropout: float,
        num_labels: int,
    ) -> None:
        super().__init__()
        self.latent_size, self.feature_size, self.width, self.dropout = latent_size, width, width, dropout
        self.residual = residual
        self.encoder = Perceptron(element_size, width, num_layers)
        self.backward_stack = build_stack(stack, width) if smoothing else None
        seen = self.backward_stack.output_size if smoothing else width
        self.evidence = nn.Linear(seen, width)
        self.transition = nn.Linear(latent_size, 3 * width)  # hidden layers of gate, proposal and combiner
        self.gate = nn.Linear(width, latent_size)
        self.proposal = nn.Linear(width, latent_size)
        self.identity = nn.Linear(latent_size, latent_size)
        nn.init.eye_(self.identity.weight)  # as published: the chain starts by remembering
        nn.init.zeros_(self.identity.bias)
        self.prior_scale = nn.Linear(latent_size, latent_size)
        self.posterior = nn.Linear(width, 2 * latent_size)
        self.decoder = nn.Linear(latent_size, width)
        self.emission = Perceptron(width, width, max(1, num_layers))
        self._kept: Tensor | None = None
        self.first = nn.Parameter(torch.zeros(latent_size))
        self.labels = label_table(num_labels, 3 * width)

    def contexts(self, elements: Tensor, lengths: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
        """The biases of the three hidden layers ``(B, T, 3M)``; the evidence is in the combiner's."""
        encoded = self.encoder(elements)
        if self.training and self.dropout:
            encoded = encoded * dropout_mask((len(encoded), 1, self.width), self.dropout, encoded)
        seen = encoded if self.backward_stack is None else _backwards(self.backward_stack, encoded, lengths)
        bias = F.pad(self.evidence(seen), (2 * self.width, 0)) + self.transition.bias
        return (add_labels(bias, self.labels, labels),)

    def start(self, rows: int, time: int) -> tuple[Tensor, ...]:
        """The carry ``(rows, width)`` before the first step: a latent that is learned."""
        self._kept = None
        if self.training and self.dropout:
            self._kept = dropout_mask((rows, self.width), self.dropout, self.decoder.weight)
        return (self.first.expand(rows, -1),)

    def step(
        self, carry: tuple[Tensor, ...], context: tuple[Tensor, ...], noise: Tensor, time: int
    ) -> tuple[Step, tuple[Tensor, ...]]:
        """One step of N paths; see :class:`~hybridgen.models.variational_rnn_parts.Dynamics`."""
        prior_mean, prior_log_variance, combined = self._prior(carry[0], context[0])
        # The mean of two tanh in the paper; of one, whose argument is the sum, here: a single product.
        mean, raw = self.posterior(torch.tanh(combined)).chunk(2, -1)
        mean = prior_mean + mean if self.residual else mean
        log_var = log_variance(raw)
        latent = draw_latent(mean, log_var, noise)
        features = self.emission(torch.relu(self.decoder(latent)))
        if self._kept is not None:
            features = features * self._kept
        return Step(prior_mean, prior_log_variance, mean, log_var, latent, features), (latent,)

    def begin(self, rows: int, labels: Tensor | None) -> Any:
        """The state of generation before its first element, ``(rows, width)`` each; ``labels (rows,)``."""
        bias = self.transition.bias.expand(rows, -1)
        return self.start(rows, 0)[0], add_labels(bias, self.labels, labels)

    def draw(self, state: Any, noise: Tensor) -> tuple[Tensor, Any]:
        """Draw a latent from the prior by ``noise (N, D)``.

        Returns:
            The head's features ``(N, width)``, and the state in which the element is observed.
        """
        latent, bias = state
        mean, log_var, _ = self._prior(latent, bias)
        latent = draw_latent(mean, log_var, noise)
        return self.emission(torch.relu(self.decoder(latent))), (latent, bias)

    def observe(self, state: Any, element: Tensor) -> Any:
        """The state after an element ``(N, F)``: the same, since nothing reads it."""
        return state

    def _prior(self, latent: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log variance of the next latent, and the combiner's hidden layer."""
        hidden = torch.addmm(bias, latent, self.transition.weight.t())
        nets, combined = hidden.split([2 * self.width, self.width], -1)
        gate, proposal = torch.relu(nets).chunk(2, -1)
        gate, proposal = torch.sigmoid(self.gate(gate)), self.proposal(proposal)
        mean = torch.lerp(self.identity(latent), proposal, gate)
        return mean, log_variance(self.prior_scale(torch.relu(proposal))), combined


KINDS: dict[str, type[nn.Module]] = {"vrnn": RecurrentLatents, "srnn": LatentChain, "dmm": DeepMarkov}


def _backwards(stack: Any, inputs: Tensor, lengths: Tensor) -> Tensor:
    """Outputs ``(B, T, H)`` of a stack that runs from each row's last element to its first."""
    time = torch.arange(inputs.shape[1], device=inputs.device)
    lengths = lengths.to(inputs.device)
    order = torch.where(time < lengths[:, None], lengths[:, None] - 1 - time, time).unsqueeze(-1)  # (B, T, 1)
    outputs, _ = stack(inputs.gather(1, order.expand_as(inputs)), lengths=lengths)
    return outputs.gather(1, order.expand_as(outputs))


def _is_noisy(stack: Any) -> bool:
    rates = ("input_dropout", "dropout", "output_dropout", "state_dropout", "zoneout", "zoneout_cell", "weight_drop")
    return any(getattr(stack, rate) for rate in rates)


def _is_plain(stack: Any) -> bool:
    return not (stack.has_layer_norm or stack.residual or stack.zoneout or stack.zoneout_cell)
