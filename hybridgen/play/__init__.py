"""A page to play with trained models: `hybridgen play`.

What a model does for the page is in :mod:`~hybridgen.play.text`, :mod:`~hybridgen.play.sentences` and
:mod:`~hybridgen.play.sequences`, plain functions that know no Gradio; :mod:`~hybridgen.play.page` and the ``*_sheet``
modules lay them out; :mod:`~hybridgen.play.serving` is the server. Gradio is imported in these last alone.
"""
