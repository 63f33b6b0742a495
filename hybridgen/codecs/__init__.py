"""Codecs: raw things to tensors and back, saved inside every checkpoint as plain JSON.

>>> from hybridgen import codecs
>>> codec = codecs.make("characters", ["hello world"])
>>> codec.decode(codec.encode("hold"))
'hold'
>>> codecs.from_config(codec.to_config()).vocab_size
8
"""

from hybridgen.codecs.audio import AudioCodec, FramedCodec, MuLawCodec
from hybridgen.codecs.base import TextCodec
from hybridgen.codecs.bpe import BPECodec
from hybridgen.codecs.bytes import ByteCodec
from hybridgen.codecs.characters import CharacterCodec
from hybridgen.codecs.columns import FeatureGroup
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.image_rows import ImageRowsCodec
from hybridgen.codecs.log_mel import LogMelCodec
from hybridgen.codecs.pianoroll import PianoRollCodec
from hybridgen.codecs.registry import from_config, make, names, register
from hybridgen.codecs.saving import SavedCodec
from hybridgen.codecs.series import Series, SeriesCodec
from hybridgen.codecs.sketch import SketchCodec
from hybridgen.codecs.streams import DecodeStream
from hybridgen.codecs.words import WordCodec

__all__ = [
    "AudioCodec",
    "BPECodec",
    "ByteCodec",
    "CharacterCodec",
    "CodecError",
    "DecodeStream",
    "FeatureGroup",
    "FramedCodec",
    "ImageRowsCodec",
    "LogMelCodec",
    "MuLawCodec",
    "PianoRollCodec",
    "SavedCodec",
    "Series",
    "SeriesCodec",
    "SketchCodec",
    "TextCodec",
    "WordCodec",
    "from_config",
    "make",
    "names",
    "register",
]
