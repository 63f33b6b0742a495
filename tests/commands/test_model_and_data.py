"""Models and data of one kind, and what is said of others."""

import numpy as np
import pytest
import pytorch_lightning as pl
import yaml

from hybridgen import codecs, data, experiments, models
from hybridgen.cli import main
from hybridgen.codecs.characters import CharacterCodec
from hybridgen.commands.model_and_data import LEARNS_FROM, check_match, check_predicts, class_of
from hybridgen.data import SeriesData
from hybridgen.models import LanguageModel, SequenceGAN, TextVAE

CODECS = {
    "AudioData": codecs.LogMelCodec(sample_rate=8000),
    "ImageRowsData": codecs.ImageRowsCodec(height=5, width=4, levels=2),
    "PianoRollData": codecs.PianoRollCodec(),
    "SeriesData": codecs.SeriesCodec.fit({"x": np.arange(10.0)}, mark_missing=False),
    "SketchData": codecs.SketchCodec(),
    "TextData": CharacterCodec("\nab", specials=("eos",)),
}
HEADS = {"SketchData": "bivariate_mixture", "SeriesData": "gaussian", "AudioData": "gaussian"}


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize(
    "name", [name for name in LEARNS_FROM if name != "LatentGAN"]
)  # that one has a TextVAE's codec
def test_the_table_says_what_can_be_built(name, kind):
    """What it accepts is built, and what it refuses would end in a stack trace."""
    options = {"max_length": 5} if name in ("SequenceGAN", "SequenceVAEGAN") else {}
    if name in ("SequenceModel", "VariationalRNN") and kind in HEADS:
        options["head"] = HEADS[kind]
    build = lambda: getattr(models, name)(**options, codec=CODECS[kind].to_config())  # noqa: E731
    if kind in LEARNS_FROM[name]:
        check_match(getattr(models, name), getattr(data, kind))
        assert build().codec is not None
    else:
        with pytest.raises(
            ValueError, match=f"data.class_path is hybridgen.data.{kind}, which a {name} does not learn"
        ):
            check_match(getattr(models, name), getattr(data, kind))
        with pytest.raises((AttributeError, TypeError, ValueError)):
            build()


def test_the_table_knows_every_model_and_only_data_that_there_are():
    assert set(LEARNS_FROM) == set(models.__all__)
    assert {kind for kinds in LEARNS_FROM.values() for kind in kinds} == set(CODECS)
    assert LEARNS_FROM["LatentGAN"] == LEARNS_FROM["TextVAE"]


@pytest.mark.parametrize("name", experiments.names())
def test_every_experiment_passes(name):
    config = yaml.safe_load(experiments.find(name).read_text(encoding="utf-8"))
    model, kind = class_of(config["model"]), class_of(config["data"])
    assert issubclass(model, pl.LightningModule)
    assert issubclass(kind, pl.LightningDataModule)
    check_match(model, kind)


def test_classes_of_others_pass():
    """A subclass may read what its parent does not, whatever it is called."""
    mine, series = type("TextVAE", (TextVAE,), {}), type("SeriesData", (SeriesData,), {})
    for model, kind in ((mine, SeriesData), (TextVAE, series), (None, SeriesData), (TextVAE, None), (dict, dict)):
        check_match(model, kind)
    with pytest.raises(ValueError, match="which a TextVAE does not learn from: give TextData"):
        check_match(TextVAE, SeriesData)
    for section in (None, {}, {"class_path": "nowhere.Model"}, {"class_path": "Model"}, {"class_path": ".x"}):
        assert class_of(section) is None


@pytest.mark.parametrize("source", ["sines", "nowhere.csv"])
def test_fit_and_config_validate_refuse_in_one_sentence(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.yaml").write_text(
        "model: {class_path: hybridgen.models.LanguageModel}\n"
        f"data: {{class_path: hybridgen.data.SeriesData, init_args: {{source: {source}}}}}\n"
    )
    said = "data.class_path is hybridgen.data.SeriesData, which a LanguageModel does not learn from: give TextData"
    assert main(["config", "validate", "odd.yaml", "language_model/embedded"]) == 2
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"odd.yaml: {said}")
    assert second == "language_model/embedded: OK"
    assert main(["fit", "--config", "odd.yaml", "--wandb", "off"]) == 2
    assert capsys.readouterr().err.startswith(f"hybridgen: error: {said}")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.yaml"]


@pytest.mark.parametrize("name", models.__all__)
def test_predict_is_for_models_that_predict(name):
    cls = getattr(models, name)
    if "predict_step" in vars(cls):
        check_predicts(cls)
        return
    with pytest.raises(ValueError, match=f"a {name} does not predict: use hybridgen sample.* or test") as e:
        check_predicts(cls)
    assert ("reconstruct" in str(e.value)) == hasattr(cls, "reconstruct")


def test_predict_leaves_other_classes_alone():
    class Mine(LanguageModel):
        pass

    for cls in (Mine, SequenceGAN, None, dict):
        check_predicts(cls)


def test_a_text_vae_predicts_nothing_and_takes_no_series(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("a line of a text that is learned\n" * 60)
    sizes = "{encoder: {hidden_size: 4}, decoder: {hidden_size: 4}, embedding_size: 4, latent_size: 2}"
    (tmp_path / "small.yaml").write_text(
        f"model: {{class_path: hybridgen.models.TextVAE, init_args: {sizes}}}\n"
        "data:\n  class_path: hybridgen.data.TextData\n"
        "  init_args: {source: text.txt, layout: lines, batch_size: 4, cache_dir: cache}\n"
        "trainer: {max_steps: 1, accelerator: cpu, enable_progress_bar: false, num_sanity_val_steps: 0}\nwandb: off\n"
    )
    assert main(["fit", "--config", "small.yaml"]) == 0, capsys.readouterr().err
    saved = ["--config", "runs/small/0/config.yaml", "--ckpt_path", "runs/small/0/checkpoints/last.ckpt"]
    capsys.readouterr()
    assert main(["predict", *saved]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hybridgen: error: predict writes a row for each line")
    assert said.endswith("use hybridgen sample, reconstruct or test\n")
    assert not list(tmp_path.glob("*predictions*"))
    for command in ("test", "validate"):
        assert main([command, *saved, "--data", "hybridgen.data.SketchData"]) == 2
        assert "which a TextVAE does not learn from: give TextData" in capsys.readouterr().err
