"""The page: a tab for each model."""

import html
from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from hybridgen.play.opened import Opened
from hybridgen.play.sentences_sheet import add_sentences
from hybridgen.play.sequences_sheet import add_sequences
from hybridgen.play.text_sheet import add_text

TITLE = "hybridgen play"
#: Seconds: how often files that are old are deleted, and how old that is.
_TIDY = (600, 3600)


def build(models: Sequence[Opened], folder: Path) -> gr.Blocks:
    """The page of some models.

    Args:
        models: at least one.
        folder: for files of what is generated.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=_TIDY) as page:
        if len(models) == 1:
            _add(models[0], folder / "0", 0)
        else:
            with gr.Tabs():
                for number, opened in enumerate(models):
                    with gr.Tab(opened.name):
                        _add(opened, folder / str(number), number)
    return page


def _add(opened: Opened, folder: Path, number: int) -> None:
    with gr.Column(elem_id=f"model-{number}"):
        gr.HTML(f"<strong>{html.escape(opened.name)}</strong> · {html.escape(opened.about)}")
        if opened.kind == "text":
            add_text(opened)
        elif opened.kind == "sentences":
            add_sentences(opened)
        else:
            add_sequences(opened, folder)
