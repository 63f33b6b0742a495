"""A part that there is not: fit goes on without it, but to validate or test on it is refused in one sentence."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from hybridgen.data import AudioData, DataError, ImageRowsData, PianoRollData, SeriesData, SketchData, TextData
from hybridgen.data.pianoroll_files import write_midi

NONE = {"valid_fraction": 0, "test_fraction": 0}


class Counting(pl.LightningModule):
    """Counts its batches and learns nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {"train": 0, "valid": 0, "test": 0}

    def training_step(self, batch, _):
        self.seen["train"] += 1
        return self.weight * 1.0

    def validation_step(self, batch, _):
        self.seen["valid"] += 1

    def test_step(self, batch, batch_idx):
        self.seen["test"] += 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer():
    return pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def series(tmp_path):
    return SeriesData(num_series=8, length=4, **NONE), "raise {part}_fraction"


def sounds(tmp_path):
    return AudioData(num_notes=8, note_seconds=0.1, **NONE), "set {part}_fraction above 0"


def digits(tmp_path):
    return ImageRowsData(**NONE), "set {part}_fraction above 0, or give images for {part} in digits"


def pictures(tmp_path):
    (tmp_path / "train").mkdir()
    Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(tmp_path / "train" / "0.png")
    data = ImageRowsData(source=str(tmp_path), labels=False, valid_fraction=0)
    return data, "(set valid_fraction above 0, or )?give images for {part} in .*"  # test_fraction is above 0


def sketches(tmp_path):
    strokes = np.array([[[3, 1, 0], [-2, 4, 1]]] * 4, dtype=np.int16)
    np.savez(tmp_path / "a.npz", train=strokes)
    return SketchData(source=str(tmp_path / "a.npz")), "give sketches .* under '{part}' in .*"


def music(tmp_path):
    made = PianoRollData(source=str(tmp_path), **NONE)
    for number in range(2):
        write_midi(np.eye(88, dtype=np.uint8)[40:44], tmp_path / f"{number}.mid", made._plain_codec)
    return made, "give some, or set {part}_fraction above 0"


def text(tmp_path):
    (tmp_path / "train").write_text("a line\n" * 40)
    return TextData(train=str(tmp_path / "train"), batch_size=2, cache_dir=str(tmp_path / "cache")), "give {part}"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")
@pytest.mark.parametrize("make", [series, sounds, digits, pictures, sketches, music, text])
def test_a_part_that_there_is_not(make, tmp_path):
    data, remedy = make(tmp_path)
    model = Counting()
    trainer().fit(model, datamodule=data)
    assert model.seen["train"] > 0
    for part, run in (("valid", trainer().validate), ("test", trainer().test)):
        sentence = rf"there is no {part} (part|music|text), only train: {remedy.format(part=part)}$"
        with pytest.raises(DataError, match=sentence) as error:
            run(model, datamodule=data, verbose=False)
        assert "\n" not in str(error.value)
    assert model.seen["valid"] == model.seen["test"] == 0


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")
def test_a_part_that_there_is():
    model, data = Counting(), SeriesData(num_series=20, length=4)
    trainer().validate(model, datamodule=data, verbose=False)
    trainer().test(model, datamodule=data, verbose=False)
    assert model.seen == {"train": 0, "valid": 1, "test": 1}


def test_sounds_that_are_divided_already_need_sounds_of_that_part(tmp_path):
    import soundfile

    (tmp_path / "train").mkdir()
    soundfile.write(tmp_path / "train" / "0.wav", np.sin(np.arange(1000.0)) / 2, 8000)
    with pytest.raises(DataError, match=r"there is no test part, only train: give it sounds for test$"):
        AudioData(source=str(tmp_path)).sequences("test")
