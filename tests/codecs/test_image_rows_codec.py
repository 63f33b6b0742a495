"""Images as rows, and back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hybridgen import codecs
from hybridgen.codecs import CodecError, ImageRowsCodec
from hybridgen.codecs.image_rows import read_grey


@given(levels=st.integers(2, 256), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_levels_come_back(levels, seed):
    codec = ImageRowsCodec(height=3, width=4, levels=levels)
    values = np.random.default_rng(seed).integers(levels, size=(3, 4)) / (levels - 1)
    rows = codec.encode(values)
    torch.testing.assert_close(rows, torch.from_numpy(values).float())
    # What is written and read again is the same picture.
    assert torch.equal(codec.encode(codec.decode(rows)), rows)


def test_every_8_bit_image_comes_back_as_it_was():
    codec = ImageRowsCodec(height=16, width=16)
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (codec.decode(codec.encode(image)) == image).all()


def test_it_is_rebuilt_from_plain_values():
    codec = ImageRowsCodec(height=8, width=6, levels=17, labels=["a", "b"])
    again = codecs.from_config(codec.to_config())
    assert again.to_config() == codec.to_config()
    assert (again.num_features, again.usual_length) == (6, 8)


def test_files_with_colour_and_transparency_become_grey_on_black(tmp_path):
    path = tmp_path / "a.png"
    picture = np.zeros((2, 3, 4), dtype=np.uint8)
    picture[0, :, :3], picture[0, :2, 3] = 255, (255, 0)  # white, white but transparent, nothing
    Image.fromarray(picture).save(path)
    rows = ImageRowsCodec(height=2, width=3).encode(path)
    assert rows.tolist() == [[1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no image"), (b"not an image", "no image, or damaged"), ("large", "is 5 x 4, not 3 x 2 pixels")],
)
def test_files_that_are_no_such_images_end_in_one_sentence(content, said, tmp_path):
    path = tmp_path / "a.png"
    if content == "large":
        Image.fromarray(np.zeros((4, 5), dtype=np.uint8)).save(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(CodecError, match=said) as caught:
        ImageRowsCodec(height=2, width=3).encode(path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_written_is_refused():
    codec = ImageRowsCodec(height=2, width=3)
    with pytest.raises(CodecError, match="not finite"):
        codec.decode(torch.full((2, 3), float("nan")))
    with pytest.raises(CodecError, match=r"\(T, 3\)"):
        codec.decode(torch.zeros(2, 4))
    with pytest.raises(CodecError, match="levels"):
        ImageRowsCodec(height=2, width=3, levels=1)


def test_of_16_bits_the_upper_8_are_taken(tmp_path):
    path = tmp_path / "deep.png"
    deep = np.array([[0, 255, 256], [0x8000, 0xFF00, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(deep).save(path)
    assert (read_grey(path) == [[0, 0, 1], [128, 255, 255]]).all()


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_of_32_bits_are_refused(kind, tmp_path):
    path = tmp_path / "a.tiff"
    Image.fromarray(np.full((2, 3), 7, dtype=kind)).save(path)
    with pytest.raises(CodecError, match="32 bits") as caught:
        read_grey(path)
    assert "\n" not in str(caught.value)


def test_a_transparent_colour_of_a_palette_is_black(tmp_path):
    path = tmp_path / "a.png"
    picture = Image.new("P", (3, 2), 1)
    picture.putpalette([0, 0, 0, 255, 255, 255, 200, 200, 200])
    picture.putpixel((0, 0), 2)
    picture.save(path, transparency=1)
    assert read_grey(path).tolist() == [[200, 0, 0], [0, 0, 0]]
