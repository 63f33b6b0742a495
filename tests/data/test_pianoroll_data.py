"""Piano rolls: sources, division, batches, transposition, files."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from hybridgen.codecs import PianoRollCodec
from hybridgen.data import DataError, ElementSequences, PianoRollData
from hybridgen.data.pianoroll_embedded import embedded_rolls
from hybridgen.data.pianoroll_files import read_mat, write_midi, write_picture, write_rolls


def rolls(number=9, width=88, seed=0):
    generator = np.random.default_rng(seed)
    found = [(generator.random((int(generator.integers(3, 12)), width)) < 0.1).astype(np.uint8) for _ in range(number)]
    for roll in found:
        roll[-1, width // 2] = 1
    return found


def write_mat(path, **parts):
    cells = {}
    for key, sequences in parts.items():
        cells[key] = np.empty((1, len(sequences)), dtype=object)
        for number, roll in enumerate(sequences):
            cells[key][0, number] = roll
    savemat(path, cells)


def test_the_embedded_music_is_four_part_harmony():
    parts = embedded_rolls()
    for found, labels in parts.values():
        assert set(labels) == {0, 1}
        assert all(set(roll.sum(1)) == {4} for roll in found)
        motion = np.concatenate([np.diff([np.flatnonzero(f) for f in roll], axis=0).ravel() for roll in found])
        assert np.abs(motion).mean() < 3  # semitones: voices are led, not thrown
    data = PianoRollData(labels=True)
    assert data.codec.labels == ["major", "minor"]
    batch = next(iter(data.train_dataloader()))
    assert batch.labels.shape == batch.lengths.shape
    assert PianoRollData().codec.labels == []


@pytest.mark.parametrize("name", ["jsb", "nottingham"])
def test_public_sets(name):
    home = os.environ.get("HYBRIDGEN_DATA")
    if home is None or not (Path(home) / "polymusic").is_dir():
        pytest.skip("the public sets are not here: set HYBRIDGEN_DATA to the folder that holds polymusic/")
    data = PianoRollData(source=name)
    sizes = {part: (len(found.rolls), sum(map(len, found.rolls))) for part, found in data.parts.items()}
    expected = {
        "jsb": {"train": (229, 13807), "valid": (76, 4602), "test": (77, 4725)},
        "nottingham": {"train": (694, 176561), "valid": (173, 45513), "test": (170, 44463)},
    }
    assert sizes == expected[name]
    assert sum(batch.num_elements for batch in data.test_dataloader()[0]) == sizes["test"][1]


def test_a_mat_file_is_read_and_its_faults_are_told(tmp_path):
    path = tmp_path / "set.mat"
    found = rolls()
    write_mat(path, traindata=found[:5], validdata=found[5:7], testdata=found[7:])
    data = PianoRollData(source=str(path))
    assert [len(part.rolls) for part in data.parts.values()] == [5, 2, 2]
    assert all(np.array_equal(a, b) for a, b in zip(data.parts["train"].rolls, found, strict=False))
    good = path.read_bytes()
    for content in (b"", b"not a mat file at all" * 20, good[: len(good) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"set\.mat (is no \.mat file, or damaged|has no)"):
            read_mat(path, 88)
    write_mat(path, traindata=found, testdata=found)
    with pytest.raises(DataError, match="has no 'validdata'"):
        read_mat(path, 88)
    write_mat(path, traindata=rolls(width=60), validdata=found, testdata=found)
    with pytest.raises(DataError, match=r"sequence 0 of 'traindata' in .*, not \(frames, 88\)"):
        read_mat(path, 88)
    write_mat(path, traindata=[found[0] * 2], validdata=found, testdata=found)
    with pytest.raises(DataError, match="values other than 0 and 1"):
        read_mat(path, 88)


def midi_folder(folder, number=10):
    codec, found = PianoRollCodec(), rolls(number)
    for k, roll in enumerate(found):
        place = folder / ("waltz" if k % 2 else "march")
        place.mkdir(exist_ok=True)
        write_midi(roll, place / f"{k}.mid", codec)
    return found


def test_a_folder_of_midi(tmp_path):
    found = midi_folder(tmp_path)
    data = PianoRollData(source=str(tmp_path), labels=True, valid_fraction=0.2, test_fraction=0.2)
    assert [len(part.rolls) for part in data.parts.values()] == [6, 2, 2]
    assert data.codec.labels == ["march", "waltz"]
    for part in data.parts.values():
        for roll, label, name in zip(part.rolls, part.labels, part.names, strict=True):
            assert np.array_equal(roll, found[int(Path(name).stem)])
            assert ["march", "waltz"][label] == Path(name).parent.name
    (tmp_path / "march" / "0.mid").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"0\.mid is no MIDI file"):
        _ = PianoRollData(source=str(tmp_path)).parts


def test_a_folder_that_is_divided_already(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / part).mkdir()
        midi_folder(tmp_path / part, number=2)
    data = PianoRollData(source=str(tmp_path))
    assert [len(part.rolls) for part in data.parts.values()] == [2, 2, 2]


@pytest.mark.parametrize("inside", ["", "opus"])
def test_classes_are_folders_below_the_parts(tmp_path, inside):
    for part in ("train", "valid", "test"):
        (tmp_path / part / inside).mkdir(parents=True)
        midi_folder(tmp_path / part / inside, number=4)
    data = PianoRollData(source=str(tmp_path), labels=True)
    assert data.codec.labels == ["march", "waltz"]
    for part in data.parts.values():
        assert [["march", "waltz"][label] for label in part.labels] == [Path(name).parent.name for name in part.names]


def test_parts_are_no_classes(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / part).mkdir()
        write_midi(rolls(1)[0], tmp_path / part / "0.mid", PianoRollCodec())
    with pytest.raises(DataError, match="are in one folder of each part, make one for each class"):
        _ = PianoRollData(source=str(tmp_path), labels=True).codec


@pytest.mark.parametrize("part", ["", "train"])
def test_files_without_a_class_are_refused(tmp_path, part):
    (tmp_path / part).mkdir(exist_ok=True)
    write_midi(rolls(1)[0], tmp_path / part / "0.mid", PianoRollCodec())
    write_midi(rolls(1)[0], tmp_path / part / "1.mid", PianoRollCodec())
    alone = {"source": str(tmp_path), "labels": True, "valid_fraction": 0, "test_fraction": 0}
    with pytest.raises(DataError, match=r"are in one folder( of each part)?, make one for each class"):
        _ = PianoRollData(**alone).codec
    midi_folder(tmp_path / part, number=4)
    with pytest.raises(DataError, match=r"0\.mid is in no folder of its own class.*, or set labels to false") as error:
        _ = PianoRollData(**alone).codec
    assert "\n" not in str(error.value)
    assert PianoRollData(**alone | {"labels": False}).codec.labels == []


def test_every_piece_is_in_one_batch_and_ranks_share_it():
    found = rolls(23)
    whole = ElementSequences(found, batch_size=4)
    seen = [batch for batch in whole]
    assert sorted(int(i) for batch in seen for i in batch.indices) == list(range(23))
    assert sum(batch.num_elements for batch in seen) == sum(map(len, found))
    for batch in seen:
        for row, length, index in zip(batch.elements, batch.lengths, batch.indices, strict=True):
            assert np.array_equal(row[:length].numpy(), found[int(index)])
            assert not row[length:].any()
    shares = [ElementSequences(found, batch_size=2, rank=rank, world_size=2) for rank in (0, 1)]
    assert len(shares[0]) == len(shares[1])
    indices = sorted(int(i) for share in shares for batch in share for i in batch.indices)
    assert indices == list(range(23))
    second = [batch.indices.tolist() for batch in whole]
    assert second != [batch.indices.tolist() for batch in seen]  # another epoch


def test_the_position_is_restored():
    found = rolls(20)

    def loader():
        return ElementSequences(found, batch_size=3, augment=lambda roll, g: roll * (g.random(roll.shape) < 0.5))

    first = loader()
    batches = iter(first)
    next(batches)
    state = first.state_dict()
    rest = [batch.elements for batch in batches]
    resumed = loader()
    resumed.load_state_dict(state)
    for mine, reference in zip(resumed, rest, strict=True):
        assert torch.equal(mine.elements, reference)


def test_long_pieces_are_cut():
    found = [np.ones((10, 4), dtype=np.uint8), np.ones((3, 4), dtype=np.uint8)]
    lengths = sorted(int(n) for batch in ElementSequences(found, batch_size=2, max_length=4) for n in batch.lengths)
    assert lengths == [3, 3, 3, 4]
    with pytest.raises(DataError, match="sequence 1 is empty"):
        ElementSequences([found[0], np.ones((0, 4))], batch_size=2)
    with pytest.raises(DataError, match="fewer than 3 processes"):
        ElementSequences(found, batch_size=2, world_size=3)


def test_transposition_keeps_intervals_and_the_keys():
    data = PianoRollData(transpose=40)
    roll = data.parts["train"].rolls[0]
    shifts = set()
    for seed in range(30):
        moved = data._transposed(roll, np.random.default_rng(seed))
        shift = int(np.flatnonzero(moved.any(0))[0] - np.flatnonzero(roll.any(0))[0])
        shifts.add(shift)
        assert np.array_equal(np.roll(moved, -shift, 1), roll)
        assert np.array_equal(np.diff(np.flatnonzero(moved[0])), np.diff(np.flatnonzero(roll[0])))
    assert len(shifts) > 5
    assert min(shifts) < 0 < max(shifts)
    same = next(iter(PianoRollData(transpose=3).val_dataloader()[0]))
    assert torch.equal(same.elements, next(iter(PianoRollData().val_dataloader()[0])).elements)


def test_what_is_written(tmp_path):
    codec, found = PianoRollCodec(), rolls(2)
    written = write_rolls(found, tmp_path / "out", codec)
    assert [path.name for path in written] == ["sample-0.mid", "sample-1.mid", "samples.png"]
    assert np.array_equal(codec.encode(written[1]).numpy(), found[1])
    assert written[2].read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(DataError, match=r"out holds sample-1\.mid, an older sample that is none of the 1"):
        write_rolls(found[:1], tmp_path / "out", codec)
    write_picture([np.zeros((4, 88))], tmp_path / "silence.svg", codec, titles=["silence"])
    assert "silence" in (tmp_path / "silence.svg").read_text() or (tmp_path / "silence.svg").stat().st_size > 1000
    for out, message in (("all.mid", "can hold one sample but there are 2"), ("all.wav", "has the suffix '.wav'")):
        with pytest.raises(DataError, match=message):
            write_rolls(found, tmp_path / out, codec)
    with pytest.raises(DataError, match="cannot be written"):
        write_midi(found[0], tmp_path / "nowhere" / "x.mid", codec)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "jbs"}, "did you mean 'jsb'"),
        ({"source": __file__}, "is no .mat set"),
        ({"source": "jsb", "labels": True}, "have no classes"),
        ({"num_keys": 12}, "the embedded music is on 88 keys"),
        ({"valid_fraction": 0.6, "test_fraction": 0.5}, "leave nothing to train on"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"transpose": -1}, "transpose=-1"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(DataError, match=message):
        PianoRollData(**options)


def test_folders_that_do_not_fit(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="has no MIDI files"):
        _ = PianoRollData(source=str(tmp_path)).parts
    write_midi(rolls(1)[0], tmp_path / "one.mid", PianoRollCodec())
    with pytest.raises(DataError, match="too few to divide"):
        _ = PianoRollData(source=str(tmp_path)).parts
    monkeypatch.setenv("HYBRIDGEN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="hybridgen data polymusic"):
        _ = PianoRollData(source="musedata").parts
