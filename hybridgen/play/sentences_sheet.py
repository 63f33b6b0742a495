"""The sheet of a text VAE: a slider between two sentences, and sentences from the prior."""

import gradio as gr

from hybridgen.play.opened import Opened
from hybridgen.play.sentences import LONGEST, between, from_prior, unknown_words, way
from hybridgen.play.telling import slider, told, whole
from hybridgen.play.text_sheet import decoding_fields, decoding_of

#: Rows of the table of the whole way.
_STEPS = 9
#: Sentences from the prior at a time.
_MOST = 100


def add_sentences(opened: Opened) -> None:
    """Lay out a model of sentences where the page is being built."""
    model = opened.model
    queue = {"concurrency_limit": 1, "concurrency_id": opened.path, "api_name": False}
    with gr.Tab("Between two sentences"):
        with gr.Row():
            start = gr.Textbox(label="first sentence", lines=2)
            end = gr.Textbox(label="second sentence", lines=2)
        with gr.Row():
            share = slider(0, 1, 0.5, step=0.01, label="way through the latent", scale=3)
            path = gr.Radio(["slerp", "lerp"], value="slerp", label="path", info="great arc, or straight line")
        here = gr.Textbox(
            label="what the model writes there", lines=2, interactive=False, buttons=["copy"], elem_classes="written"
        )
        note = gr.Textbox(label="of it", interactive=False)
        show = gr.Button("Show the whole way", variant="primary")
        table = gr.Dataframe(
            headers=["way", "sentence", "nats"],
            interactive=False,
            wrap=True,
            type="array",
            column_widths=["10%", "75%", "15%"],
        )

    def move(start: str, end: str, share: float, path: str) -> tuple[str, str]:
        place = between(model, start, end, share, path=path)
        said = [f"{place.nats:.2f} nats", unknown_words(model, start, end)]
        return place.text, "; ".join(filter(None, said))

    def walk(start: str, end: str, path: str) -> list[list[str]]:
        places = way(model, start, end, _STEPS, path=path)
        return [[f"{place.share:.3f}", place.text, f"{place.nats:.2f}"] for place in places]

    fields, shown = [start, end, share, path], [here, note]
    # While the slider is drawn the last place counts: those on the way there need not be decoded.
    gr.on([share.input, path.input], told(move), fields, shown, trigger_mode="always_last", **queue)
    gr.on([start.submit, end.submit], told(move), fields, shown, **queue)
    show.click(told(walk), [start, end, path], table, **queue).success(told(move), fields, shown, **queue)

    with gr.Tab("From the prior"), gr.Row():
        with gr.Column(scale=2):
            number = slider(1, _MOST, 5, step=1, label="sentences")
            decoding = decoding_fields(LONGEST, 60)
            draw = gr.Button("Write", variant="primary")
        drawn = gr.Textbox(
            label="sentences from the prior", lines=20, interactive=False, buttons=["copy"], elem_classes="drawn"
        )

    def sample(number: float, *chosen: float) -> str:
        return "\n".join(from_prior(model, whole(number, "sentences", 1, _MOST), decoding_of(*chosen)))

    draw.click(told(sample), [number, *decoding], drawn, **queue)
