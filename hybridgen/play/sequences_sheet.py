"""The sheet of a model of series, sounds, piano rolls, images or sketches."""

import shutil
from itertools import count
from pathlib import Path
from typing import Any

import gradio as gr

from hybridgen.play.opened import Opened
from hybridgen.play.sequences import Controls, Made, controls_of, make
from hybridgen.play.telling import LARGEST_SEED, LONGEST, slider, told, whole

#: Folders of what was made last that are kept; Gradio has copied what it shows.
_KEPT = 4


def add_sequences(opened: Opened, folder: Path) -> None:
    """Lay out a model of sequences where the page is being built.

    Args:
        opened: the model.
        folder: of its own, where files go.
    """
    controls = controls_of(opened.model)
    with gr.Row():
        with gr.Column(scale=2):
            fields = _fields(controls)
            sliders = _sliders(controls)
            with gr.Row():
                generate = gr.Button("Generate", variant="primary")
                another = gr.Button("Another seed")
        with gr.Column(scale=3):
            picture = gr.Image(
                label="picture",
                interactive=False,
                type="filepath",
                format="png",
                height=460,
                buttons=["download", "fullscreen"],
            )
            players = [
                gr.Audio(
                    label=f"sound {number}",
                    interactive=False,
                    type="filepath",
                    visible=number == 0,
                    buttons=["download"],
                )
                for number in range(controls.most if controls.sounds else 0)
            ]
            files = gr.File(label="files", file_count="multiple", interactive=False)
    names, numbers = list(fields), count()

    def produce(*values: Any) -> list[Any]:
        chosen, moved = dict(zip(names, values, strict=False)), values[len(names) :]
        number = next(numbers)
        made = make(opened.model, folder / str(number), **_options(controls, chosen, moved))
        shutil.rmtree(folder / str(number - _KEPT), ignore_errors=True)
        return [*_shown(made, len(players)), [str(path) for path in made.files]]

    def at_the_point(*values: Any) -> list[Any]:
        """What the sliders say holds as soon as one of them is moved."""
        return [True, *produce(*values[: len(names)], True, *values[len(names) + 1 :])]

    queue = {"concurrency_limit": 1, "concurrency_id": opened.path, "api_name": False}
    given, outputs = [*fields.values(), *sliders], [picture, *players, files]
    generate.click(told(produce), given, outputs, **queue)
    step = another.click(told(lambda seed: whole(seed, "seed") + 1), fields["seed"], fields["seed"], **queue)
    step.success(told(produce), given, outputs, **queue)
    if sliders:
        switch, *points = sliders
        switch.input(told(produce), given, outputs, **queue)
        # While a slider is drawn its last place counts: those on the way there need not be made.
        last = {"trigger_mode": "always_last", "show_progress": "minimal"}
        gr.on([point.input for point in points], told(at_the_point), given, [switch, *outputs], **last, **queue)


def _fields(controls: Controls) -> dict[str, Any]:
    """The fields that every kind of model may have, by name."""
    fields: dict[str, Any] = {}
    if controls.labels:
        choices = [("any", ""), *((label, label) for label in controls.labels)]
        fields["label"] = gr.Dropdown(choices, value="", label="label", info="class of all samples")
    fields["num_samples"] = slider(1, controls.most, min(2, controls.most), step=1, label="samples")
    if controls.length:
        fields["length"] = gr.Number(0, label="length", precision=0, info="steps; 0: as usual")
    if controls.temperature:
        fields["temperature"] = slider(0.0, 2.0, 1.0, step=0.05, label="temperature")
    fields["seed"] = gr.Number(0, label="seed", precision=0, info="the same seed makes the same again")
    return fields


def _sliders(controls: Controls) -> list[Any]:
    """A switch and the sliders of the latent, none for a model without."""
    if not controls.dimensions:
        return []
    with gr.Accordion("A point of the latent", open=True):
        switch = gr.Checkbox(False, label="choose the latent", info="its other dimensions come from the seed")
        return [
            switch,
            *(slider(-3, 3, 0, step=0.05, label=f"latent {dimension}") for dimension in controls.dimensions),
        ]


def _options(controls: Controls, chosen: dict[str, Any], moved: tuple[Any, ...]) -> dict[str, Any]:
    """What the fields say, as arguments of :func:`hybridgen.play.sequences.make`.

    Raises:
        ValueError: if a field is empty, or holds a number that does not fit.
    """
    options = {
        "num_samples": whole(chosen["num_samples"], "samples", 1, controls.most),
        "seed": whole(chosen["seed"], "seed", 0, LARGEST_SEED),
        "label": chosen.get("label") or "",
        "temperature": chosen.get("temperature", 1.0),
    }
    if controls.length and (length := whole(chosen["length"], "length", 0, LONGEST)):
        options["length"] = length
    if moved and moved[0]:
        options["latents"] = dict(zip(controls.dimensions, moved[1:], strict=True))
    return options


def _shown(made: Made, players: int) -> list[Any]:
    """The picture, and a player for each sound; the first stays where there is none."""
    sounds = [
        gr.update(value=str(made.sounds[number]), visible=True)
        if number < len(made.sounds)
        else gr.update(value=None, visible=number == 0)
        for number in range(players)
    ]
    return [None if made.picture is None else str(made.picture), *sounds]
