"""Samples of rolls, sounds, series and text while a model trains."""

import pytest
import pytorch_lightning as pl
import soundfile
import torch

from hybridgen.codecs import PianoRollCodec
from hybridgen.data import AudioData, PianoRollData, SeriesData, TextData
from hybridgen.models import LanguageModel, SequenceGAN, SequenceModel
from hybridgen.tracking.pictures import series_figure, spectrogram_figure
from hybridgen.tracking.samples import SampleText

SMALL = {"mode": "direct", "stack": {"cell": "gru", "hidden_size": 8}, "hidden_size": 8, "sequence_noise": 4}


def fit(model, data, callback, **options):
    trainer = pl.Trainer(
        **{"limit_train_batches": 1, "limit_val_batches": 1, "num_sanity_val_steps": 0} | options,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    return trainer


def test_rolls_are_written_after_validations(tmp_path):
    model = SequenceModel(stack={"hidden_size": 8})
    (callback,) = model.run_callbacks(tmp_path)
    callback.every, callback.length = 2, 6
    fit(model, PianoRollData(batch_size=8), callback, max_epochs=4)
    found = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert found == [f"epoch-{epoch:04d}.{kind}" for epoch in (0, 2, 3) for kind in ("mid", "png")]
    assert PianoRollCodec().encode(tmp_path / "samples" / "epoch-0003.mid").shape[1] == 88


def test_sounds_of_the_classes_are_written_after_every_validation(tmp_path):
    data = AudioData(source="notes", num_notes=24, note_seconds=0.1, batch_size=6, codec_options={"num_mels": 12})
    model = SequenceGAN(**SMALL)
    (callback,) = model.run_callbacks(tmp_path)
    trainer = fit(model, data, callback, max_epochs=2)
    stages = sorted(path for path in (tmp_path / "samples").iterdir() if path.is_dir())
    assert len(stages) == 2
    assert int(stages[-1].name.removeprefix("step-")) == trainer.global_step
    wavs = sorted(stages[-1].glob("*.wav"))
    assert len(wavs) == 4
    assert [wav.stem.partition("_")[2] for wav in wavs] == list(model.codec.labels) * 2
    wave, rate = soundfile.read(wavs[0])
    assert rate == model.codec.sample_rate
    assert len(wave) > 100
    assert (tmp_path / "samples" / f"{stages[-1].name}.png").stat().st_size > 1000


def test_series_are_written_as_a_table_and_a_picture_and_training_is_not_touched(tmp_path):
    def trained(callbacks):
        torch.manual_seed(0)
        model = SequenceGAN(**SMALL)
        callback = model.run_callbacks(tmp_path)[0] if callbacks else pl.Callback()
        fit(model, SeriesData(source="sines", num_series=40, batch_size=8), callback, max_epochs=2)
        return [parameter.detach().clone() for parameter in model.parameters()] + [torch.rand(1)]

    alone, watched = trained(False), trained(True)
    assert all(map(torch.equal, alone, watched))
    tables, pictures = (sorted((tmp_path / "samples").glob(kind)) for kind in ("*.csv", "*.png"))
    assert len(tables) == len(pictures) == 2
    assert len(tables[0].read_text().splitlines()) > 24


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (lambda: SeriesData(source="sines", num_series=40, batch_size=8), "csv"),
        (lambda: AudioData(source="notes", num_notes=24, note_seconds=0.1, codec_options={"num_mels": 12}), "wav"),
    ],
)
def test_a_model_that_leaves_decoding_to_its_codec_is_sampled_too(data, kind, tmp_path):
    model = SequenceModel(stack={"hidden_size": 8}, head="gaussian")
    fit(model, data(), model.run_callbacks(tmp_path)[0], max_epochs=1)
    assert list((tmp_path / "samples").rglob(f"*.{kind}"))
    assert len(list((tmp_path / "samples").glob("*.png"))) == 1


def test_categories_alone_become_a_table_without_a_picture(tmp_path):
    rows = "".join(f"{('calm', 'glad', 'sad')[row % 3]},{'ab'[row % 2]}\n" for row in range(200))
    (tmp_path / "table.csv").write_text("mood,kind\n" + rows)
    data = SeriesData(source=str(tmp_path / "table.csv"), categorical_columns=["mood", "kind"], window=4, batch_size=8)
    model = SequenceGAN(**SMALL)
    fit(model, data, model.run_callbacks(tmp_path)[0], max_epochs=1)
    (table,) = (tmp_path / "samples").iterdir()
    assert "mood,kind" in table.read_text()


@pytest.mark.parametrize("wrong", ["values", "place"])
def test_a_sample_that_cannot_be_made_does_not_end_the_training(wrong, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise ValueError("series 0 is not finite")

    model = SequenceGAN(**SMALL)
    if wrong == "values":
        monkeypatch.setattr(model, "generate", fails)
    else:
        (tmp_path / "samples").write_text("a person's own file")
    with pytest.warns(UserWarning, match=r"no whole sample .*step-.* \((series 0|File exists).*training goes on"):
        trainer = fit(
            model,
            SeriesData(source="sines", num_series=40, batch_size=8),
            model.run_callbacks(tmp_path)[0],
            max_epochs=2,
        )
    assert trainer.current_epoch == 2
    assert not list(tmp_path.rglob("*.png"))


def test_a_text_that_cannot_be_written_does_not_end_the_training(tmp_path):
    (tmp_path / "in.txt").write_text("the cat sat on the mat.\n" * 40)
    data = TextData(source=str(tmp_path / "in.txt"), batch_size=2, bptt=8, cache_dir=str(tmp_path / "cache"))
    (tmp_path / "samples").write_text("a person's own file")
    model = LanguageModel(stack={"cell": "gru", "hidden_size": 4}, embedding_size=4)
    callback = SampleText(tmp_path, max_new_tokens=5)
    with pytest.warns(UserWarning, match=r"no whole sample .*epoch-000\.txt \(File exists\); training goes on"):
        fit(model, data, callback, max_epochs=1)
    assert callback.rows[0][2]  # the table of the dashboard has it all the same


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="at least 16 samples"):
        spectrogram_figure([], 8000)
    with pytest.raises(ValueError, match="no columns"):
        series_figure([])
