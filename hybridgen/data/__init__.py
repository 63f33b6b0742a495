"""Data: text, series and sounds, found, downloaded, encoded once and batched.

>>> from hybridgen.data import TextData
>>> data = TextData(source="embedded", codec="characters", batch_size=32, bptt=128)
>>> data.vocab_size, data.counts["train"].tokens  # doctest: +SKIP

Names are imported when they are first used, so that ``hybridgen data`` answers without loading torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridgen.data.audio import AudioData
    from hybridgen.data.audio_writing import write_audio
    from hybridgen.data.batching import IGNORED, BatchLoader, TextBatch
    from hybridgen.data.download import fetch
    from hybridgen.data.elements import ElementBatch, ElementSequences
    from hybridgen.data.errors import DataError
    from hybridgen.data.image_rows import ImageRowsData
    from hybridgen.data.lanes import Lanes
    from hybridgen.data.lines import Lines
    from hybridgen.data.pianoroll import PianoRollData
    from hybridgen.data.public_sets import PUBLIC_SETS
    from hybridgen.data.series import SeriesData
    from hybridgen.data.series_batches import SequenceLoader, Sequences, SeriesBatch
    from hybridgen.data.series_writing import write_series
    from hybridgen.data.sketches import SketchData
    from hybridgen.data.text import TextData
    from hybridgen.data.tokens import TokenCounts, TokenFile
    from hybridgen.data.windows import ColdWindows

_MODULES = {
    "AudioData": "audio",
    "BatchLoader": "batching",
    "ColdWindows": "windows",
    "DataError": "errors",
    "ElementBatch": "elements",
    "ElementSequences": "elements",
    "IGNORED": "batching",
    "ImageRowsData": "image_rows",
    "Lanes": "lanes",
    "Lines": "lines",
    "PUBLIC_SETS": "public_sets",
    "PianoRollData": "pianoroll",
    "SequenceLoader": "series_batches",
    "Sequences": "series_batches",
    "SeriesBatch": "series_batches",
    "SeriesData": "series",
    "SketchData": "sketches",
    "TextBatch": "batching",
    "TextData": "text",
    "TokenCounts": "tokens",
    "TokenFile": "tokens",
    "fetch": "download",
    "write_audio": "audio_writing",
    "write_series": "series_writing",
}

__all__ = [
    "IGNORED",
    "PUBLIC_SETS",
    "AudioData",
    "BatchLoader",
    "ColdWindows",
    "DataError",
    "ElementBatch",
    "ElementSequences",
    "ImageRowsData",
    "Lanes",
    "Lines",
    "PianoRollData",
    "SequenceLoader",
    "Sequences",
    "SeriesBatch",
    "SeriesData",
    "SketchData",
    "TextBatch",
    "TextData",
    "TokenCounts",
    "TokenFile",
    "fetch",
    "write_audio",
    "write_series",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
