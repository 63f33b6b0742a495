"""Sketches: what is read, that nothing in a file is run, how it is batched and written."""

import os
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from hybridgen.data import DataError, SketchData
from hybridgen.data.sketch_files import sketch_svg, write_sketches


def sketches(number, points=4, seed=0):
    random = np.random.default_rng(seed)
    found = np.empty(number, dtype=object)
    found[:] = [
        np.column_stack([random.integers(-9, 9, (points + k, 2)), np.arange(points + k) % 3 == 2]).astype(np.int16)
        for k in range(number)
    ]
    return found


def save(path, **parts):
    np.savez(path, **{part: value for part, value in parts.items()})
    return str(path)


def spoil(path, place):
    """Damage the compressed bytes of an npz file."""
    np.savez_compressed(path, train=sketches(30))
    content = bytearray(path.read_bytes())
    content[place : place + 20] = b"\xff" * 20
    path.write_bytes(content)


def encrypt(path):
    """Set the flag that says that a member is encrypted."""
    save(path, train=sketches(2))
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


def claim(path, number):
    """A plain array that says it has far more numbers than the file."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({number}, 3), }}".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "train.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\0" * 24
        )


def test_files_in_the_published_format(tmp_path):
    path = save(tmp_path / "a.npz", train=sketches(6), valid=sketches(2, seed=1), test=sketches(3, seed=2))
    data = SketchData(source=path, batch_size=4, max_points=8)
    assert {part: len(found.elements) for part, found in data.parts.items()} == {"train": 5, "valid": 2, "test": 3}
    moves = np.concatenate([element[:-1, :2] for element in data.parts["train"].elements])
    assert float(moves.std()) == pytest.approx(1, abs=1e-5)
    assert data.codec.max_length == 9
    batch = next(iter(data.train_dataloader()))
    for row, length in zip(batch.elements, batch.lengths.tolist(), strict=True):
        assert row[length - 1].tolist() == [0, 0, 0, 0, 1]
        assert not row[length:].any()


def test_sketches_are_stretched_anew_in_every_epoch_but_never_for_validation():
    data = SketchData(num_sketches=20, scale_augment=0.2, batch_size=20)
    loader, factors = data.train_dataloader(), []
    for _ in range(2):
        batch = next(iter(loader))
        index, row = int(batch.indices[0]), batch.elements[0].numpy()
        whole = data.parts["train"].elements[index]
        factors.append((row[: len(whole) - 1, :2] / whole[:-1, :2]).mean(0))
        np.testing.assert_allclose(row[: len(whole) - 1, :2], whole[:-1, :2] * factors[-1], rtol=1e-3, atol=1e-5)
    assert all(0.79 < factor < 1.21 for pair in factors for factor in pair)
    assert not np.allclose(*factors)
    batch = next(iter(data.val_dataloader()[0]))
    whole = data.parts["valid"].elements[int(batch.indices[0])]
    np.testing.assert_array_equal(batch.elements[0][: len(whole)], whole)


def test_shapes_have_classes_and_are_the_same_everywhere():
    one, other = (SketchData(labels=True, num_sketches=40) for _ in range(2))
    assert one.codec.labels == ["circle", "square", "triangle", "star"]
    assert set(one.parts["train"].labels) == {0, 1, 2, 3}
    assert all(
        np.array_equal(a, b) for a, b in zip(one.parts["train"].elements, other.parts["train"].elements, strict=True)
    )


def test_files_of_a_folder_are_classes(tmp_path):
    for name in ("cat", "dog"):
        save(tmp_path / f"{name}.npz", train=sketches(3), test=sketches(1))
    data = SketchData(source=str(tmp_path), labels=True)
    assert data.codec.labels == ["cat", "dog"]
    assert data.parts["train"].labels == [0, 0, 0, 1, 1, 1]


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("touched"),)


def test_a_program_in_a_file_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = np.empty(1, dtype=object)
    evil[0] = Evil()
    with pytest.raises(DataError, match=r"holds something that is no array \(it asks for"):
        SketchData(source=save(tmp_path / "a.npz", train=evil)).prepare_data()
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p.write_bytes(b"hello"), "no npz file"),
        (lambda p: save(p, other=sketches(2)), "no sketches under 'train'"),
        (lambda p: save(p, train=np.zeros((2, 3, 2))), r"sketch 0 of 'train' .* shape \(3, 2\)"),
        (lambda p: save(p, train=np.full((2, 3, 3), 5.0)), "neither lifted"),
        (lambda p: save(p, train=np.zeros((2, 3, 3))), "no pen moves"),
        (lambda p: save(p, train=np.zeros((2, 300, 3))), "raise max_points"),
        (lambda p: save(p, train=np.arange(4)), r"sketch 0 of 'train' .* shape \(\)"),
        (lambda p: spoil(p, 60), "no npz file, or damaged"),
        (lambda p: encrypt(p), "encrypted"),
        (lambda p: claim(p, 10**15), "larger than memory"),
        (lambda p: claim(p, "(2"), "holds something that is no array"),
    ],
)
def test_bad_files_end_in_one_sentence(make, said, tmp_path):
    path = tmp_path / "a.npz"
    make(path)
    with pytest.raises(DataError, match=said) as caught:
        SketchData(source=str(path)).prepare_data()
    assert "\n" not in str(caught.value)


def test_more_shapes_than_a_machine_holds_are_not_begun():
    with pytest.raises(DataError, match=r"num_sketches would draw 7\.5e\+14 numbers"):
        SketchData(num_sketches=10**13)


def test_the_public_sheep():
    home = Path(os.environ.get("HYBRIDGEN_DATA", "nowhere"))
    if not (home / "sketches" / "aaron_sheep.npz").is_file():
        pytest.skip("the sheep are not here: set HYBRIDGEN_DATA")
    data = SketchData(source="sheep")
    assert [len(data.parts[part].elements) for part in ("train", "valid", "test")] == [7400, 300, 300]
    assert data.codec.max_length <= 251


def test_drawings_and_files_that_are_read_again(tmp_path):
    data = SketchData(num_sketches=20)
    elements = data.parts["train"].elements[:3]
    root = ElementTree.fromstring(sketch_svg(elements, data.codec))
    paths = [element.get("d") for element in root if element.tag.endswith("path")]
    assert [path.count("M") for path in paths] == [len(data.codec.lines(element)) for element in elements]
    names = [path.name for path in write_sketches(elements, tmp_path / "all", data.codec)]
    assert names == ["sample-0.svg", "sample-1.svg", "sample-2.svg", "samples.png"]
    assert (tmp_path / "all" / "samples.png").stat().st_size > 500
    write_sketches(elements[1:] + elements[:1], tmp_path / "all", data.codec)  # the same names: replaced
    before = (tmp_path / "all" / "sample-0.svg").read_text()
    with pytest.raises(DataError, match=r"all holds sample-2\.svg, an older sample that is none of the 2"):
        write_sketches(elements[:2], tmp_path / "all", data.codec)
    assert (tmp_path / "all" / "sample-0.svg").read_text() == before
    write_sketches(elements, tmp_path / "again.npz", data.codec)
    again = SketchData(source=str(tmp_path / "again.npz")).parts["train"].elements
    assert [len(element) for element in again] == [len(element) for element in elements]
    with pytest.raises(DataError, match=r"\.gif"):
        write_sketches(elements, tmp_path / "a.gif", data.codec)
    empty = np.zeros((1, 5))
    empty[0, 4] = 1
    assert "<path" in sketch_svg([empty], data.codec)  # a sketch that ended at once is drawn as nothing
