"""Sounds under Lightning: folders, public sets and drawn notes, as frames that sound like them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hybridgen.codecs.audio import FramedCodec
from hybridgen.data import AudioData, DataError, write_audio
from hybridgen.data.synthetic_notes import INSTRUMENTS, Note

RATE = 8000


def few(**options):
    return AudioData(**{"num_notes": 40, "note_seconds": 0.15, **options})


def save(path, seconds=0.1, rate=RATE, level=0.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, level * np.sin(2 * np.pi * 500 * time), rate, subtype="PCM_16")
    return path


@pytest.fixture
def folder(tmp_path):
    """Ten sounds of two classes, from 0.10 to 0.19 seconds."""
    for number in range(10):
        save(tmp_path / "sounds" / ("cat" if number % 2 else "dog") / f"{number}_kim.wav", 0.1 + number / 100)
    return tmp_path / "sounds"


@pytest.mark.parametrize("pitch", [48, 60, 69, 84])
@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_notes_are_in_tune(instrument, pitch):
    note = Note(instrument, pitch, 1)
    waveform = note.play(RATE, 0.5)
    assert waveform.shape == (4000,)
    assert np.abs(waveform).max() == 1
    assert np.square(waveform[3000:]).mean() < 0.5 * np.square(waveform[:1000]).mean()  # they decay
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(4000), 1 << 16))
    near = np.arange(round(0.9 * note.frequency * 65536 / RATE), round(1.1 * note.frequency * 65536 / RATE))
    found = near[spectrum[near].argmax()] * RATE / 65536
    assert abs(1200 * np.log2(found / note.frequency)) < 5  # hundredths of a semitone
    assert not np.array_equal(waveform, Note(instrument, pitch, 2).play(RATE, 0.5))


def test_notes_run_with_no_file():
    data = few()
    assert data.counts == {"train": 32, "valid": 4, "test": 4}
    assert (data.sample_rate, data.codec.labels) == (RATE, ["plucked", "struck"])
    batch = next(iter(data.train_dataloader()))
    assert batch.values.shape == (32, 10, 64)
    assert batch.values.max() == 1  # scaled to the loudest of the training sounds
    assert batch.lengths is None
    assert few(note_labels="both").codec.labels[:2] == ["plucked A#3", "plucked A3"]
    assert few(note_labels="none").codec.labels == []
    assert few(note_labels="none").sequences("train").labels is None


@pytest.mark.parametrize("codec", ["log_mel", "framed", "mu_law"])
def test_batches_are_what_the_codec_makes_of_the_waveforms(folder, codec):
    data = AudioData(source=str(folder), codec=codec)
    batch = data.sequences("train").batch()
    waveforms = data.waveforms("train", batch.indices)
    assert batch.lengths.unique().numel() > 1
    for row, waveform in enumerate(waveforms):
        frames = data.codec.encode(waveform)
        assert frames.equal(batch.values[row, : batch.lengths[row]])
        assert (batch.values[row, batch.lengths[row] :] == 0).all()
    saved = AudioData(source=str(folder), codec=json.loads(json.dumps(data.codec.to_config())))
    assert saved.codec.to_config() == data.codec.to_config()
    assert saved.sequences("train").batch().values.equal(batch.values)


def test_labels_of_folders_names_and_choice(folder):
    data = AudioData(source=str(folder), valid_fraction=0, test_fraction=0)
    assert data.codec.labels == ["cat", "dog"]
    assert data.sequences("train").labels.tolist() == [0] * 5 + [1] * 5
    by_name = AudioData(source=str(folder), label_pattern=r"(?P<label>\d+)_", valid_fraction=0, test_fraction=0)
    assert by_name.codec.labels == [str(number) for number in range(10)]
    assert AudioData(source=str(folder), labels=["cat"], valid_fraction=0, test_fraction=0).counts == {"train": 5}
    assert AudioData(source=str(folder), labelled=False).codec.labels == []


def test_parts_of_folders(tmp_path):
    for part, number in (("train", 3), ("valid", 1), ("test", 2)):
        for index in range(number):
            save(tmp_path / part / "a" / f"{index}.wav")
    data = AudioData(source=str(tmp_path))
    assert data.counts == {"train": 3, "valid": 1, "test": 2}
    assert data.codec.labels == ["a"]


def test_one_form_of_all_sounds(tmp_path):
    save(tmp_path / "a.wav", 0.1, level=0.1)
    save(tmp_path / "b.wav", 0.2, rate=16_000)
    stereo = np.zeros((1600, 2))
    stereo[480:, 0] = 0.5
    soundfile.write(tmp_path / "c.flac", stereo, RATE)
    options = {"source": str(tmp_path), "codec": "framed", "valid_fraction": 0, "test_fraction": 0}
    data = AudioData(**options, sample_rate=RATE)
    assert [len(waveform) for waveform in data.waveforms("train")] == [800, 1600, 1600]
    assert [float(waveform.abs().max()) for waveform in data.waveforms("train")] == [1, 1, 1]
    quiet = AudioData(**options, sample_rate=RATE, normalise=False, trim=30, length=0.15)
    assert [len(waveform) for waveform in quiet.waveforms("train")] == [1200] * 3
    assert float(quiet.waveforms("train")[2][0]) == pytest.approx(0.25, abs=1e-4)  # the mean of both channels, trimmed
    with pytest.raises(DataError, match=r"b\.wav has 16000 samples in a second but others have 8000: set sample_rate"):
        AudioData(**options).prepare_data()


def test_long_sounds_are_cut_into_pieces(folder):
    whole = AudioData(source=str(folder), codec="framed", valid_fraction=0, test_fraction=0)
    data = AudioData(source=str(folder), codec="framed", length=0.06, pieces=True, valid_fraction=0, test_fraction=0)
    pieces = data.waveforms("train")
    assert {len(piece) for piece in pieces} == {480}
    assert len(pieces) == sum(-(-len(waveform) // 480) for waveform in whole.waveforms("train"))
    first = whole.waveforms("train")[0]
    assert torch.cat(pieces[:2])[: len(first)].equal(first)
    assert data.counts["train"] == len(pieces)


def test_public_layouts(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDGEN_DATA", str(tmp_path))
    for speaker in ("jackson", "theo"):
        for index in range(8):
            save(tmp_path / "fsdd" / "recordings" / f"7_{speaker}_{index}.wav")
    digits = AudioData(source="fsdd", valid_fraction=0)
    assert digits.counts == {"train": 6, "test": 10}  # 0 to 4 are the official test part
    assert digits.codec.labels == ["7"]
    commands = tmp_path / "SpeechCommands" / "speech_commands_v0.02"
    for name in ("yes/a.wav", "yes/b.wav", "no/a.wav", "no/c.wav", "_background_noise_/hum.wav"):
        save(commands / name)
    (commands / "validation_list.txt").write_text("yes/a.wav\n")
    (commands / "testing_list.txt").write_text("no/a.wav\n")
    spoken = AudioData(source="speechcommands")
    assert spoken.counts == {"train": 2, "valid": 1, "test": 1}
    assert spoken.codec.labels == ["no", "yes"]
    for name in ("waves_yesno/0_1_0.wav", "LJSpeech-1.1/wavs/LJ001-0001.wav"):
        save(tmp_path / name)
    for source in ("yesno", "ljspeech"):
        data = AudioData(source=source, valid_fraction=0, test_fraction=0)
        assert data.counts == {"train": 1}
        assert data.codec.labels == []


def test_a_public_set_that_is_not_here_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HYBRIDGEN_DATA", raising=False)
    with pytest.raises(DataError, match="'fsdd' is not on this machine: run `hybridgen data fsdd`, or set"):
        AudioData(source="fsdd")
    with pytest.raises(DataError, match="'ljspeech' is not on this machine: set HYBRIDGEN_DATA to the folder"):
        AudioData(source="ljspeech")


def test_the_spoken_digits():
    home = os.environ.get("HYBRIDGEN_DATA")
    if home is None or not (Path(home) / "fsdd" / "recordings").is_dir():
        pytest.skip("fsdd is not here: get it with `hybridgen data fsdd`, or set HYBRIDGEN_DATA")
    data = AudioData(source="fsdd", labels=["3"])
    assert data.counts == {"train": 243, "valid": 27, "test": 30}
    (waveform,) = data.waveforms("test", [0])
    (back,) = data.codec.decode(data.codec.encode(waveform)[None])
    spectra = [
        torch.stft(sound[: len(back)], 512, window=torch.hann_window(512), return_complex=True).abs()
        for sound in (waveform, back)
    ]
    assert (spectra[0] - spectra[1]).norm() / spectra[0].norm() < 0.4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"source": "note"}, "there is no folder note and no source of that name: did you mean 'notes'"),
        ({"codec": "logmel"}, "codec='logmel' is unknown: did you mean 'log_mel'"),
        ({"codec_options": {"num_mel": 3}}, "codec_options: the log_mel codec has no option 'num_mel'"),
        ({"codec_options": {"num_mels": 900}}, "num_mels=900 bands are more than"),
        ({"codec": {"codec": "bytes", "version": 1, "specials": []}}, "codec is a 'bytes' codec, not one of sounds"),
        ({"codec": {"codec": "framed"}, "codec_options": {"hop_length": 1}}, "cannot change a saved codec"),
        ({"labels": ["pluckd"]}, "notes has no label 'pluckd': did you mean 'plucked'"),
        ({"length": 0}, "length=0 must be a number of seconds above 0"),
        ({"pieces": True}, "pieces needs length"),
        ({"trim": -3.0}, "trim=-3.0 must be above 0 decibels"),
        ({"sample_rate": 10**9}, "sample_rate=1000000000 must be .* at most 768000"),
        (
            {"codec": FramedCodec(sample_rate=8000).to_config(), "sample_rate": 16000},
            "sample_rate=16000 is not that of the given codec, 8000: set it to 8000",
        ),
        ({"codec_options": {"sample_rate": 16000}}, "codec_options names sample_rate, .*set data.sample_rate"),
        ({"codec": FramedCodec(sample_rate=10**9).to_config()}, "the codec's sample_rate=1000000000 must be"),
        ({"length": 1e12}, "length=1000000000000.0 must be a number of seconds above 0 and at most 3600"),
        ({"num_notes": 10**13}, r"num_notes would draw 1e\+13 numbers"),
        ({"num_notes": 10**5, "note_seconds": 100.0}, "num_notes, note_seconds and sample_rate would draw 8e"),
        ({"sample_rate": 8}, "sample_rate=8 must be a whole number of at least 1000"),
        ({"lowest_pitch": 20}, "lowest_pitch=20 and highest_pitch=68 must be MIDI numbers of 48"),
        ({"num_notes": 2}, "notes has 2 sounds, too few to divide"),
        ({"note_seconds": "long"}, "note_seconds='long' must be a number of seconds"),
    ],
)
def test_an_option_that_cannot_be_ends_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        few(**options).prepare_data()
    assert "\n" not in str(error.value)


def test_the_rate_of_a_saved_codec_may_be_said_again():
    codec = FramedCodec(sample_rate=16000).to_config()
    for rate in (None, 16000):
        assert few(codec=codec, sample_rate=rate).sample_rate == 16000


def test_a_folder_that_cannot_be_used_is_named(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no wav or flac file: give the folder that holds the sounds"):
        AudioData(source=str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"has no file that matches pattern='\*\.ogg'"):
        AudioData(source=str(folder), pattern="*.ogg")
    with pytest.raises(DataError, match=r"0_kim\.wav is a file: give the folder"):
        AudioData(source=str(folder / "dog" / "0_kim.wav"))
    with pytest.raises(DataError, match=r"label_pattern='\(' is no regular expression"):
        AudioData(source=str(folder), label_pattern="(")
    with pytest.raises(DataError, match="has no group 'label'"):
        AudioData(source=str(folder), label_pattern="kim")
    with pytest.raises(DataError, match="finds no label in the name"):
        AudioData(source=str(folder), label_pattern="(?P<label>tom)")
    with pytest.raises(DataError, match="has no label 'cow'"):
        AudioData(source=str(folder), labels=["cow"])
    save(folder / "lost.wav")
    with pytest.raises(DataError, match=r"lost\.wav has no label, for it is in no folder of its own"):
        AudioData(source=str(folder))


def test_one_bad_file_among_good_ones_is_named(folder):
    path = folder / "cat" / "1_kim.wav"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"1_kim\.wav is cut short"):
        AudioData(source=str(folder)).prepare_data()
    save(path, level=0.0)
    assert AudioData(source=str(folder)).counts  # silence is a sound
    with pytest.raises(DataError, match=r"1_kim\.wav is silent throughout: remove it, or leave out trim"):
        AudioData(source=str(folder), trim=40).prepare_data()


def test_sounds_are_written_and_read_back(tmp_path):
    waveforms = [torch.linspace(-0.5, 0.5, 900), torch.full((400,), 2.0), np.zeros(100, dtype=np.float32)]
    paths = write_audio(
        tmp_path / "out",
        waveforms,
        sample_rate=RATE,
        labels=["dog", "plucked A#3", "a/b"],
        details=[{"seed": seed} for seed in range(3)],
    )
    assert [path.name for path in paths] == ["0000_dog.wav", "0001_plucked-A#3.wav", "0002.wav"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert lines[1] == {
        "file": "0001_plucked-A#3.wav",
        "label": "plucked A#3",
        "seconds": 0.05,
        "sample_rate": RATE,
        "peak": 2.0,
        "seed": 1,
    }
    assert lines[2]["label"] == "a/b"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*(p.name for p in paths), "manifest.jsonl"]
    read, rate = soundfile.read(paths[0])
    assert rate == RATE
    np.testing.assert_allclose(read, waveforms[0].numpy(), atol=1 / 32768)
    assert soundfile.read(paths[1])[0].max() > 0.999  # turned down, not clipped
    data = AudioData(
        source=str(tmp_path / "out"),
        pattern="*_*.wav",
        label_pattern="_(?P<label>.+)",
        valid_fraction=0,
        test_fraction=0,
    )
    assert data.codec.labels == ["dog", "plucked-A#3"]


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    out = tmp_path / "out"
    for waveforms, sentence in (
        ([], "there is no sound to write"),
        ([torch.zeros(4), torch.tensor([float("nan")])], "sound 1 is empty or has samples that are not finite"),
        ([torch.zeros(0)], "sound 0 is empty"),
    ):
        with pytest.raises(DataError, match=sentence):
            write_audio(out, waveforms, sample_rate=RATE)
        assert not out.exists()
    write_audio(out, [torch.zeros(4)], sample_rate=RATE)
    with pytest.raises(DataError, match=r"holds sounds already .it has a manifest\.jsonl.: choose a new folder"):
        write_audio(out, [torch.zeros(4)], sample_rate=RATE)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "0001.wav").write_bytes(b"a person's own")
    with pytest.raises(DataError, match=r"0001\.wav is there already: choose a new folder, or remove it"):
        write_audio(tmp_path / "own", [torch.zeros(4)] * 2, sample_rate=RATE)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["0001.wav"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_audio(tmp_path / "file", [torch.zeros(4)], sample_rate=RATE)
