"""The contract of a head: what turns hidden states into the distribution of the next element.

There are two kinds. A :class:`ClassHead` is over V classes (tokens); an :class:`~hybridgen.heads.elements.ElementHead`
is over vectors ``(F,)`` of numbers (a frame of music, a row of an image, a stroke). What they share is :class:`Head`:
``nll`` and ``loss`` of hidden states ``(N, H)``.

A head over V classes offers three functions, all in nats::

    head.nll(hidden, targets)   # (N,): -log p(target), exact, differentiable
    head.log_probs(hidden)      # (N, V): log p of every class, exactly normalised; what sampling reads
    head.loss(hidden, targets)  # (N,): what training minimises: nll, plus whatever the head regularises with

and ``nll`` is what ``log_probs`` holds at the target. Sequences ``(B, T, H)`` are flattened by the caller, who
drops masked elements first (:func:`hybridgen.objectives.likelihood.select`): no head ever sees padding.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hybridgen.cells.matmul import product
from hybridgen.cells.precision import autocasts
from hybridgen.heads.chunked import chunk_rows
from hybridgen.heads.levels import Levels


class Head(nn.Module):
    """A distribution of the next element given a hidden state: what all heads share.

    Attributes:
        hidden_size: width H of a hidden state.

    Raises:
        ValueError: if a size is not a whole number of at least 1.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        check_size("hidden_size", hidden_size)
        self.hidden_size = hidden_size

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood of the targets.

        Args:
            hidden: ``(N, H)``.
            targets: N elements, in the form that the kind of head says.

        Returns:
            ``(N,)`` nats, with a gradient.

        Raises:
            ValueError: if a shape or a target does not fit.
        """
        raise NotImplementedError(f"{type(self).__name__} must define nll()")

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """What training minimises, ``(N,)``; :meth:`nll` unless the head says otherwise."""
        return self.nll(hidden, targets)

    def _check_hidden(self, hidden: Tensor) -> None:
        if hidden.dim() != 2 or hidden.shape[1] != self.hidden_size:
            raise ValueError(
                f"hidden must have shape (rows, {self.hidden_size}) but has {tuple(hidden.shape)}: "
                "flatten batch and time first"
            )


class ClassHead(Head):
    """A distribution over classes given a hidden state; targets are ``(N,)`` int64 in 0..V-1.

    Attributes:
        hidden_size: width H of a hidden state.
        num_classes: number V of classes.
        chunk_size: rows that :meth:`nll` takes at a time, or None for the default rule of
            :func:`hybridgen.heads.chunked.cross_entropy`.

    Raises:
        ValueError: if a size is not a whole number of at least 1.
    """

    def __init__(self, hidden_size: int, num_classes: int, *, chunk_size: int | None = None) -> None:
        super().__init__(hidden_size)
        sizes = {"num_classes": num_classes}
        for name, size in (sizes if chunk_size is None else {**sizes, "chunk_size": chunk_size}).items():
            check_size(name, size)
        self.num_classes = num_classes
        self.chunk_size = chunk_size

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log probability of every class.

        Args:
            hidden: ``(N, H)``.

        Returns:
            ``(N, V)`` nats, each row normalised: its exponentials sum to 1.
        """
        raise NotImplementedError(f"{type(self).__name__} must define log_probs()")

    def prepare_log_probs(self) -> Callable[[Tensor], Tensor]:
        """:meth:`log_probs` with the weights as they are now, for many calls on few rows; no gradient.

        The function equals :meth:`log_probs` to rounding, does not see later changes of the weights, and does not check
        what it is given. A head may lay its weights out for it.
        """
        return self.log_probs

    def prepare_levels(self) -> Levels | None:
        """The same distribution in two levels, of which a draw needs but a part; None where the head has but one.

        As for :meth:`prepare_log_probs`, the weights are those of now, laid out for few rows.
        """
        return None

    def extra_repr(self) -> str:
        """The sizes, as ``print(module)`` shows them."""
        return f"{self.hidden_size}, {self.num_classes}"

    def _check(self, hidden: Tensor, targets: Tensor) -> None:
        self._check_hidden(hidden)
        if targets.shape != hidden.shape[:1] or targets.dtype is not torch.int64:
            raise ValueError(
                f"targets must be int64 of shape ({hidden.shape[0]},) but are {targets.dtype} of {tuple(targets.shape)}"
            )
        # Elsewhere the check would make the device wait; there, gathering the target's logit is checked by torch.
        if targets.device.type != "cpu" or targets.numel() == 0 or torch.compiler.is_compiling():
            return
        smallest, largest = int(targets.min()), int(targets.max())
        if smallest < 0 or largest >= self.num_classes:
            raise ValueError(f"targets must lie in 0..{self.num_classes - 1} but span {smallest}..{largest}")

    def _row_chunks(self, hidden: Tensor, experts: int = 1) -> tuple[Tensor, ...]:
        """Hidden states in the chunks that :meth:`nll` takes; one in a graph, whose batch size stays free."""
        if torch.compiler.is_compiling():
            return (hidden,)
        return hidden.split(chunk_rows(hidden.shape[0], experts, self.num_classes, self.chunk_size))


def check_size(name: str, size: object) -> None:
    """Check that ``size`` is a whole number of at least 1.

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ValueError(f"{name} is {size!r}: give a whole number of at least 1")


def tied_weight(tied: nn.Embedding | nn.Parameter, num_classes: int) -> nn.Parameter:
    """The parameter ``(V, E)`` to share with an embedding (Press & Wolf 2017; Inan et al. 2017).

    Raises:
        ValueError: if it is no embedding, or not one of ``num_classes`` classes.
    """
    weight = tied.weight if isinstance(tied, nn.Embedding) else tied
    if not isinstance(weight, nn.Parameter) or weight.dim() != 2:
        raise ValueError(f"tied is of type {type(tied).__name__}: give an nn.Embedding or its weight, a parameter")
    if weight.shape[0] != num_classes:
        raise ValueError(f"tied has {weight.shape[0]} rows but num_classes is {num_classes}: they must agree")
    return weight


def linear_weight(outputs: int, inputs: int) -> nn.Parameter:
    """A weight ``(outputs, inputs)`` that starts as that of ``nn.Linear``: uniform within 1 / sqrt(inputs)."""
    bound = inputs**-0.5
    return nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))


def projection_weight(outputs: int, inputs: int) -> nn.Parameter:
    """A projection ``(outputs, inputs)`` that starts orthogonal; as the identity where it is square."""
    weight = torch.empty(outputs, inputs)
    return nn.Parameter(nn.init.eye_(weight) if outputs == inputs else nn.init.orthogonal_(weight))


def packs(weight: Tensor) -> bool:
    """Whether :func:`packed_linear` serves a weight: on a CPU, outside autocast."""
    return weight.device.type == "cpu" and not autocasts("cpu")


def packed_linear(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """``rows (N, I) @ weight (O, I).T + bias``, the weight copied in the layout that few rows are fastest by.

    A product of one row reads the weight and does little else: read along its longer side it takes half the time.
    """
    packed = weight.detach().t().clone(memory_format=torch.contiguous_format)  # (I, O)
    added = None if bias is None else bias.detach().clone()
    return lambda rows: product(rows, packed, added)
