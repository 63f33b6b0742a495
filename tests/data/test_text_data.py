"""TextData by itself, from a configuration, and under a real Trainer."""

import json
import os
import pickle
import subprocess
import sys
import warnings

import jsonargparse
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import RunningStage
from text_helpers import equal

from hybridgen import codecs
from hybridgen.codecs import PianoRollCodec
from hybridgen.data import DataError, TextBatch, TextData
from hybridgen.data.reading import pieces

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
]
LINES = [f"line number {number} has some words" + " more" * (number % 5) for number in range(80)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    texts = {"train": LINES, "valid": LINES[:20], "test": LINES[20:41]}
    for part, lines in texts.items():
        (tmp_path / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def make(folder, **options):
    return TextData(**{"source": str(folder), "batch_size": 4, "bptt": 170, **options})


class Recorder(pl.LightningModule):
    """Learns a little, and keeps every batch that arrives."""

    def __init__(self, vocab_size, fail_at=None):
        super().__init__()
        self.table = torch.nn.Embedding(vocab_size, vocab_size)
        self.fail_at = fail_at
        self.seen = []
        self.evaluated = []

    def training_step(self, batch):
        assert isinstance(batch, TextBatch)
        if self.global_step == self.fail_at:
            raise RuntimeError("the machine stops")
        self.seen.append(batch)
        return torch.nn.functional.cross_entropy(self.table(batch.inputs).transpose(1, 2), batch.targets)

    def validation_step(self, batch, _):
        self.evaluated.append(batch)

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self.evaluated.append((dataloader_idx, batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


def trainer(folder, **options):
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": folder,
            **options,
        }
    )


def same(ours, theirs):
    return len(ours) == len(theirs) and all(equal(a, b) for a, b in zip(ours, theirs, strict=True))


WAYS = {
    "lanes": {},
    "random lanes": {"random_bptt": True, "seed": 3},
    "lines": {"layout": "lines", "batch_size": 16},
}


@pytest.mark.parametrize("way", WAYS)
def test_batches_arrive_as_they_were_made(folder, way):
    data = make(folder, **WAYS[way])
    model = Recorder(data.vocab_size)
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*log_every_n_steps.*")
        trainer(folder, max_epochs=3).fit(model, data)
    loader = make(folder, **WAYS[way]).train_dataloader()
    assert same(model.seen, [*loader, *loader, *loader])
    assert same(model.evaluated, [*data.val_dataloader()[0]] * 3)
    assert sum(batch.num_targets for batch in model.seen) == 3 * data.counts["train"].targets


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fail_at", [3, 5, 7])
def test_a_run_that_was_stopped_goes_on_exactly(folder, way, fail_at):
    def fit(model, ckpt_path=None, callbacks=()):
        run = trainer(folder, max_steps=13, callbacks=list(callbacks), enable_checkpointing=bool(callbacks))
        run.fit(model, make(folder, **WAYS[way]), ckpt_path=ckpt_path)

    size = make(folder).vocab_size + (way == "lines")
    torch.manual_seed(1)
    whole = Recorder(size)
    start = {name: value.clone() for name, value in whole.state_dict().items()}
    fit(whole)
    assert len(make(folder, **WAYS[way]).train_dataloader()) == 5  # the third epoch is begun

    stopped = Recorder(size, fail_at)
    stopped.load_state_dict(start)
    saving = ModelCheckpoint(dirpath=folder / "saved", every_n_train_steps=1, save_top_k=-1, filename="{step}")
    with pytest.raises(RuntimeError, match="the machine stops"):
        fit(stopped, callbacks=[saving])
    assert same(stopped.seen, whole.seen[:fail_at])

    resumed = Recorder(size)
    fit(resumed, ckpt_path=folder / "saved" / f"step={fail_at}.ckpt")
    assert same(resumed.seen, whole.seen[fail_at:])
    assert resumed.table.weight.equal(whole.table.weight)


def test_epochs_cut_short_by_the_trainer_go_on_exactly_too(folder):
    def fit(epochs, ckpt_path=None):
        data = make(folder, layout="lines", batch_size=8)
        model = Recorder(data.vocab_size)
        run = trainer(folder, max_epochs=epochs, limit_train_batches=3)
        run.fit(model, data, ckpt_path=ckpt_path)
        run.save_checkpoint(folder / "last.ckpt")
        return model.seen

    whole = fit(3)
    first = fit(1)
    rest = fit(3, ckpt_path=folder / "last.ckpt")
    assert len(whole) == 9
    assert same(first + rest, whole)


def test_lightning_gives_the_loaders_no_sampler_under_several_processes(folder):
    data = make(folder)
    run = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    connector = run._data_connector
    assert connector._requires_distributed_sampler(torch.utils.data.DataLoader([1, 2]))  # the default would
    for loader in (data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()):
        assert connector._prepare_dataloader(loader, shuffle=True, mode=RunningStage.TRAINING) is loader


def test_each_process_has_its_own_lanes(folder):
    class OneOfTwo:
        world_size = 2
        global_rank = 1

    data = make(folder)
    data.trainer = OneOfTwo()
    whole = list(make(folder, batch_size=8).train_dataloader())
    for batch, both in zip(data.train_dataloader(), whole, strict=True):
        assert batch.positions.equal(both.positions[4:])


def test_the_module_goes_to_another_process(folder):
    data = make(folder)
    expected = list(data.train_dataloader())
    assert same(list(pickle.loads(pickle.dumps(data)).train_dataloader()), expected)


def test_testing_has_one_loader_for_each_protocol(folder):
    data = make(folder, cold_windows=[16, 64], evaluation_bptt=100)
    model = Recorder(data.vocab_size)
    trainer(folder).test(model, data, verbose=False)
    assert data.test_protocols == ["carried", "cold16", "cold64"]
    for number in range(3):
        batches = [batch for loader, batch in model.evaluated if loader == number]
        assert sum(batch.num_targets for batch in batches) == data.counts["test"].targets
        assert [batch.first for batch in batches[1:]] == [number > 0] * (len(batches) - 1)
    assert len(model.evaluated[0][1].inputs) == 1


def test_the_codec_is_built_on_the_training_text_alone(folder):
    (folder / "train.txt").write_text("abc\n" * 50)
    data = make(folder)
    assert data.codec.characters == "\nabc"
    with pytest.raises(DataError, match=r"valid\.txt cannot be encoded: .*specials=\['unk'\]"):
        data.counts  # noqa: B018
    data = make(folder, codec_options={"specials": ["unk"]})
    assert data.counts["valid"].tokens == len("\n".join(LINES[:20])) + 1
    assert data.vocab_size == 5


def test_a_codec_can_be_a_file_or_a_mapping(folder):
    built = make(folder, codec="words").codec
    (folder / "codec.json").write_text(json.dumps(built.to_config()))
    bpe = codecs.make("bpe", LINES, vocab_size=300, specials=["eos"])
    (folder / "tokenizer.json").write_text(json.dumps(bpe.to_config()["tokenizer"]))
    for choice in (built.to_config(), str(folder / "codec.json")):
        assert make(folder, codec=choice).codec.words == built.words
    loaded = make(folder, codec=str(folder / "tokenizer.json"), codec_options={"eos": "<eos>"})
    assert loaded.vocab_size == 300
    assert loaded.codec.eos_id == bpe.eos_id
    with pytest.raises(
        DataError, match=r"of the tokenizer .*tokenizer\.json: the bpe codec has no option 'vocab_size'"
    ):
        make(folder, codec=str(folder / "tokenizer.json"), codec_options={"vocab_size": 10}).codec  # noqa: B018
    only = TextData(test=str(folder / "test.txt"), codec=built.to_config())  # nothing to train on
    assert list(only.counts) == ["test"]
    assert only.val_dataloader() == []
    with pytest.raises(DataError, match="there is no train text, only test: give train"):
        only.train_dataloader()


def test_lines_end_in_eos_even_if_nobody_asked(folder):
    data = make(folder, layout="lines")
    assert data.codec.eos_id is not None
    assert data.counts["train"].units == len(LINES)
    assert data.test_protocols == ["lines"]
    (loader,) = data.test_dataloader()
    assert sum(batch.num_targets for batch in loader) == data.counts["test"].targets


def test_a_validation_text_shorter_than_its_lanes_takes_fewer(folder):
    (folder / "valid.txt").write_text("line")
    (batch,) = next(iter(make(folder).val_dataloader()))
    assert len(batch.inputs) == 3


def test_training_text_shorter_than_its_lanes_names_the_numbers(folder):
    data = make(folder, batch_size=5000)
    targets = data.counts["train"].targets
    with pytest.raises(DataError, match=f"{targets} tokens to predict, fewer than the 5000 lanes"):
        data.train_dataloader()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"errors": "ignore"}, "errors='ignore' is unknown: choose one of 'strict', 'replace'"),
        ({"layout": "line"}, "layout='line' is unknown: did you mean 'lines'"),
        ({"codec": "character"}, "codec='character' is unknown: did you mean 'characters'"),
        ({"batch_size": 0}, "batch_size=0 must be a whole number"),
        ({"train": "x.txt"}, "and train, valid or test are both given"),
        ({"layout": "lines", "cold_windows": [3]}, "cold_windows are for layout='lanes'"),
        ({"max_length": 5}, "max_length is for layout='lines'"),
        ({"valid_fraction": 5.0, "source": "embedded"}, "valid_fraction=5.0 must be a fraction"),
        ({"codec": PianoRollCodec().to_config()}, "codec is a 'pianoroll' codec, not one of text"),
        ({"source": "nowhere"}, "there is no file or folder nowhere"),
        ({"codec": "nowhere.json"}, r"there is no file nowhere\.json"),
        (
            {"codec": {"codec": "bytes", "version": 1, "specials": []}, "codec_options": {"a": 1}},
            "cannot change a saved",
        ),
        ({"codec_options": {"max_sise": 3}}, "no option 'max_sise': did you mean 'max_size'"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(folder, options, message):
    with pytest.raises(ValueError, match=message) as error:
        make(folder, **options).codec  # noqa: B018
    assert "\n" not in str(error.value)


def test_the_lightning_cli_can_write_it(folder):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TextData, "data")
    arguments = [f"--data.source={folder}", "--data.codec=words", "--data.codec_options={max_size: 20}"]
    arguments += ["--data.cold_windows=[64, 256]", "--data.batch_size=2"]
    config = parser.parse_args(arguments)
    again = parser.parse_string(parser.dump(config))
    data = parser.instantiate(again).data
    assert data.vocab_size == 20
    assert data.cold_windows == [64, 256]
    with pytest.raises(jsonargparse.ArgumentError, match="errors"):
        parser.parse_args(["--data.errors=ignore"])
    help_text = parser.format_help()
    assert "how far gradients go back" in help_text


def test_the_embedded_text_is_the_default(tmp_path):
    data = TextData(cache_dir=str(tmp_path))
    assert data.counts["train"].text_bytes >= 370_000
    batch = next(iter(data.train_dataloader()))
    first = "".join(pieces(data._documents["train"][0]))
    assert data.codec.decode(batch.inputs[0]) == first[:128]
    assert data.codec.decode(batch.targets[0]) == first[1:129]


def test_downloading_needs_no_torch():
    code = "import sys, hybridgen.data.download; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not os.environ.get("HYBRIDGEN_DATA"), reason="HYBRIDGEN_DATA names no folder with the public sets")
def test_the_penn_treebank_has_its_published_numbers(tmp_path):
    data = TextData(source="ptb", codec="words", cache_dir=str(tmp_path))
    assert data.vocab_size == 10_000
    counts = data.counts
    assert [counts[part].tokens for part in ("train", "valid", "test")] == [929_589, 73_760, 82_430]
    assert [counts[part].targets for part in ("train", "valid", "test")] == [929_589, 73_760, 82_430]
    lines = TextData(source="ptb", codec="words", layout="lines", cache_dir=str(tmp_path)).counts
    assert [lines[part].units for part in ("train", "valid", "test")] == [42_068, 3_370, 3_761]
    assert [lines[part].tokens for part in ("train", "valid", "test")] == [929_589, 73_760, 82_430]
