"""MIDI to frames and back."""

import mido
import numpy as np
import pytest
import torch

from hybridgen import codecs
from hybridgen.codecs import CodecError, PianoRollCodec


def song(events, *, ticks=480, channel=0, kind=1):
    """A MIDI file of ``(tick, note, velocity)``; velocity 0 releases."""
    midi, now = mido.MidiFile(ticks_per_beat=ticks, type=kind), 0
    track = mido.MidiTrack()
    midi.tracks.append(track)
    for tick, note, velocity in events:
        track.append(mido.Message("note_on", note=note, velocity=velocity, time=tick - now, channel=channel))
        now = tick
    return midi


@pytest.mark.parametrize("frames_per_beat", [1, 2, 4, 3, 0.5])
def test_any_roll_comes_back(frames_per_beat, tmp_path):
    codec = PianoRollCodec(frames_per_beat=frames_per_beat, program=19)
    roll = torch.rand(50, 88) < 0.05
    roll[-1, 3] = True  # else silence at the end, which no note tells of
    codec.decode(roll).save(tmp_path / "roll.mid")
    assert torch.equal(codec.encode(tmp_path / "roll.mid").bool(), roll)
    assert torch.equal(codec.encode(codec.decode(roll.float().numpy())).bool(), roll)


def test_notes_are_where_they_sound():
    codec = PianoRollCodec(frames_per_beat=2)
    # A quarter of middle C, then a long E that is struck again, and a C that is never released.
    events = [(0, 60, 80), (480, 60, 0), (480, 64, 80), (960, 64, 90), (1200, 64, 0), (1200, 72, 70), (1440, 40, 80)]
    roll = codec.encode(song([*events, (1680, 40, 0)]))
    assert roll.shape == (7, 88)
    sounding = {int(key) + 21: roll[:, key].nonzero().flatten().tolist() for key in roll.any(0).nonzero().flatten()}
    assert sounding == {60: [0, 1], 64: [2, 3, 4], 72: [5, 6], 40: [6]}


def test_short_notes_last_a_frame_and_drums_none():
    codec = PianoRollCodec()
    assert codec.encode(song([(0, 60, 80), (10, 60, 0)])).sum() == 1
    with pytest.raises(CodecError, match="has no notes between keys 21 and 108"):
        codec.encode(song([(0, 40, 80), (480, 40, 0)], channel=9))
    with pytest.raises(CodecError, match="no notes between keys 60 and 71"):
        PianoRollCodec(lowest_key=60, num_keys=12).encode(song([(0, 40, 80), (480, 40, 0)]))


def test_it_travels_as_json():
    codec = PianoRollCodec(frames_per_beat=4, tempo=72, labels=["major", "minor"])
    twin = codecs.from_config(codec.to_config())
    assert twin.to_config() == codec.to_config()
    assert (twin.num_features, twin.labels) == (88, ["major", "minor"])


def test_files_that_are_no_music(tmp_path):
    codec = PianoRollCodec()
    path = tmp_path / "x.mid"
    with pytest.raises(CodecError, match="there is no MIDI file"):
        codec.encode(path)
    song([(0, 60, 80), (480, 60, 0)]).save(path)
    good = path.read_bytes()
    for content in (b"", b"hello, this is text", good[:25], good[:14] + b"MTrk\xff\xff\xff\xff"):
        path.write_bytes(content)
        with pytest.raises(CodecError, match=r"x\.mid is no MIDI file, or damaged"):
            codec.encode(path)
    song([]).save(path)
    with pytest.raises(CodecError, match=r"x\.mid has no notes"):
        codec.encode(path)
    with pytest.raises(CodecError, match="no common beat"):
        codec.encode(song([(0, 60, 80), (480, 60, 0)], kind=2))
    with pytest.raises(CodecError, match="frames long"):
        codec.encode(song([(0, 60, 80), (2**40, 60, 0)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest_key": 100}, "go beyond MIDI's 127"),
        ({"frames_per_beat": 0}, "frames_per_beat=0 must be"),
        ({"tempo": float("inf")}, "tempo=inf must be"),
        ({"program": 128}, "no General MIDI instrument"),
        ({"labels": ["a", "a"]}, "is not a list of different names"),
        ({"labels": "ab"}, "labels='ab' is not a list of different names"),
        ({"tempo": 3.57}, "tempo=3.57 cannot be written in MIDI: give one from 3.6"),
        ({"tempo": 1e9}, "cannot be written in MIDI"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(CodecError, match=message):
        PianoRollCodec(**options)


@pytest.mark.parametrize("tempo", [3.6, 60e6])
def test_the_slowest_and_the_fastest_tempo_are_written(tempo, tmp_path):
    PianoRollCodec(tempo=tempo).decode(np.eye(88)).save(tmp_path / "roll.mid")
    (beat,) = (m.tempo for m in mido.MidiFile(tmp_path / "roll.mid").tracks[0] if m.type == "set_tempo")
    assert 60e6 / beat == pytest.approx(tempo)


def test_shapes_that_do_not_fit():
    with pytest.raises(CodecError, match=r"a roll has the shape \(T, 88\)"):
        PianoRollCodec().decode(np.zeros((3, 87)))
    assert len(PianoRollCodec().decode(np.zeros((0, 88))).tracks) == 1
