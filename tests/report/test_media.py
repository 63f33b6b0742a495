"""What a run left for eyes and ears, and what its checkpoint tells."""

import base64
import io
import json

import numpy as np
import pytest
import soundfile
import torch

from hybridgen.codecs import CharacterCodec, WordCodec
from hybridgen.models import LanguageModel, TextVAE
from hybridgen.report import media, sounds
from hybridgen.report.latent_map import map_latents
from hybridgen.report.units import _readings, _signals, read_units

from .made_runs import OPTIONS, TEXT, made_run, write_midi, write_picture

LATENT = """# samples from the prior
a sentence
another

# reconstructions
< what it was
> what came back
< two
> three

# interpolations: path, fraction, sentence
1  0.00  from here
1  1.00  to  there
"""


def test_stages_of_each_kind_in_order(tmp_path):
    folder = made_run(tmp_path / "a" / "0", model=False)
    found = {gallery.title: gallery for gallery in media.galleries(folder, 12)}
    assert next(iter(found)) == "Samples"
    assert set(found) == {"Samples", "KL per dimension", "Gradient flow"}
    assert [stage.label for stage in found["Samples"].stages] == ["epoch 0", "epoch 1", "epoch 2"]
    assert [len(stage.sounds) for stage in found["Samples"].stages] == [0, 1, 1]
    assert found["Samples"].stages[2].sounds[0].picture.startswith("data:image/png;base64,")
    assert found["Gradient flow"].stages[0].pictures[0][1].startswith("data:image/png")


def test_of_many_stages_some_are_shown_with_the_first_and_the_last(tmp_path):
    (tmp_path / "samples").mkdir()
    for epoch in range(40):
        (tmp_path / "samples" / f"epoch-{epoch:03d}.txt").write_text(str(epoch))
    (gallery,) = media.galleries(tmp_path, 5)
    assert [stage.number for stage in gallery.stages] == [0, 10, 20, 29, 39]
    assert gallery.total == 40
    assert [stage.number for stage in media.galleries(tmp_path, 1)[0].stages] == [39]


def test_what_a_latent_holds_becomes_tables(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "step-00000020.txt").write_text(LATENT)
    ((stage,),) = [gallery.stages for gallery in media.galleries(tmp_path, 3)]
    tables = {table.title: table.rows for table in stage.tables}
    assert tables["From the prior"] == [["a sentence"], ["another"]]
    assert tables["Reconstructions"] == [["what it was", "what came back"], ["two", "three"]]
    assert tables["Interpolations"] == [["1", "0.00", "from here"], ["1", "1.00", "to  there"]]
    assert not stage.texts
    (tmp_path / "samples" / "step-00000020.txt").write_text("# reconstructions\nof a poem")
    assert media.galleries(tmp_path, 3)[0].stages[0].texts == ["# reconstructions\nof a poem"]


def test_sounds_in_a_folder_and_files_that_are_broken_or_large(tmp_path, monkeypatch):
    folder = tmp_path / "samples" / "step-00000007"
    folder.mkdir(parents=True)
    soundfile.write(folder / "0000_one.wav", np.sin(np.arange(2000) / 9), 8000)
    write_picture(tmp_path / "samples" / "step-00000007.png")
    (folder / "broken.wav").write_bytes(b"")
    (folder / "broken.mid").write_bytes(b"no music")
    write_picture(folder / "large.png")
    size = (folder / "large.png").stat().st_size
    monkeypatch.setattr(media, "MOST_BYTES", size - 1 if size > 5000 else 5000)
    ((stage,),) = [gallery.stages for gallery in media.galleries(tmp_path, 3)]
    assert stage.label == "step 7"
    assert [sound.name for sound in stage.sounds] == ["0000_one.wav"]
    assert "step-00000007" not in [name for name, _ in stage.pictures]
    assert any("broken.wav" in name for name in stage.left_out)
    assert any("broken.mid" in name for name in stage.left_out)


def test_what_only_weights_and_biases_has_is_shown_once(tmp_path):
    kept = tmp_path / "wandb" / "offline-run-1" / "files" / "media"
    write_picture_at = kept / "images" / "mine" / "plot_12_0123456789abcdef.png"
    write_picture_at.parent.mkdir(parents=True)
    write_picture(write_picture_at)
    for key in ("samples", "latent/samples", "scores"):
        path = kept / "table" / f"{key}_3_0123456789abcdef.table.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"columns": ["a", "b"], "data": [[1, "<b>"], [None, 2]]}))
    found = {gallery.title: gallery.stages for gallery in media.galleries(tmp_path, 3)}
    assert set(found) == {"Mine: plot", "Scores"}
    assert found["Mine: plot"][0].label == "step 12"
    assert found["Scores"][0].tables[0].rows == [["1", "<b>"], ["None", "2"]]


def test_pictures_of_an_evaluation(tmp_path):
    write_picture(tmp_path / "evaluation" / "pca.png")
    (tmp_path / "evaluation" / "evaluation.json").write_text("{}")
    (gallery,) = media.galleries(tmp_path, 3)
    assert gallery.title == "Beside real ones"
    assert [name for name, _ in gallery.stages[0].pictures] == ["pca"]


def test_midi_becomes_a_sound_of_its_pitches(tmp_path):
    write_midi(tmp_path / "a.mid")
    wave, rate = soundfile.read(io.BytesIO(sounds.play_midi(tmp_path / "a.mid")))
    assert len(wave) == pytest.approx((1.5 + 0.2) * rate, abs=2)
    for number, key in enumerate((60, 64, 67)):
        part = wave[int((0.5 * number + 0.1) * rate) : int((0.5 * number + 0.4) * rate)]
        peak = np.abs(np.fft.rfft(part)).argmax() * rate / len(part)
        assert peak == pytest.approx(440 * 2 ** ((key - 69) / 12), rel=0.02)
    with pytest.raises(ValueError, match="is no MIDI file"):
        sounds.play_midi(tmp_path / "none.mid")


# What the checkpoint tells -----------------------------------------------------------------------------------------


def test_units_are_the_models_own_outputs():
    codec = CharacterCodec.train([TEXT])
    model = LanguageModel(**OPTIONS, codec=codec.to_config()).eval()
    found = read_units(model, TEXT)
    assert "".join(found.tokens) == TEXT
    values = np.frombuffer(base64.b64decode(found.values), dtype=np.uint8).reshape(len(found.units), -1)
    restored = (values / 127 - 1) * np.array(found.sizes)[:, None]
    with torch.no_grad():
        outputs, _ = model.hidden(torch.as_tensor(codec.encode(TEXT), dtype=torch.long)[None])
    assert np.allclose(restored, outputs[0, :, found.units].T.numpy(), atol=0.02)
    assert len(read_units(model, None).tokens) > 100
    with pytest.raises(ValueError, match=r"U\+6F22"):
        read_units(model, "漢" * 20)


def test_a_unit_that_reads_something_is_found():
    tokens = list('He said "yes" and "no" (not "maybe") to\nhim. ' * 4)
    signals = _signals(tokens)
    noise = np.random.default_rng(0).normal(size=(5, len(tokens)))
    noise[2] = -2 * signals["inside quotes"] + 0.1 * noise[2]
    noise[4] = signals["position in the line"] + 0.1 * noise[4]
    found = {reading["what"]: reading for reading in _readings(tokens, noise, [10, 11, 12, 13, 14])}
    assert found["inside quotes"]["unit"] == 12
    assert found["inside quotes"]["correlation"] < -0.95
    assert found["position in the line"]["unit"] == 14
    assert _readings(tokens, np.random.default_rng(1).normal(size=(3, len(tokens))), [0, 1, 2]) == []


def test_a_latent_space_is_laid_out():
    lines = ["the cat sat", "a dog ran off", "the dog sat", "a cat ran", "the mill", "rain and wind"]
    codec = WordCodec.train(lines, specials=["eos", "unk"])
    small = {"cell": "gru", "hidden_size": 8}
    model = TextVAE(encoder=small, decoder=small, embedding_size=8, latent_size=4, codec=codec.to_config()).eval()
    found = map_latents(model, "\n".join([*lines, "", lines[0]]))
    assert found.texts == lines
    with torch.no_grad():
        means = model.encode(lines).mean
    centred = means - means.mean(0)
    points = torch.tensor(found.points)
    # Two directions at right angles, of the shares of the variance that are said.
    assert float(points[:, 0] @ points[:, 1]) == pytest.approx(0, abs=1e-3)
    shares = points.square().sum(0) / centred.square().sum()
    assert shares.tolist() == pytest.approx(found.explained, abs=2e-3)
    units = read_units(model, "\n".join(lines))
    assert "".join(units.tokens).split() == " ".join(lines).split()
    assert map_latents(LanguageModel(**OPTIONS, codec=codec.to_config()), None) is None
