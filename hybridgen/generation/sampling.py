"""Batched sampling and greedy decoding of a categorical next-token model with a recurrent state.

The model is a function ``step(tokens (B,), state) -> (logits (B, V), state)``; nothing else is known of it.
The state is any nesting of tensors with the batch first and must hold everything that belongs to a row,
because a row that has finished is dropped from the batch at once: the step then sees fewer rows.

Sample i of seed s depends on the model, its prompt, the options, s and i, on nothing else. What remains is
the model: a matrix product may round differently for another batch size, which changes a token only where a
draw falls within that rounding of a border.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybridgen.generation.drawing import Choice, choose_tokens
from hybridgen.generation.options import DecodingOptions
from hybridgen.generation.prompts import (
    Prefill,
    Prompts,
    ReadPrompts,
    Step,
    as_end_tokens,
    check_logits,
    read_prompts,
)
from hybridgen.generation.randomness import uniforms_of_steps
from hybridgen.generation.rows import select_rows
from hybridgen.generation.stop_strings import TextStream

FinishReason = Literal["eos", "stop", "length"]

# Steps whose random numbers are made at a time.
DRAWS_AHEAD = 64


class StreamStep(NamedTuple):
    """One more token of every row that was still running; N of them.

    Attributes:
        rows: ``(N,)`` int64 positions in the batch of prompts.
        tokens: ``(N,)`` int64.
        log_probs: ``(N,)`` nats under the model itself.
        sampling_log_probs: ``(N,)`` nats under the distribution drawn from; 0 for greedy.
        finish_reasons: N entries; None while the row goes on, else "eos", "stop" or "length".
        num_tokens: N lengths of the output so far, the end token included; less than the tokens streamed
            only after a stop string, which cuts off the tokens it reaches into.
        texts: N pieces of text that can now be shown, without stop strings and end tokens; None without
            ``decode``.
    """

    rows: Tensor
    tokens: Tensor
    log_probs: Tensor
    sampling_log_probs: Tensor
    finish_reasons: list[FinishReason | None]
    num_tokens: list[int]
    texts: list[str] | None


class Samples(NamedTuple):
    """Finished samples, in the order of the prompts. T is the longest length.

    Attributes:
        tokens: ``(B, T)`` int64 new tokens, without the prompt, with the end token, padded with
            ``pad_token_id``.
        lengths: ``(B,)`` int64 tokens of each row; after a stop string those that end before it begins.
        log_probs: ``(B, T)`` nats under the model itself, before penalties, temperature and truncation; 0 in
            padding.
        sampling_log_probs: ``(B, T)`` nats under the distribution drawn from; 0 for greedy and in padding.
        finish_reasons: "eos", "stop" (a stop string) or "length" (max_new_tokens) for each row.
        texts: the decoded outputs, cut exactly where a stop string begins, without the end token; None
            without ``decode``.
    """

    tokens: Tensor
    lengths: Tensor
    log_probs: Tensor
    sampling_log_probs: Tensor
    finish_reasons: list[FinishReason]
    texts: list[str] | None


def sample(
    step: Step,
    prompts: Prompts,
    state: Any,
    options: DecodingOptions | None = None,
    *,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int = 0,
    decode: Callable[[list[int]], str] | None = None,
    prefill: Prefill | None = None,
    sample_numbers: Sequence[int] | None = None,
) -> Samples:
    """Generate a continuation of every prompt.

    Args:
        step: ``(tokens (B,), state) -> (logits (B, V), state)``; gradients are off while it runs. One with a method
            ``draw`` and a true ``draws`` (:class:`~hybridgen.generation.stepping.TokenStep`) draws by itself where no
            option changes the distribution.
        prompts: B sequences of token ids, of any lengths, none empty.
        state: initial state of the B rows, before the first token of the prompts.
        options: the decoding options; default ``DecodingOptions()``. ``num_beams`` must be 1.
        eos_token_id: the token or tokens that end a row.
        pad_token_id: fills ``tokens`` beyond the lengths.
        decode: token ids -> text; needed for ``stop_strings``, and gives ``texts``.
        prefill: ``(tokens (B, T), lengths (B,), state) -> state``, runs prompts in one go instead of
            stepping.
        sample_numbers: ``(B,)`` the number i of each sample for its random draws; default 0 ... B - 1. To
            draw sample 7 of a seed alone, give ``[7]``.

    Raises:
        ValueError: for prompts, states, logits or options that do not fit, or if every next token is
            forbidden.
    """
    # On the way text is needed only where a stop string may end a row.
    decode_on_the_way = decode if options is not None and options.stop_strings else None
    steps = stream(
        step,
        prompts,
        state,
        options,
        eos_token_id=eos_token_id,
        decode=decode_on_the_way,
        prefill=prefill,
        sample_numbers=sample_numbers,
    )
    samples = _collect(list(steps), len(prompts), pad_token_id)
    if decode is None or decode_on_the_way is not None:
        return samples
    # The end token is no text.
    ends = [reason == "eos" for reason in samples.finish_reasons]
    rows = zip(samples.tokens.tolist(), samples.lengths.tolist(), ends, strict=True)
    return samples._replace(texts=[decode(tokens[: length - end]) for tokens, length, end in rows])


def stream(
    step: Step,
    prompts: Prompts,
    state: Any,
    options: DecodingOptions | None = None,
    *,
    eos_token_id: int | Sequence[int] | None = None,
    decode: Callable[[list[int]], str] | None = None,
    prefill: Prefill | None = None,
    sample_numbers: Sequence[int] | None = None,
) -> Iterator[StreamStep]:
    """Generate token by token: yields once per step, until every row has finished.

    Arguments and errors are those of ``sample``; wrong ones are reported at the call, before the first step.

    Raises:
        ValueError: if an argument does not fit; the message names it.
    """
    options = options or DecodingOptions()
    if options.num_beams > 1:
        raise ValueError(f"num_beams must be 1 for sampling, but is {options.num_beams}: use beam_search.")
    if options.stop_strings and decode is None:
        raise ValueError("stop_strings need decode, the function from token ids to text, but it is not given.")
    numbers = np.arange(len(prompts)) if sample_numbers is None else np.asarray(sample_numbers)
    if numbers.shape != (len(prompts),) or numbers.dtype.kind not in "iu" or (numbers < 0).any():
        raise ValueError(f"sample_numbers must be one whole number >= 0 for each of the {len(prompts)} prompts.")
    end_tokens = as_end_tokens(eos_token_id)
    with torch.no_grad():
        read = read_prompts(step, prompts, state, prefill)
    readers = None if decode is None else [TextStream(decode, options.stop_strings) for _ in numbers]
    return _stream(step, read, options, end_tokens, readers, numbers)


def _stream(
    step: Step,
    read: ReadPrompts,
    options: DecodingOptions,
    end_tokens: tuple[int, ...],
    readers: list[TextStream] | None,
    numbers: np.ndarray,
) -> Iterator[StreamStep]:
    tokens, history, state = read
    running = tokens.shape[0]
    rows = torch.arange(running, device=tokens.device)  # (N,) where the running rows stand among the prompts
    draws_itself = options.draws_from_model and not options.changes_logits and getattr(step, "draws", False)
    for position in range(options.max_new_tokens):
        ahead = position % DRAWS_AHEAD
        if ahead == 0:
            count = min(DRAWS_AHEAD, options.max_new_tokens - position)
            made = uniforms_of_steps(options.seed, numbers, position, count)
            draws = torch.from_numpy(made).to(tokens.device).unbind(0)
        # Not around the yield: gradients of whoever reads the stream stay as they are.
        with torch.no_grad():
            choice, after = step.draw(tokens, state, draws[ahead]) if draws_itself else (None, None)
            if choice is None:  # also where something is not finite: what follows says what
                logits, after = step(tokens, state)
                check_logits(logits, running, end_tokens)
                choice = choose_tokens(
                    logits, history, draws[ahead], options, new_tokens=position, end_tokens=end_tokens
                )
        tokens, state = choice.tokens, after
        event = _read_choice(choice, rows, options, end_tokens, readers, position + 1)
        yield event
        going_on = [index for index, reason in enumerate(event.finish_reasons) if reason is None]
        if not going_on:
            return
        if options.needs_history:
            history = torch.cat([history, tokens[:, None]], dim=1)
        if len(going_on) < running:
            running = len(going_on)
            kept = torch.tensor(going_on, device=tokens.device)
            tokens, history, rows, numbers = tokens[kept], history[kept], rows[kept], numbers[going_on]
            draws, state = [draw[kept] for draw in draws], select_rows(state, kept)


def _read_choice(
    choice: Choice,
    rows: Tensor,
    options: DecodingOptions,
    end_tokens: tuple[int, ...],
    readers: list[TextStream] | None,
    length: int,
) -> StreamStep:
    """What the newest token, the ``length``-th, means for each row: its text, and whether it is the last."""
    default: FinishReason | None = "length" if length == options.max_new_tokens else None
    tokens = choice.tokens.tolist()
    is_end = [token in end_tokens for token in tokens] if end_tokens else [False] * len(tokens)
    reasons: list[FinishReason | None] = ["eos" if ends else default for ends in is_end]
    num_tokens = [length] * len(tokens)
    if readers is None:
        return StreamStep(rows, *choice, reasons, num_tokens, None)
    texts = []
    for index, (row, token) in enumerate(zip(rows.tolist(), tokens, strict=True)):
        reader = readers[row]
        text = "" if is_end[index] else reader.push(token)
        if reasons[index] is not None:
            text += reader.finish()
        if reader.stopped:
            reasons[index] = "stop"
            num_tokens[index] = reader.num_tokens
        texts.append(text)
    return StreamStep(rows, *choice, reasons, num_tokens, texts)


def _collect(steps: list[StreamStep], batch_size: int, pad_token_id: int) -> Samples:
    device = steps[0].tokens.device
    tokens = torch.full((batch_size, len(steps)), pad_token_id, device=device)
    log_probs = torch.zeros(batch_size, len(steps), device=device)
    sampling_log_probs = torch.zeros_like(log_probs)
    # As long as no row has ended, the steps are joined at once.
    whole = next((number for number, event in enumerate(steps) if event.rows.shape[0] < batch_size), len(steps))
    tokens[:, :whole] = torch.stack([event.tokens for event in steps[:whole]], 1)
    log_probs[:, :whole] = torch.stack([event.log_probs for event in steps[:whole]], 1)
    sampling_log_probs[:, :whole] = torch.stack([event.sampling_log_probs for event in steps[:whole]], 1)
    lengths = [0] * batch_size
    reasons: list[FinishReason] = ["length"] * batch_size
    pieces: list[list[str]] = [[] for _ in range(batch_size)]
    for position, event in enumerate(steps):
        if position >= whole:
            tokens[event.rows, position] = event.tokens
            log_probs[event.rows, position] = event.log_probs
            sampling_log_probs[event.rows, position] = event.sampling_log_probs
        for index, reason in enumerate(event.finish_reasons):
            if reason is not None:
                row = int(event.rows[index])
                lengths[row], reasons[row] = event.num_tokens[index], reason
        if event.texts is not None:
            for row, text in zip(event.rows.tolist(), event.texts, strict=True):
                pieces[row].append(text)
    longest = max(lengths)
    kept_lengths = torch.tensor(lengths, device=device)
    padding = torch.arange(longest, device=device) >= kept_lengths[:, None]  # (B, T)
    return Samples(
        tokens[:, :longest].masked_fill(padding, pad_token_id),
        kept_lengths,
        log_probs[:, :longest].masked_fill(padding, 0),
        sampling_log_probs[:, :longest].masked_fill(padding, 0),
        reasons,
        None if steps[0].texts is None else ["".join(row) for row in pieces],
    )
