"""Sequences of other data than the model's own: classes by name, moves in its scale, levels of its pixels."""

import numpy as np
import pytest
import torch
import yaml

from hybridgen.codecs import ImageRowsCodec, SketchCodec
from hybridgen.commands.sequence_files import data_of, sequences_of
from hybridgen.data.image_files import write_images


def sketch_file(path, size):
    strokes = np.empty(2, dtype=object)
    strokes[:] = [np.array([[size, 0, 0], [0, size, 0], [-size, size, 1]], dtype=np.float32)] * 2
    np.savez(path, train=strokes)


def run_of(folder, name, **arguments):
    """The configuration of a run."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"data": {"class_path": f"hybridgen.data.{name}", "init_args": arguments}}))
    return str(path)


def test_sketches_of_another_folder_keep_their_class_names_and_get_the_scale_of_the_model(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("dog", "pig"):  # of the model: 1 and 2; here: 0 and 1
        sketch_file(other / f"{name}.npz", 50.0)
    codec = SketchCodec(scale=10.0, max_length=5, labels=["cat", "dog", "pig"])
    module = data_of("model.ckpt", run_of(tmp_path, "SketchData", labels=True), codec, source=str(other))
    given = sequences_of(module, "train", None, codec)
    assert given.labels == ["dog", "dog", "pig", "pig"]
    assert given.sequences[0][0].tolist() == pytest.approx([5, 0, 1, 0, 0])
    assert given.sequences[0][-1].tolist() == [0, 0, 0, 0, 1]
    with pytest.raises(ValueError, match="the class pig is not one of the model's: use data of cat, dog"):
        sequences_of(module, "train", None, SketchCodec(scale=10.0, labels=["cat", "dog"]))


def test_images_of_another_folder_get_the_levels_of_the_model(tmp_path):
    other = tmp_path / "other"
    plain = ImageRowsCodec(height=2, width=3)
    for name in ("1", "2"):
        (other / name).mkdir(parents=True)
        write_images([torch.full((2, 3), 0.7)] * 3, other / name, plain)
        (other / name / "samples.png").unlink(missing_ok=True)
    codec = ImageRowsCodec(height=2, width=3, levels=2, labels=["0", "1", "2"])
    module = data_of("model.ckpt", run_of(tmp_path, "ImageRowsData"), codec, source=str(other))
    given = sequences_of(module, "train", None, codec)
    assert set(given.labels) == {"1", "2"}
    assert all(torch.equal(sequence, torch.ones(2, 3)) for sequence in given.sequences)
