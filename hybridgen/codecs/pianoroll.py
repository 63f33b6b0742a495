"""The piano-roll codec: MIDI to frames of keys and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hybridgen.codecs.checks import check_count
from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.labels import check_labels
from hybridgen.codecs.saving import SavedCodec

if TYPE_CHECKING:
    import mido

_TICKS_PER_BEAT = 480
_VELOCITY = 80
_DRUMS = 9  # the channel whose notes are no pitches
_SLOWEST = 0xFFFFFF  # microseconds of a beat: MIDI has three bytes for them
_MOST_FRAMES = 1_000_000  # a damaged file can claim to last for years


class PianoRollCodec(SavedCodec):
    """Music as frames ``(T, K)`` of K keys, each 1 where a note sounds and 0 where none does.

    A frame lasts ``1 / frames_per_beat`` of a beat, which is a quarter note whatever the tempo. A roll does not say
    where a note is struck again: a key that sounds in consecutive frames is written as one long note.

    Args:
        lowest_key: MIDI number of the first key; 21 is the piano's A0.
        num_keys: How many keys; a piano has 88.
        frames_per_beat: Frames in a quarter note: 1 for the chorales of ``JSB_Chorales.mat``, 4 for sixteenths.
        tempo: Quarter notes in a minute, for the MIDI files that are written; MIDI has none below 3.58.
        program: General MIDI instrument of those, 0 to 127: 0 is the piano, 19 the church organ, 52 a choir.
        labels: The names of the classes, in the order of their numbers.

    Raises:
        CodecError: An argument is not as described.
    """

    name = "pianoroll"

    def __init__(
        self,
        *,
        lowest_key: int = 21,
        num_keys: int = 88,
        frames_per_beat: float = 1.0,
        tempo: float = 90.0,
        program: int = 0,
        labels: Sequence[str] = (),
    ) -> None:
        check_count(lowest_key, "lowest_key", 0)
        check_count(num_keys, "num_keys", 1)
        check_count(program, "program", 0)
        if lowest_key + num_keys > 128:
            raise CodecError(f"lowest_key={lowest_key} and num_keys={num_keys} go beyond MIDI's 127: lower one of them")
        if program > 127:
            raise CodecError(f"program={program} is no General MIDI instrument: give a number from 0 to 127")
        for option, value in (("frames_per_beat", frames_per_beat), ("tempo", tempo)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise CodecError(f"{option}={value!r} must be a number above 0: give such a number")
        if not 1 <= round(60e6 / tempo) <= _SLOWEST:
            raise CodecError(f"tempo={tempo!r} cannot be written in MIDI: give one from 3.6 to 60 million")
        self.lowest_key = lowest_key
        self.num_keys = num_keys
        self.frames_per_beat = float(frames_per_beat)
        self.tempo = float(tempo)
        self.program = program
        self.labels = check_labels(labels)

    @property
    def num_features(self) -> int:
        """Width of a frame."""
        return self.num_keys

    def encode(self, music: str | Path | mido.MidiFile) -> Tensor:
        """Turn MIDI into frames.

        Notes begin and end at the nearest frame and last at least one; drums and keys outside the roll are left out; a
        note that is never released lasts to the end.

        Args:
            music: The path of a MIDI file, or a ``mido.MidiFile``.

        Returns:
            ``(T, num_keys)`` uint8, from the file's start to the end of its last note.

        Raises:
            CodecError: The file is not there, is no MIDI, is damaged, or has no note on these keys.
        """
        name = f"the MIDI file {music}" if isinstance(music, str | Path) else "the music"
        midi = _open_midi(Path(music)) if isinstance(music, str | Path) else music
        # ticks_per_beat is negative where a file counts in film frames instead of beats.
        if midi.type == 2 or midi.ticks_per_beat < 1:
            raise CodecError(f"{name} has no common beat (type 2, or SMPTE time): save it as type 0 or 1 with beats")
        notes = list(self._notes(midi))
        if not notes:
            raise CodecError(
                f"{name} has no notes between keys {self.lowest_key} and {self.lowest_key + self.num_keys - 1}: "
                "give one with notes, or other lowest_key and num_keys"
            )
        length = max(end for _, _, end in notes)
        if length > _MOST_FRAMES:
            raise CodecError(f"{name} would be {length} frames long: it is damaged, or frames_per_beat is too high")
        roll = np.zeros((length, self.num_keys), dtype=np.uint8)
        for key, start, end in notes:
            roll[start:end, key] = 1
        return torch.from_numpy(roll)

    def decode(self, frames: Tensor | np.ndarray) -> mido.MidiFile:
        """Turn frames into MIDI, a track of one instrument.

        Args:
            frames: ``(T, num_keys)``, on any device: a note sounds where a value is above 0.5.

        Returns:
            A ``mido.MidiFile``; ``save(path)`` writes it.

        Raises:
            CodecError: The shape does not fit.
        """
        import mido

        roll = self.check(frames)
        midi = mido.MidiFile(ticks_per_beat=_TICKS_PER_BEAT)
        track = mido.MidiTrack()
        midi.tracks.append(track)
        track.append(mido.MetaMessage("set_tempo", tempo=round(60e6 / self.tempo)))
        track.append(mido.Message("program_change", program=self.program))
        silence = np.zeros((1, self.num_keys), dtype=np.int8)
        changes = np.diff(np.concatenate([silence, roll.astype(np.int8), silence]), axis=0)  # (T + 1, K)
        now = 0
        for frame in np.flatnonzero(changes.any(1)):
            tick = round(frame * _TICKS_PER_BEAT / self.frames_per_beat)
            for kind, sign in (("note_off", -1), ("note_on", 1)):  # released first, so that nothing overlaps
                for key in np.flatnonzero(changes[frame] == sign):
                    note = self.lowest_key + int(key)
                    track.append(mido.Message(kind, note=note, velocity=_VELOCITY, time=tick - now))
                    now = tick
        # Silence at the end is music too.
        end = round(len(roll) * _TICKS_PER_BEAT / self.frames_per_beat)
        track.append(mido.MetaMessage("end_of_track", time=max(0, end - now)))
        return midi

    def check(self, frames: Tensor | np.ndarray) -> np.ndarray:
        """Return frames ``(T, num_keys)`` as a bool array of that shape.

        Raises:
            CodecError: They have another shape.
        """
        array = frames.detach().float().cpu().numpy() if isinstance(frames, Tensor) else np.asarray(frames)
        if array.ndim != 2 or array.shape[1] != self.num_keys:
            raise CodecError(
                f"a roll has the shape (T, {self.num_keys}) but this one {array.shape}: give one at a time"
            )
        return array > 0.5

    def _notes(self, midi: mido.MidiFile) -> list[tuple[int, int, int]]:
        """Key of the roll, first frame and frame after the last of every note."""
        import mido

        frames_per_tick = self.frames_per_beat / midi.ticks_per_beat
        sounding: dict[tuple[int, int], int] = {}  # (channel, note) -> tick of its start
        found, tick = [], 0

        def ends(note: int, start: int) -> None:
            key = note - self.lowest_key
            if 0 <= key < self.num_keys:
                first = math.floor(start * frames_per_tick + 0.5)
                found.append((key, first, max(first + 1, math.floor(tick * frames_per_tick + 0.5))))

        for message in mido.merge_tracks(midi.tracks):
            tick += message.time
            if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
                continue
            which = (message.channel, message.note)
            if which in sounding:  # struck again: the first one ends
                ends(message.note, sounding.pop(which))
            if message.type == "note_on" and message.velocity > 0:
                sounding[which] = tick
        for (_, note), start in sounding.items():
            ends(note, start)
        return found

    def _options(self) -> dict[str, Any]:
        return {
            "lowest_key": self.lowest_key,
            "num_keys": self.num_keys,
            "frames_per_beat": self.frames_per_beat,
            "tempo": self.tempo,
            "program": self.program,
            "labels": list(self.labels),
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_keys={self.num_keys}, frames_per_beat={self.frames_per_beat:g})"


def _open_midi(path: Path) -> mido.MidiFile:
    import mido

    if not path.is_file():
        raise CodecError(f"there is no MIDI file {path}: give the path of a .mid file")
    try:
        return mido.MidiFile(path, clip=True)
    except Exception as error:  # whatever a damaged file makes the parser stumble over
        reason = str(error) or "it ends too soon"
        raise CodecError(f"{path} is no MIDI file, or damaged ({reason}): give a standard MIDI file") from None
