"""All that is done to the KL term in training, in one object.

    loss = w(step) max(free bits, KL) + l (R - KL)                    a target rate R
    l = max(0, lambda + damping (R - KL)), without a gradient         lambda >= 0 the multiplier
    loss = w(step) gamma |max(free bits, KL) - C(step)|               a capacity C

* weight and schedule: :mod:`hybridgen.objectives.variational.schedules`; beta-VAE (Higgins et al. 2017) is a constant
  weight other than 1;
* free bits: :mod:`hybridgen.objectives.variational.free_bits`;
* target rate: the constraint KL >= R by Lagrange's method, "minimum desired rate" (Pelsmaeker & Aziz 2020, "Effective
  estimation of deep generative language models", arXiv:1904.08194), after the constrained optimisation of Rezende &
  Viola 2018, arXiv:1810.00597. The multiplier ascends: ``lambda <- max(0, lambda + rate (R - KL))`` after each training
  batch; the damping (of an augmented Lagrangian, Hestenes 1969) keeps KL and lambda from chasing each other around R.
  Unlike a floor it pulls: while KL < R, lambda grows until the KL rises. At rest, ``w - lambda`` is the price at which
  the model buys just R nats;
* capacity: Burgess et al. 2018, "Understanding disentangling in beta-VAE", arXiv:1804.03599.

Floors in the encoder (BN-VAE, delta-VAE) and the aggressive training of the encoder are modules of their own.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hybridgen.objectives.variational.free_bits import FreeBits
from hybridgen.objectives.variational.schedules import Schedule, check_options, make_schedule


class KLTerms(NamedTuple):
    """What :class:`KLControl` gives.

    Attributes:
        loss: scalar, nats per sequence: what is added to the reconstruction term.
        kl: scalar, nats per sequence: the KL itself, without weight, floor or target; mean over the batch of the sum
            over time and dimensions.
        weight: the weight in force at this step.
    """

    loss: Tensor
    kl: Tensor
    weight: float


class KLControl(nn.Module):
    """Schedule, free bits, target rate and capacity of a KL term, in any combination that makes sense.

    Args:
        weight: multiplies the schedule.
        schedule: options of :class:`~hybridgen.objectives.variational.Schedule`, such as ``{kind: linear, start: 0.1,
            epochs: 10}``; constant at 1 by default.
        free_bits: options of :class:`~hybridgen.objectives.variational.FreeBits`, such as ``{nats: 0.15}``.
        target_rate: nats per sequence R, or ``{nats: R, rate: 0.001, damping: 0.1, maximum: 10}``: the step size of the
            multiplier, its damping and where it stops.
        capacity: ``{stop: 10, steps: 20000, gamma: 1}``: options of a schedule of C in nats per sequence, linear
            where no kind is given, and the factor gamma.

    Attributes:
        multiplier: the Lagrange multiplier, scalar; part of the state dict. It moves in training mode only, and with
            several processes by the mean of their KL.

    Raises:
        ValueError: if an option does not fit; the message names it.
    """

    multiplier: Tensor

    def __init__(
        self,
        *,
        weight: float = 1.0,
        schedule: dict[str, Any] | None = None,
        free_bits: dict[str, Any] | None = None,
        target_rate: float | dict[str, Any] | None = None,
        capacity: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"kl weight is {weight}: give at least 0")
        if target_rate is not None and capacity is not None:
            raise ValueError("target_rate and capacity both say what the KL should be: give one of them")
        self.weight = float(weight)
        self.schedule = make_schedule(schedule, 1.0)
        self.free_bits: FreeBits | None = None
        if free_bits is not None:
            check_options("free_bits", free_bits, FreeBits)
            if "nats" not in free_bits:
                raise ValueError("free_bits need nats: the KL that is free")
            self.free_bits = FreeBits(**free_bits)
        self.target = None if target_rate is None else _target(target_rate)
        self.capacity, self.gamma = (None, 1.0) if capacity is None else _capacity(capacity)
        self.register_buffer("multiplier", torch.zeros(()))

    @property
    def schedules(self) -> list[Schedule]:
        """The schedules, to tell them how many steps an epoch has."""
        return [self.schedule, *([] if self.capacity is None else [self.capacity])]

    def set_steps_per_epoch(self, steps: int) -> None:
        """For schedules whose length is in epochs."""
        for schedule in self.schedules:
            schedule.steps_per_epoch = steps

    def forward(self, kl: Tensor, *, step: int, mask: Tensor | None = None) -> KLTerms:
        """The KL term of a batch.

        Args:
            kl: ``(B, D)`` nats of one latent per sequence, or ``(B, T, D)`` of one per step. What is not valid may
                hold anything, NaN too.
            step: optimiser steps so far.
            mask: ``(B, T)`` bool, true where a step is valid; with ``(B, T, D)`` only.

        Raises:
            ValueError: if a shape does not fit.
        """
        rows = _rows(kl, mask)  # (N, D)
        per_sequence = len(rows) / kl.shape[0]  # latents of a sequence, on average
        plain = rows.sum() / kl.shape[0]
        floored = plain if self.free_bits is None or not len(rows) else self.free_bits(rows) * per_sequence
        weight = self.weight * self.schedule(step)
        if self.capacity is not None:
            loss = weight * self.gamma * (floored - self.capacity(step)).abs()
        else:
            loss = weight * floored
        if self.target is not None:
            short = self.target["nats"] - plain
            loss = loss + (self.multiplier + self.target["damping"] * short.detach()).clamp(min=0) * short
            if self.training and torch.is_grad_enabled():
                self._ascend(plain.detach().clone())
        return KLTerms(loss, plain.detach(), weight)

    def extra_repr(self) -> str:
        """What is switched on, as ``print(module)`` shows it."""
        shown = {"weight": self.weight, "schedule": self.schedule.kind}
        if self.free_bits is not None:
            shown["free_bits"] = f"{self.free_bits.nats} per {self.free_bits.kind}"
        if self.target is not None:
            shown["target_rate"] = self.target["nats"]
        if self.capacity is not None:
            shown["capacity"] = self.capacity.stop
        return ", ".join(f"{name}={value}" for name, value in shown.items())

    def _ascend(self, kl: Tensor) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(kl)
            kl = kl / torch.distributed.get_world_size()
        step = self.target["rate"] * (self.target["nats"] - kl)
        # A batch whose KL is not finite is one that training skips.
        self.multiplier.add_(torch.where(step.isfinite(), step, 0.0)).clamp_(0.0, self.target["maximum"])


def _rows(kl: Tensor, mask: Tensor | None) -> Tensor:
    """All valid latents, ``(N, D)``."""
    if kl.dim() not in (2, 3) or kl.shape[0] == 0:
        raise ValueError(f"kl must have shape (B, D) or (B, T, D) with B at least 1 but has {list(kl.shape)}")
    if mask is None:
        return kl.flatten(0, -2)
    if kl.dim() != 3 or mask.dtype is not torch.bool or mask.shape != kl.shape[:2]:
        raise ValueError(
            f"mask must be bool of shape (B, T) for a kl of (B, T, D), but is {mask.dtype} of {list(mask.shape)} "
            f"for {list(kl.shape)}"
        )
    return kl[mask]


def _target(options: float | dict[str, Any]) -> dict[str, float]:
    chosen = dict(options) if isinstance(options, dict) else {"nats": options}
    known = {"nats": None, "rate": 1e-3, "damping": 0.1, "maximum": 10.0}
    for name in chosen:
        if name not in known:
            raise ValueError(f"target_rate has no option {name!r}: it has {', '.join(known)}")
    values = {**known, **chosen}
    for name, value in values.items():
        allowed = isinstance(value, int | float) and not isinstance(value, bool)
        if not (allowed and (value > 0 or (name == "damping" and value == 0))):
            raise ValueError(f"target_rate {name} is {value!r}: give a number above 0")
    return {name: float(value) for name, value in values.items()}


def _capacity(options: dict[str, Any]) -> tuple[Schedule, float]:
    check_options("capacity", {k: v for k, v in options.items() if k != "gamma"}, Schedule)
    if "stop" not in options:
        raise ValueError("capacity needs stop: the nats per sequence at its end")
    gamma = options.get("gamma", 1.0)
    if not gamma > 0:
        raise ValueError(f"capacity gamma is {gamma}: give a number above 0")
    rest = {k: v for k, v in options.items() if k != "gamma"}
    return Schedule(**{"kind": "linear", **rest}), float(gamma)
