"""How the page tells a person what is wrong."""

import functools
import html
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from hybridgen.commands.options import one_sentence

#: What torch takes as a seed.
LARGEST_SEED = 2**64 - 1
#: Steps that a page makes at most: a slip of the keyboard should not fill the memory.
LONGEST = 100_000


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function, or a generator function, whose ValueErrors the page shows as one sentence; no stack trace."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def growing(*arguments: Any) -> Iterator[Any]:
            try:
                yield from function(*arguments)
            except ValueError as error:
                raise _shown(error) from None

        return growing

    @functools.wraps(function)
    def answering(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ValueError as error:
            raise _shown(error) from None

    return answering


def slider(low: float, high: float, value: float, *, label: str, **options: Any) -> gr.Slider:
    """A slider that answers to what is typed beside it and beyond its ends with one sentence.

    Gradio refuses that by itself, but prints a stack trace for it.
    """
    made = gr.Slider(low, high, value, label=label, **options)
    within = made.preprocess

    def preprocess(payload: float | None) -> float:
        if payload is None or not low <= payload <= high:
            given = "empty" if payload is None else payload
            raise _shown(ValueError(f"{label} is {given}: give a number from {low:g} to {high:g}"))
        return within(payload)

    made.preprocess = preprocess  # of this one: Gradio writes a file beside the source of every class of components
    return made


def whole(value: float | None, name: str, least: int = 0, most: int | None = None) -> int:
    """A whole number of a field. The ends of a :func:`slider` are checked before; those of other fields here alone.

    Raises:
        ValueError: if the field is empty, or holds a number that is not whole, too small or too large.
    """
    end = f" of at least {least}" if most is None else f" from {least} to {most}"
    unfit = value is None or not math.isfinite(value) or value != int(value)
    if unfit or value < least or (most is not None and value > most):
        raise ValueError(f"{name} is {'empty' if value is None else value}: give a whole number{end}")
    return int(value)


def _shown(error: ValueError) -> gr.Error:
    # Gradio takes the message for HTML, but a sentence may quote what a person or a file said.
    return gr.Error(html.escape(one_sentence(str(error))), print_exception=False)
