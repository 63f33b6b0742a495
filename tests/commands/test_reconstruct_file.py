"""`hybridgen reconstruct FILE`: the table that `sample` wrote, and others, each series once and in its order."""

import csv
import itertools

import numpy as np
import pytest
import yaml

from hybridgen.cli import main
from hybridgen.codecs import SeriesCodec
from hybridgen.commands.sequence_files import all_sequences, data_of

NAMES = ("Open", "High", "Low", "Close", "Adj_Close", "Volume")


@pytest.fixture(scope="module")
def stocks(tmp_path_factory):
    """The checkpoint of a small model of the public set `stocks`, whose window its name alone says."""
    folder = tmp_path_factory.mktemp("stocks")
    (folder / "data" / "stocks").mkdir(parents=True)
    walk = np.random.default_rng(0).normal(size=(400, 1)).cumsum(0) + np.arange(6)
    rows = [",".join(NAMES), *(",".join(f"{cell:.3f}" for cell in row) for row in walk)]
    (folder / "data" / "stocks" / "stock_data.csv").write_text("\n".join(rows) + "\n")
    config = folder / "small.yaml"
    config.write_text(
        "model:\n  class_path: hybridgen.models.SequenceVAEGAN\n  init_args:\n    stack: {cell: gru, hidden_size: 24}\n"
        "    latent_size: 6\n    adversarial: false\n    reconstruction: likelihood\n    learning_rate: 0.01\n"
        "    kl: {schedule: {kind: constant, stop: 0.1}}\n"
        "data:\n  class_path: hybridgen.data.SeriesData\n  init_args: {source: stocks}\n"
        "trainer:\n  max_steps: 150\n  accelerator: cpu\n  limit_val_batches: 0\n  enable_progress_bar: false\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRIDGEN_DATA", str(folder / "data"))
        assert main(["fit", "--config", str(config), "--runs", str(folder), "--wandb", "off"]) == 0
    return folder / "small" / "0" / "checkpoints" / "last.ckpt"


def series_of(path):
    """Values ``(T, C)`` of each series of a table, in its order."""
    rows = list(csv.DictReader(path.open()))
    groups = itertools.groupby(rows, key=lambda row: row["series"])
    return [np.array([[float(row[name]) for name in NAMES] for row in group]) for _, group in groups]


def reconstructed(checkpoint, path, out, *options):
    assert main(["reconstruct", "--ckpt", str(checkpoint), str(path), "--out", str(out), *options]) == 0
    return series_of(out / "original" / "series.csv"), series_of(out / "reconstruction" / "series.csv")


@pytest.mark.parametrize("window", [None, 24])
@pytest.mark.parametrize("options", [(), ("--length", "30"), ("--num_samples", "1")])
def test_every_sample_comes_back_once_and_close_to_itself(stocks, tmp_path, window, options):
    path = tmp_path / "samples.csv"
    assert main(["sample", "--ckpt", str(stocks), "--num_samples", "12", *options, "--out", str(path)]) == 0
    given = series_of(path)
    config = yaml.safe_load((stocks.parent.parent / "config.yaml").read_text())
    config["data"]["init_args"]["window"] = window
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    originals, made = reconstructed(stocks, path, tmp_path / "back", "--config", str(tmp_path / "config.yaml"))
    assert len(given) == len(originals) == len(made) == (1 if "--num_samples" in options else 12)
    for one, original in zip(given, originals, strict=True):
        np.testing.assert_allclose(one, original, atol=2e-3)
    # Each is nearer to its own input than to most others: a wrong order would be by chance.
    errors = np.array([[np.abs(one - other).mean() for other in given] for one in made])
    assert ((errors < errors.diagonal()[:, None]).sum(1)).mean() <= 0.15 * len(given)


@pytest.mark.parametrize("suffix", ["tsv", "npz"])
def test_files_of_other_kinds_come_back_as_often(stocks, tmp_path, suffix):
    path = tmp_path / f"samples.{suffix}"
    assert main(["sample", "--ckpt", str(stocks), "--num_samples", "11", "--out", str(path)]) == 0
    assert len(reconstructed(stocks, path, tmp_path / "back")[1]) == 11
    assert len(reconstructed(stocks, path, tmp_path / "few", "--num", "3")[1]) == 3


def test_a_long_table_without_series_is_cut_to_the_windows_of_the_set(stocks, tmp_path, capsys):
    path = tmp_path / "mine.csv"
    path.write_text(",".join(NAMES) + "\n" + "".join(f"{day},{day},{day},{day},{day},{day}\n" for day in range(30)))
    originals, _ = reconstructed(stocks, path, tmp_path / "back")
    assert [one[0, 0] for one in originals] == pytest.approx(range(7), abs=1e-3)
    assert {len(one) for one in originals} == {24}
    capsys.readouterr()
    refused = ["reconstruct", "--ckpt", str(stocks), str(path), "--out", str(tmp_path / "x"), "--part", "test"]
    assert main(refused) == 2
    assert "--part: there is no test part, only train" in capsys.readouterr().err


def test_a_written_table_is_read_by_the_roles_it_was_written_with(tmp_path):
    """Whatever the run's own file needed: its delimiter, no header, no column for the class."""
    codec = SeriesCodec.fit(
        {"x": np.arange(4.0), "kind": np.array(["a", "b", "a", "b"], dtype=object)},
        attributes={"size": np.array([1.0, 2.0])},
        labels=["no", "yes"],
        categorical=["kind"],
        label_name="label",
    )
    run = {"source": "mine.npz", "delimiter": ";", "header": False, "window": 2, "split": "overlapping"}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"data": {"class_path": "hybridgen.data.SeriesData", "init_args": run}}))
    path = tmp_path / "samples.csv"
    rows = [f"{series},{x},{'ab'[x % 2]},{series + 1},{('no', 'yes')[series]}\n" for series in (1, 0) for x in range(3)]
    path.write_text("series,x,kind,size,label\n" + "".join(rows))
    module = data_of("model.ckpt", str(config), codec, source=str(path))
    given = all_sequences(module, None, codec)
    assert given.labels == ["yes", "no"]
    assert [len(one) for one in given.sequences] == [3, 3]
    assert [one.attributes for one in module.series("train")] == [{"size": 2.0}, {"size": 1.0}]


def test_the_id_column_of_the_run_tells_series_apart_that_are_cut_to_its_window(tmp_path):
    codec = SeriesCodec.fit({"x": np.arange(10.0)}, id_name="who", scaling="none")
    run = {"source": "mine.csv", "id_column": "who", "window": 4, "stride": 3}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"data": {"class_path": "hybridgen.data.SeriesData", "init_args": run}}))
    path = tmp_path / "mine.csv"
    path.write_text("x,who\n" + "".join(f"{x},{who}\n" for who in "ba" for x in range(7)))
    given = all_sequences(data_of("model.ckpt", str(config), codec, source=str(path)), None, codec)
    assert [one[:, 0].tolist() for one in given.sequences] == [[0, 1, 2, 3], [3, 4, 5, 6]] * 2
