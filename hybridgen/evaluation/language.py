"""Likelihood of a text under a recurrent language model, by a protocol that is always named.

The same model has different perplexities under different protocols, and numbers of two protocols must never stand
in one row. Those here:

* :func:`carried_nats`: the state is carried over the whole text, the usual protocol of recurrent models
  (Mikolov et al. 2010; Zaremba et al. 2014, arXiv:1409.2329).
* :func:`cold_nats`: a fresh state every ``window`` tokens and every position counted, as models with a fixed
  context are evaluated (nanoGPT). Much harsher on short windows.
* :func:`~hybridgen.evaluation.cache_nats` and :func:`~hybridgen.evaluation.dynamic_nats`: carried, and the model
  learns from the text it has already been scored on.

The model is a callable ``run(inputs (B, T), state, resets (B, T) or None) -> (hidden (B, T, H), state)``, where a
state of None is the initial one, and a head (:class:`hybridgen.heads.Head`) with ``nll(hidden (N, H), targets (N,))``.
Dropout must be off: put the model in ``eval()`` mode.

What is counted: token i of a text is predicted from those before it. With a ``start`` token (a document's
``<bos>`` or ``<eos>``, say) that is read before the text, all n tokens are predicted; without, the first token is
only read, and n - 1 are predicted. Each predicted token is counted exactly once.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridgen.objectives import likelihood

Run = Callable[[Tensor, Any, Tensor | None], tuple[Tensor, Any]]


@dataclass(frozen=True, kw_only=True)
class LanguageScore:
    """The result of an evaluation.

    Attributes:
        protocol: how it was evaluated, in words.
        nats: negative log-likelihood of all predicted tokens together.
        tokens: how many tokens were predicted.
        byte_count: bytes of the text that these tokens write, or None where that is not known.
    """

    protocol: str
    nats: float
    tokens: int
    byte_count: int | None = None

    @property
    def nats_per_token(self) -> float:
        """Mean nats of a predicted token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """``exp`` of the mean nats of a predicted token."""
        return likelihood.perplexity(self.nats_per_token)

    @property
    def bits_per_token(self) -> float:
        """Mean bits of a predicted token: bits per character for a codec of characters."""
        return likelihood.bits_per_unit(self.nats, self.tokens)

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte of text, which models with different codecs can be compared by."""
        return None if self.byte_count is None else likelihood.bits_per_unit(self.nats, self.byte_count)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        derived = ("nats_per_token", "perplexity", "bits_per_token", "bits_per_byte")
        return asdict(self) | {name: getattr(self, name) for name in derived}


@torch.no_grad()
def carried_nats(
    run: Run,
    head: Any,
    tokens: Tensor,
    *,
    start: int | None = None,
    resets: Tensor | None = None,
    lanes: int = 1,
    chunk_length: int = 512,
    byte_count: int | None = None,
) -> LanguageScore:
    """Score a text with the state carried from its first token to its last.

    Args:
        run: the model up to the head.
        head: the head.
        tokens: ``(n,)`` token ids of the text, of any integer type, perhaps mapped from a file.
        start: a token to read before the text.
        resets: ``(n,)`` bool: true where the state is to be fresh before what predicts that token is read.
        lanes: how many pieces of the text run side by side, each from a fresh state; the first input of a lane is
            the last token of the lane before. More than one is faster and counts the same tokens, but is a
            slightly harsher protocol, and named so.
        chunk_length: steps that are run at a time; decides the memory, not the result.
        byte_count: bytes of the predicted tokens' text, for bits per byte.

    Raises:
        ValueError: if the model is in training mode, the text has nothing to predict, or an option does not fit.
    """
    text = Text.of(head, tokens, start, resets)
    check_at_least("lanes", lanes, 1)
    check_at_least("chunk_length", chunk_length, 1)
    if text.num_predicted < lanes:
        raise ValueError(f"lanes is {lanes} but only {text.num_predicted} tokens are predicted: give fewer lanes")
    nats = sum(float(nll.sum(dtype=torch.float64)) for nll in _carried(run, head, text, lanes, chunk_length))
    protocol = "carried state" if lanes == 1 else f"carried state, {lanes} lanes"
    return LanguageScore(protocol=protocol, nats=nats, tokens=text.num_predicted, byte_count=byte_count)


@torch.no_grad()
def token_nats(
    run: Run,
    head: Any,
    tokens: Tensor,
    *,
    start: int | None = None,
    resets: Tensor | None = None,
    chunk_length: int = 512,
) -> Tensor:
    """What :func:`carried_nats` sums: the nats of every predicted token, with the state carried through the text.

    Args:
        run: the model up to the head.
        head: the head.
        tokens: ``(n,)`` token ids of the text.
        start: a token to read before the text.
        resets: ``(n,)`` bool, fresh states; see :func:`carried_nats`.
        chunk_length: steps that are run at a time; decides the memory, not the result.

    Returns:
        On the CPU, ``(n,)`` with a start token and ``(n - 1,)`` without.

    Raises:
        ValueError: if the model is in training mode, the text has nothing to predict, or an option does not fit.
    """
    text = Text.of(head, tokens, start, resets)
    check_at_least("chunk_length", chunk_length, 1)
    return torch.cat([nll.cpu() for nll in _carried(run, head, text, 1, chunk_length)])


def _carried(run: Run, head: Any, text: "Text", lanes: int, chunk_length: int) -> Iterator[Tensor]:
    """Nats of the predicted tokens ``(N,)``, chunk by chunk; for one lane in their order."""
    every, more = divmod(text.num_predicted, lanes)
    lane = torch.arange(lanes)
    first, length = lane * every + lane.clamp(max=more), every + (lane < more).long()  # (lanes,) each
    state = None
    for begin in range(0, every + (more > 0), chunk_length):
        steps = torch.arange(begin, min(begin + chunk_length, every + (more > 0)))
        inside = steps < length.unsqueeze(1)  # (lanes, T): the last step of the longest lanes is not in the others
        chunk = text.read((first.unsqueeze(1) + steps).clamp(max=text.num_predicted - 1))
        hidden, state = run(chunk.inputs, state, chunk.resets)
        yield _nll(head, hidden, chunk.targets, inside.to(chunk.targets.device))


@torch.no_grad()
def cold_nats(
    run: Run,
    head: Any,
    tokens: Tensor,
    *,
    window: int,
    start: int | None = None,
    resets: Tensor | None = None,
    batch_size: int = 64,
    byte_count: int | None = None,
) -> LanguageScore:
    """Score a text in disjoint windows, each from a fresh state; every position of every window counts.

    Window k predicts the tokens k * window to (k + 1) * window - 1 of those that are predicted at all, and reads the
    one before each; the last window can be shorter. (nanoGPT averages the same over windows at random places.)

    Args:
        run: the model up to the head.
        head: the head.
        tokens: ``(n,)`` token ids of the text.
        window: predictions in a window.
        start: a token to read before the text.
        resets: ``(n,)`` bool, further fresh states inside windows; see :func:`carried_nats`.
        batch_size: windows that are run at a time; decides the memory, not the result.
        byte_count: bytes of the predicted tokens' text, for bits per byte.

    Raises:
        ValueError: if the model is in training mode, the text has nothing to predict, or an option does not fit.
    """
    text = Text.of(head, tokens, start, resets)
    check_at_least("window", window, 1)
    check_at_least("batch_size", batch_size, 1)
    nats = 0.0
    for positions in _windows(text.num_predicted, window, batch_size):
        chunk = text.read(positions)
        hidden, _ = run(chunk.inputs, None, chunk.resets)
        nats += float(_nll(head, hidden, chunk.targets).sum(dtype=torch.float64))
    protocol = f"cold windows of {window}"
    return LanguageScore(protocol=protocol, nats=nats, tokens=text.num_predicted, byte_count=byte_count)


def _windows(count: int, window: int, batch_size: int) -> Iterator[Tensor]:
    """Numbers of predictions, ``(B, T)`` at a time; the rest that fills no window is a batch by itself."""
    whole = count // window
    for first in range(0, whole, batch_size):
        rows = torch.arange(first, min(first + batch_size, whole))
        yield rows.unsqueeze(1) * window + torch.arange(window)
    if count % window:
        yield torch.arange(whole * window, count).unsqueeze(0)


def _nll(head: Any, hidden: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    rows, targets = likelihood.select(hidden, targets, mask=mask)
    return head.nll(rows, targets)


class Chunk(NamedTuple):
    """A rectangle of a text: what is read, what is to be predicted by it, and where the state is fresh before."""

    inputs: Tensor  # (B, T)
    targets: Tensor  # (B, T)
    resets: Tensor | None  # (B, T)


class Text(NamedTuple):
    """A text and its predictions, numbered from 0; see the module's text for which there are."""

    tokens: Tensor  # (n,)
    start: int | None
    resets: Tensor | None  # (n,)
    device: torch.device

    @classmethod
    def of(cls, head: Any, tokens: Tensor, start: int | None, resets: Tensor | None) -> "Text":
        """Check what every evaluation is given: ``tokens (T,)`` and ``resets (T,)``.

        Raises:
            ValueError: if the head is in training mode, or the text has nothing to predict or does not fit.
        """
        if getattr(head, "training", False):
            raise ValueError("the model is in training mode, where dropout is on: call eval() on it first")
        if tokens.dim() != 1 or tokens.is_floating_point() or tokens.dtype is torch.bool:
            raise ValueError(
                f"tokens must be whole numbers of shape (n,) but are {tokens.dtype} of {list(tokens.shape)}"
            )
        if resets is not None and (resets.dtype is not torch.bool or resets.shape != tokens.shape):
            raise ValueError(f"resets must be bool of shape {list(tokens.shape)} but have {list(resets.shape)}")
        if len(tokens) < (2 if start is None else 1):
            needed = "at least two tokens, or one and a start token" if start is None else "at least one token"
            raise ValueError(f"a text of {len(tokens)} tokens has nothing to predict: give {needed}")
        parameter = next(head.parameters(), None) if isinstance(head, torch.nn.Module) else None
        return cls(tokens, start, resets, tokens.device if parameter is None else parameter.device)

    @property
    def num_predicted(self) -> int:
        """How many tokens are predicted."""
        return len(self.tokens) - (self.start is None)

    def read(self, predictions: Tensor) -> Chunk:
        """The rectangle of the predictions numbered ``(B, T)``, on the model's device."""
        target = (predictions + (self.start is None)).to(self.tokens.device)  # positions in the text
        inputs = self.tokens[(target - 1).clamp(min=0)].long()
        if self.start is not None:
            inputs = inputs.masked_fill(target == 0, self.start)
        parts = (inputs, self.tokens[target].long(), None if self.resets is None else self.resets[target])
        return Chunk(*(None if part is None else part.to(self.device) for part in parts))


def check_at_least(name: str, value: float, least: float) -> None:
    """Check that ``value >= least``.

    Raises:
        ValueError: if it is not; the message names the option.
    """
    if not value >= least:
        raise ValueError(f"{name} is {value}: give at least {least}")
