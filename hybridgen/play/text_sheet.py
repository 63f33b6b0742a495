"""The sheet of a language model: a prompt, how tokens are chosen, and the text as it grows."""

from collections.abc import Iterator

import gradio as gr

from hybridgen.generation import DecodingOptions
from hybridgen.play.opened import Opened
from hybridgen.play.telling import slider, told, whole
from hybridgen.play.text import continue_text


def decoding_fields(longest: int, usual: int) -> list[gr.components.Component]:
    """Fields for temperature, top_p, top_k, max_new_tokens and seed, in the order of :func:`decoding_of`.

    Args:
        longest: of max_new_tokens.
        usual: its first value.
    """
    return [
        slider(0.05, 2.0, 1.0, step=0.05, label="temperature", info="below 1 sharper, above 1 flatter"),
        slider(0.01, 1.0, 1.0, step=0.01, label="top_p", info="keep the most probable tokens up to this mass"),
        slider(0, 200, 0, step=1, label="top_k", info="keep so many tokens; 0 keeps all"),
        slider(1, longest, usual, step=1, label="max_new_tokens"),
        gr.Number(0, label="seed", precision=0, info="the same seed writes the same again"),
    ]


def decoding_of(
    temperature: float, top_p: float, top_k: float, max_new_tokens: float, seed: float | None
) -> DecodingOptions:
    """What the fields say.

    Raises:
        ValueError: if one is empty or not allowed.
    """
    return DecodingOptions(
        temperature=temperature,
        top_p=top_p,
        top_k=whole(top_k, "top_k"),
        max_new_tokens=whole(max_new_tokens, "max_new_tokens", 1),
        seed=whole(seed, "seed"),
    )


def add_text(opened: Opened) -> None:
    """Lay out a language model where the page is being built."""
    with gr.Row():
        with gr.Column(scale=2):
            prompt = gr.Textbox(label="prompt", lines=4, placeholder="empty: where a document starts")
            fields = decoding_fields(10000, 256)
            with gr.Row():
                write = gr.Button("Write", variant="primary")
                stop = gr.Button("Stop")
        with gr.Column(scale=3):
            text = gr.Textbox(
                label="text", lines=24, max_lines=24, interactive=False, buttons=["copy"], elem_classes="written"
            )
            note = gr.Textbox(label="so far", lines=1, interactive=False)

    def grow(prompt: str, *chosen: float) -> Iterator[tuple[str, str]]:
        yield from continue_text(opened.model, prompt or "", decoding_of(*chosen))

    # A model is one for all visitors, and one after another is what it can do.
    writing = write.click(
        told(grow), [prompt, *fields], [text, note], concurrency_limit=1, concurrency_id=opened.path, api_name=False
    )
    stop.click(None, cancels=[writing])
