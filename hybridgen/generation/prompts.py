"""Prompts of different lengths, brought to the point where every row is about to generate its first token."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridgen.codecs import TextCodec
from hybridgen.generation.processors import PADDING
from hybridgen.generation.rows import check_rows, merge_rows, state_tensors

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
Prefill = Callable[[Tensor, Tensor, Any], Any]
Prompts = Sequence[Sequence[int]] | Sequence[Tensor] | Tensor


class ReadPrompts(NamedTuple):
    """Prompts whose last token is still to be fed to the model.

    Attributes:
        last_tokens: ``(B,)`` int64.
        history: ``(B, L)`` int64, whole prompts, padded on the left.
        state: after all tokens but the last.
    """

    last_tokens: Tensor
    history: Tensor
    state: Any


def read_prompts(step: Step, prompts: Prompts, state: Any, prefill: Prefill | None = None) -> ReadPrompts:
    """Run the model over all tokens of the prompts but the last.

    Args:
        step: ``(tokens (B,), state) -> (logits (B, V), state)``.
        prompts: B sequences of token ids, none empty.
        state: initial state of the B rows.
        prefill: ``(tokens (B, T), lengths (B,), state) -> state`` runs the first ``lengths[i]`` tokens of row
            i, zero allowed, in one go; what stands beyond is padding (token 0). Without it the prompts are
            stepped through, which is slower and gives the same.

    Raises:
        ValueError: if there are no prompts, one is empty or not a list of ids, or the state has another
            batch size.
    """
    device = next((leaf.device for leaf in state_tensors(state)), torch.device("cpu"))
    sequences = [_as_ids(prompt, number, device) for number, prompt in enumerate(prompts)]
    if not sequences:
        raise ValueError("There are no prompts: give at least one.")
    check_rows(state, len(sequences))
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=device)
    longest = int(lengths.max())
    history = torch.full((len(sequences), longest), PADDING, device=device)
    tokens = torch.zeros(len(sequences), longest, dtype=torch.long, device=device)
    for row, sequence in enumerate(sequences):
        history[row, longest - len(sequence) :] = sequence
        tokens[row, : len(sequence) - 1] = sequence[:-1]
    if longest > 1:
        run = prefill or (lambda tokens, lengths, state: _step_through(step, tokens, lengths, state))
        state = run(tokens[:, :-1], lengths - 1, state)
    return ReadPrompts(history[:, -1], history, state)


def _step_through(step: Step, tokens: Tensor, lengths: Tensor, state: Any) -> Any:
    shortest = int(lengths.min())
    for position, column in enumerate(tokens.unbind(1)):
        _, new_state = step(column, state)
        state = new_state if position < shortest else merge_rows(position < lengths, new_state, state)
    return state


def _as_ids(prompt: Sequence[int] | Tensor, number: int, device: torch.device) -> Tensor:
    wrong = f"Prompt {number} must be a list of token ids, whole and >= 0, but is {prompt!r}."
    try:
        ids = torch.as_tensor(prompt, device=device)
    except (TypeError, ValueError) as error:
        raise ValueError(wrong) from error
    if ids.numel() == 0:
        raise ValueError(f"Prompt {number} is empty: give at least one token, such as a beginning-of-sequence.")
    is_whole = not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
    if ids.dim() != 1 or not is_whole or bool((ids < 0).any()):
        raise ValueError(wrong)
    return ids.long()


def as_end_tokens(eos_token_id: int | Sequence[int] | None) -> tuple[int, ...]:
    """The ids of the end-of-sequence tokens as a tuple: one, several or (None) no such token.

    Raises:
        ValueError: if an id is negative.
    """
    if eos_token_id is None:
        return ()
    ids = (eos_token_id,) if isinstance(eos_token_id, int) else tuple(eos_token_id)
    if any(token < 0 for token in ids):
        raise ValueError(f"eos_token_id must be >= 0, but is {eos_token_id!r}.")
    return ids


def check_logits(logits: Tensor, batch_size: int, end_tokens: Sequence[int]) -> None:
    """Check that a step returned logits ``(B, V)``, with room for the end tokens.

    Raises:
        ValueError: if it did not.
    """
    if logits.dim() != 2 or logits.shape[0] != batch_size:
        raise ValueError(
            f"The step must return logits of shape (B, V) for its B = {batch_size} tokens, but returned "
            f"{tuple(logits.shape)}."
        )
    if any(token >= logits.shape[1] for token in end_tokens):
        raise ValueError(f"eos_token_id {end_tokens} is not in the vocabulary of {logits.shape[1]} tokens.")


def first_tokens(codec: TextCodec, prompt: str) -> Tensor:
    """What is read before the first new token: the prompt's ids ``(N,)``, N at least 1.

    An empty prompt is where a document starts: after ``<bos>``, after the ``<eos>`` of another, or after a line.

    Raises:
        ValueError: if the prompt has what the codec does not know, or is empty and the codec has no start.
    """
    ids = codec.encode(prompt, errors="strict")
    if len(ids):
        return ids
    for start in (codec.bos_id, codec.eos_id):
        if start is not None:
            return torch.tensor([start])
    try:
        return codec.encode("\n", errors="strict")
    except ValueError:
        raise ValueError(
            "the prompt is empty, and this model's codec has neither <bos>, <eos> nor a line end to start from: "
            "give a prompt"
        ) from None
