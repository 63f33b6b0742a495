"""Decoding: how sequences are drawn from, or searched under, a model that predicts one token at a time.

The model is a function ``step(tokens (B,), state) -> (logits (B, V), state)``; this room knows no model.
"""

from hybridgen.generation.beam import Beams, beam_search
from hybridgen.generation.options import DecodingOptions
from hybridgen.generation.sampling import Samples, StreamStep, sample, stream
from hybridgen.generation.stop_strings import TextStream

__all__ = [
    "Beams",
    "DecodingOptions",
    "Samples",
    "StreamStep",
    "TextStream",
    "beam_search",
    "sample",
    "stream",
]
