"""Models, heads and codecs of one's own: registered, configured, trained, loaded."""

import pytest
import yaml

import hybridgen
from hybridgen import codecs, heads, models
from hybridgen.cli import main

PLUGIN = """
import numpy as np
from hybridgen import cells, codecs, heads, models

class TwoLetters(codecs.TextCodec):
    name = "two_letters"
    def __init__(self):
        super().__init__([b"a", b"b"], specials={})
    @classmethod
    def train(cls, texts=None):
        return cls()
    def _lookup(self, text):
        return np.array([letter == "b" for letter in text], dtype=np.int64)
    def _options(self):
        return {}

class Sharp(heads.CategoricalHead):
    def log_probs(self, hidden):
        return (2 * super().log_probs(hidden)).log_softmax(-1)

class OwnModel(models.LanguageModel):
    pass

codecs.register(TwoLetters)
heads.register("sharp", Sharp)
models.register(OwnModel)
"""


@pytest.fixture
def _tables_as_they_were():
    tables = [models._OWN, codecs.registry._ALL, codecs.registry._TEXT, heads.registry._HEADS]
    tables += [heads.registry._CLASS_HEADS]
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)


@pytest.mark.usefixtures("_tables_as_they_were")
def test_own_parts_are_trained_by_the_command_and_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_parts.py").write_text(PLUGIN)
    (tmp_path / "text.txt").write_text("abbab" * 200)
    config = {
        "model": {
            "class_path": "own_parts.OwnModel",
            "init_args": {"stack": {"cell": "rnn", "hidden_size": 4}, "embedding_size": 4, "head": "sharp"},
        },
        "data": {
            "class_path": "hybridgen.data.TextData",
            "init_args": {"source": "text.txt", "codec": "two_letters", "batch_size": 2, "bptt": 8},
        },
        "trainer": {"accelerator": "cpu", "max_steps": 2, "enable_progress_bar": False, "num_sanity_val_steps": 0},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("HYBRIDGEN_PLUGINS", "own_parts.py")
    assert main(["fit", "--config", "own.yaml", "--wandb", "off"]) == 0
    checkpoint = "runs/own/0/checkpoints/last.ckpt"
    assert type(hybridgen.load(checkpoint)).__name__ == "OwnModel"
    capsys.readouterr()
    assert main(["sample", "--ckpt", checkpoint, "--prompt", "ab", "--max_new_tokens", "5"]) == 0
    assert set(capsys.readouterr().out.strip()) <= set("ab")

    # Whoever has not named the module is told so; the checkpoint itself names nothing to import.
    models._OWN.clear()
    with pytest.raises(ValueError, match="HYBRIDGEN_PLUGINS"):
        hybridgen.load(checkpoint)


def test_a_plugin_that_cannot_be_imported_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("HYBRIDGEN_PLUGINS", "no_such_module_anywhere")
    assert main(["config", "ls"]) == 2
    error = capsys.readouterr().err.strip()
    assert "HYBRIDGEN_PLUGINS: no_such_module_anywhere cannot be imported" in error
    assert error.count("\n") == 0


@pytest.mark.parametrize(
    ("register", "said"),
    [
        (lambda: heads.register("adaptive", heads.CategoricalHead), "already a head named 'adaptive'"),
        (lambda: heads.register("mine", int), "not a subclass"),
        (lambda: codecs.register(codecs.WordCodec), "already a codec named 'words'"),
        (lambda: codecs.register(int), "not a subclass"),
        (lambda: models.register(models.LanguageModel), "already a model named 'LanguageModel'"),
    ],
)
def test_what_cannot_be_registered_is_refused(register, said):
    with pytest.raises(ValueError, match=said):
        register()


def test_a_plugin_named_like_another_module_or_broken_is_one_sentence(tmp_path, monkeypatch, capsys):
    for name, text, said in (("token.py", "", "rename it"), ("broken_plugin.py", "def (", "cannot be imported")):
        (tmp_path / name).write_text(text)
        monkeypatch.setenv("HYBRIDGEN_PLUGINS", str(tmp_path / name))
        assert main(["config", "ls"]) == 2
        assert said in capsys.readouterr().err
