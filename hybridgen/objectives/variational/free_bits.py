"""Free bits: a KL that nobody has to pay for.

    sum over groups g of max(nats, KL_g)

so that a group whose KL is below ``nats`` gets no gradient from it. Two things vary in the literature and are told
apart here. *What a group is*: the whole latent (``total``), each dimension (``dimension``; Li et al. 2019, "A
surprisingly effective fix for deep latent variable modeling of text", arXiv:1909.00868), or several dimensions
(``group``; Kingma et al. 2016, "Improving variational inference with inverse autoregressive flow", arXiv:1606.04934).
*On what the maximum is taken*: on the mean over the batch (``over: batch``, Kingma et al. 2016, equation 15: some
sentences may then say less, others more), or on every single latent (``over: element``, the hard constraint of Li et
al.'s code). ``nats`` is always of one latent: with a latent per step, of one step.
"""

import torch
from torch import Tensor

KINDS = ("total", "dimension", "group")


class FreeBits:
    """The floor under a KL.

    Args:
        nats: the floor, in nats of one group of one latent.
        kind: ``total``, ``dimension`` or ``group``.
        over: ``batch`` (the mean over all latents of a batch) or ``element``.
        groups: with ``group``, the number of groups of neighbouring dimensions, all equally large.

    Raises:
        ValueError: if an option does not fit; the message names it.
    """

    def __init__(self, nats: float, *, kind: str = "dimension", over: str = "batch", groups: int | None = None) -> None:
        if not nats >= 0:
            raise ValueError(f"free_bits nats is {nats}: give at least 0")
        if kind not in KINDS:
            raise ValueError(f"free_bits kind is {kind!r}: choose one of {', '.join(KINDS)}")
        if over not in ("batch", "element"):
            raise ValueError(f"free_bits over is {over!r}: choose 'batch' or 'element'")
        if (kind == "group") != (groups is not None):
            raise ValueError("free_bits groups go with kind 'group', and only with it: give both or neither")
        if groups is not None and groups < 1:
            raise ValueError(f"free_bits groups is {groups}: give at least 1")
        self.nats, self.kind, self.over, self.groups = float(nats), kind, over, groups

    def __call__(self, kl: Tensor) -> Tensor:
        """The mean over latents of the floored KL.

        Args:
            kl: ``(N, D)`` nats, all of them valid.

        Returns:
            A scalar: nats of one latent.

        Raises:
            ValueError: if the dimensions cannot be divided into the groups.
        """
        number, size = kl.shape
        if self.kind == "total":
            kl = kl.sum(1, keepdim=True)
        elif self.kind == "group":
            if size % self.groups:
                raise ValueError(f"free_bits groups is {self.groups}, which does not divide the {size} dimensions")
            kl = kl.view(number, self.groups, -1).sum(2)
        if self.over == "batch":
            kl = kl.mean(0, keepdim=True)
        return torch.clamp(kl, min=self.nats).sum() / len(kl)
