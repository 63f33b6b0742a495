"""Images as rows: what is read, how it is divided, and what is said to bad files."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridgen.data import DataError, ImageRowsData
from hybridgen.data.image_files import image_grid, write_images


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return head + array.astype(np.uint8).tobytes()


def test_embedded_digits_are_on_their_levels_and_each_in_one_part():
    data = ImageRowsData()
    assert (data.codec.height, data.codec.width, data.codec.levels) == (8, 8, 17)
    assert data.codec.labels == [str(digit) for digit in range(10)]
    names = [name for part in data.parts.values() for name in part.names]
    assert len(names) == len(set(names)) == 1797
    assert [len(data.parts[part].elements) for part in ("valid", "test")] == [180, 359]
    batch = next(iter(data.train_dataloader()))
    assert batch.elements.shape[1:] == (8, 8)
    assert batch.labels.shape == batch.elements.shape[:1]
    levels = batch.elements * 16
    assert bool(((levels - levels.round()).abs() < 1e-5).all())
    assert ImageRowsData(levels=2).parts["train"].elements[0].max() == 1


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files(packed, tmp_path):
    random = np.random.default_rng(0)
    for prefix, number in (("train", 20), ("t10k", 6)):
        images, labels = random.integers(256, size=(number, 4, 3)), np.arange(number) % 2
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(array)
            name = f"{prefix}-{what}-ubyte" + (".gz" if packed else "")
            (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    data = ImageRowsData(source=str(tmp_path))
    assert {part: len(images.elements) for part, images in data.parts.items()} == {"train": 18, "valid": 2, "test": 6}
    np.testing.assert_allclose(data.parts["test"].elements[0] * 255, images[0], atol=1e-4)
    assert data.parts["test"].labels == [0, 1, 0, 1, 0, 1]
    one = ImageRowsData(source=str(next(tmp_path.glob("train-images*"))))
    assert sum(len(images.elements) for images in one.parts.values()) == 20
    assert one.codec.labels == ["0", "1"]


def folder_of(tmp_path, sizes=((3, 3),) * 8):
    for number, (height, width) in enumerate(sizes):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((height, width), 30 * number, dtype=np.uint8)).save(folder / f"{number}.png")
    return str(tmp_path)


def test_a_folder_of_pictures(tmp_path):
    data = ImageRowsData(source=folder_of(tmp_path), invert=True)
    assert data.codec.labels == ["a", "b"]
    for part in data.parts.values():
        for element, label, name in zip(*part, strict=True):
            number = int(Path(name).stem)
            assert label == number % 2
            assert float(element[0, 0]) == pytest.approx(1 - 30 * number / 255, abs=1e-6)


def test_names_are_those_of_the_images_where_others_lie_beside(tmp_path):
    for folder in ("another", "train", "valid"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(tmp_path / folder / "0.png")
    parts = ImageRowsData(source=str(tmp_path), labels=False).parts
    names = {part: [str(Path(name).relative_to(tmp_path)) for name in images.names] for part, images in parts.items()}
    assert names == {"train": ["train/0.png"], "valid": ["valid/0.png"]}


def test_parts_that_are_folders_stay_apart(tmp_path):
    for part, number in (("train", 4), ("test", 2)):
        (tmp_path / part / "x").mkdir(parents=True)
        for k in range(number):
            Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(tmp_path / part / "x" / f"{k}.png")
    data = ImageRowsData(source=str(tmp_path), labels=False, valid_fraction=0.25)
    assert {part: len(images.elements) for part, images in data.parts.items()} == {"train": 3, "valid": 1, "test": 2}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: folder_of(p, [(3, 3)] * 4 + [(3, 4)]), "bring all images to one size"),
        (lambda p: str(p), "has no images"),
        (lambda p: (p / "x.png").write_bytes(b"no") and str(p), "no image, or damaged"),
        (
            lambda p: (p / "f-images-idx3").write_bytes(b"\0\0\x08\x03\0\0\0\x02") and str(p / "f-images-idx3"),
            "cut short",
        ),
        (lambda p: (p / "f").write_bytes(idx(np.zeros((2, 2, 2)))[:-1]) and str(p / "f"), "says 8 bytes but has 7"),
        (lambda p: (p / "f").write_bytes(idx(np.zeros(2))) and str(p / "f"), "dimensions"),
        (lambda p: (p / "f").write_bytes(b"hello") and str(p / "f"), "no idx file"),
        (lambda p: (p / "f").write_bytes(b"\x1f\x8bxx") and str(p / "f"), "damaged gzip"),
        (lambda p: (p / "f").write_bytes(idx(np.zeros((9, 2, 2)))) and str(p / "f"), "set labels to false"),
    ],
)
def test_bad_files_end_in_one_sentence(make, said, tmp_path):
    with pytest.raises(DataError, match=said) as caught:
        ImageRowsData(source=make(tmp_path)).prepare_data()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "digit"}, "did you mean 'digits'"),
        ({"levels": 1}, "levels=1"),
        ({"valid_fraction": 0.6, "test_fraction": 0.5}, "leave nothing"),
    ],
)
def test_options_that_cannot_be_are_named(options, said):
    with pytest.raises(DataError, match=said):
        ImageRowsData(**options)


def test_the_public_digits():
    home = Path(os.environ.get("HYBRIDGEN_DATA", "nowhere"))
    if not (home / "mnist").is_dir():
        pytest.skip("MNIST is not here: set HYBRIDGEN_DATA")
    data = ImageRowsData(source="mnist")
    assert data.codec.height == data.codec.width == 28
    assert sum(len(part.elements) for part in data.parts.values()) in (10_000, 60_000, 70_000)


def test_grids_and_single_pictures(tmp_path):
    codec = ImageRowsData().codec
    images = [np.full((8, 8), k / 4) for k in range(5)]
    grid = image_grid([codec.decode(image) for image in images], columns=2)
    assert grid.shape == (3 * 66 + 2, 2 * 66 + 2)  # enlarged eight times, two grey pixels between
    assert (grid[2, 2], grid[70, 70]) == (0, 191)
    assert [p.name for p in write_images(images[:2], tmp_path / "all", codec)] == [
        "sample-0.png", "sample-1.png", "samples.png",
    ]  # fmt: skip
    assert np.asarray(Image.open(tmp_path / "all" / "sample-1.png")).tolist() == codec.decode(images[1]).tolist()
    with pytest.raises(DataError, match=r"all holds sample-1\.png, an older sample"):
        write_images(images[:1], tmp_path / "all", codec)
    with pytest.raises(DataError, match=r"\.jpg"):
        write_images(images, tmp_path / "a.jpg", codec)
