"""Series under Lightning: divided in time, scaled on train alone, and given back in real units."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from hybridgen import codecs
from hybridgen.data import DataError, SeriesData, write_series
from hybridgen.data.series_sources import KNOWN_SERIES

ROWS = 100


@pytest.fixture
def table(tmp_path):
    """A csv with a time column; the cell of row r in column x is r."""
    path = tmp_path / "table.csv"
    rows = (f"2024-01-{1 + r // 24:02d} {r % 24:02d}:00,{r},{np.sin(r):.3f},7" for r in range(ROWS))
    path.write_text("when,x,wave,same\n" + "\n".join(rows) + "\n")
    return path


def make(path, **options):
    return SeriesData(source=str(path), **{"time_column": "when", "window": 5, **options})


def rows_of(data, part):
    return [series.columns["x"].tolist() for series in data.series(part)]


def test_windows_of_parts_never_share_a_row(table):
    data = make(table)
    rows = {part: {row for window in rows_of(data, part) for row in window} for part in ("train", "valid", "test")}
    assert rows == {"train": {*range(80)}, "valid": {*range(80, 90)}, "test": {*range(90, 100)}}
    assert data.counts == {"train": 76, "valid": 6, "test": 6}
    assert rows_of(data, "train")[3] == [3, 4, 5, 6, 7]
    assert rows_of(make(table, stride=5), "valid") == [[80, 81, 82, 83, 84], [85, 86, 87, 88, 89]]


def test_scales_come_from_train_alone(table):
    data = make(table)
    assert data.sequences("train").batch().values[..., 0].aminmax() == (0, 1)
    assert data.sequences("test").batch().values[..., 0].max() > 1.2
    assert data.num_features == 2  # "same" is constant: no feature
    assert make(table, scaling={"x": "standard"}).sequences("train").values[:80, 0].std() == pytest.approx(1, abs=1e-3)


def test_the_published_convention(table):
    data = make(table, split="overlapping", reverse=True)
    assert data.counts == {"train": 96, "valid": 96, "test": 96}
    values = data.sequences("train").batch().values
    assert values[0, :, 0].tolist() == pytest.approx([1 - row / 99 for row in range(5)])  # min-max over the file
    assert rows_of(data, "train")[0] == [95, 96, 97, 98, 99]  # in the order of the file again
    assert data.codec.decode(values[:1])[0].columns["x"].tolist() == [95, 96, 97, 98, 99]


def test_series_come_back_with_units_names_and_times(table, tmp_path):
    data = make(table)
    batch = data.sequences("valid").batch(np.array([2]))
    (real,), (decoded,) = data.series("valid", batch.indices), data.codec.decode(batch.values)
    assert real.times == [f"2024-01-04 {hour}:00" for hour in range(10, 15)]
    for name, cells in real.columns.items():
        assert decoded.columns[name].tolist() == cells.tolist()  # exactly: rounded as in the file
    assert decoded.times[:2] == ["2024-01-01 00:00", "2024-01-01 01:00"]
    path = write_series(tmp_path / "out.csv", [decoded], data.codec)
    lines = path.read_text().splitlines()
    assert lines[0] == "series,when,x,wave,same"
    assert lines[1] == f"0,2024-01-01 00:00,82,{np.sin(82):.3f},7"
    assert len(lines) == 6


def test_a_saved_codec_is_used(table):
    codec = make(table).codec
    data = make(table, split="overlapping", codec=json.loads(json.dumps(codec.to_config())))
    assert data.codec.to_config() == codec.to_config()
    text = codecs.make("bytes").to_config()
    with pytest.raises(DataError, match="codec is a 'bytes' codec, not one of series"):
        make(table, codec=text).codec  # noqa: B018


def gaps(tmp_path, *, kind="n"):
    path = tmp_path / "gaps.csv"
    kinds = "kind," if kind else ""
    lines = ["1,a,1", ",a,2", "3,,3", "4,b,4", "5,b,5", "6,a,6"]
    path.write_text(f"x,{kinds}y\n" + "\n".join(lines) + "\n")
    return path


def missing(path, **options):
    return SeriesData(
        source=str(path), window=2, valid_fraction=0, test_fraction=0, categorical_columns=["kind"], **options
    )


def test_missing_cells_are_masked(tmp_path):
    data = missing(gaps(tmp_path))
    kinds = [(group.name, group.kind) for group in data.codec.groups]
    assert kinds == [
        ("x", "unit"),
        ("x", "observed"),
        ("kind", "categorical"),
        ("kind", "observed"),
        ("y", "unit"),
    ]
    batch = data.sequences("train").batch()
    assert batch.mask[1].tolist() == [[False, True, True, True, True, True], [True, True, False, False, True, True]]
    assert batch.values[1, 0, 0] == data.codec.neutral[0]
    (series,) = data.codec.decode(batch.values[1:2])
    assert np.isnan(series.columns["x"][0])
    assert series.columns["kind"].tolist() == ["a", None]


def test_sequences_with_missing_cells_are_dropped(tmp_path):
    data = missing(gaps(tmp_path), missing="drop")
    assert [series.columns["y"].tolist() for series in data.series("train")] == [[4, 5], [5, 6]]
    assert data.sequences("train").batch().mask is None
    assert all(group.kind != "observed" for group in data.codec.groups)
    with pytest.raises(DataError, match="every sequence of the train part has a missing cell: set missing"):
        SeriesData(source=str(gaps(tmp_path)), window=5, columns=["x"], missing="drop", valid_fraction=0).counts  # noqa: B018


@pytest.mark.parametrize(("how", "second"), [("interpolate", 2.0), ("fill", 1.0)])
def test_missing_cells_are_filled(tmp_path, how, second):
    data = missing(gaps(tmp_path), missing=how)
    assert data.table.columns["x"].tolist() == [1, second, 3, 4, 5, 6]
    assert data.table.columns["kind"].tolist() == ["a", "a", "a", "b", "b", "a"]
    assert data.sequences("train").batch().mask is None


def test_gaps_are_filled_within_their_series(tmp_path):
    path = tmp_path / "two.csv"
    path.write_text("id,x\na,1\na,\nb,\nb,9\n")
    options = {"source": str(path), "id_column": "id", "valid_fraction": 0, "test_fraction": 0}
    for how in ("interpolate", "fill"):
        assert SeriesData(**options, missing=how).table.columns["x"].tolist() == [1, 1, 9, 9]
    path.write_text("id,x\na,1\na,\nb,\nb,\n")
    with pytest.raises(DataError, match="column 'x' of the series 'b' has no value to fill its gaps with"):
        SeriesData(**options, missing="fill").table  # noqa: B018


@pytest.fixture
def many(tmp_path):
    """Twenty labelled series of 3 to 6 rows, with a condition and two attributes."""
    path = tmp_path / "many.csv"
    lines = [
        f"s{series},{step},{series * 10 + step},{step % 2},{'cat' if series % 2 else 'dog'},{series},t{series % 3}"
        for series in range(20)
        for step in range(3 + series % 4)
    ]
    path.write_text("id,t,x,hour,animal,weight,town\n" + "\n".join(lines) + "\n")
    return {
        "source": str(path),
        "id_column": "id",
        "time_column": "t",
        "label_column": "animal",
        "condition_columns": ["hour"],
        "attribute_columns": ["weight", "town"],
        "categorical_columns": ["town"],
    }


def test_whole_series_of_any_length(many):
    data = SeriesData(**many)
    assert data.counts == {"train": 16, "valid": 2, "test": 2}
    assert sorted(s.name for part in data.counts for s in data.series(part)) == sorted(f"s{n}" for n in range(20))
    batch = data.sequences("train").batch()
    assert batch.lengths.min() >= 3
    assert data.codec.labels == ["cat", "dog"]
    assert batch.attributes.shape == (16, 4)
    decoded = data.codec.decode(
        batch.values,
        lengths=batch.lengths,
        labels=batch.labels,
        attributes=batch.attributes,
        conditions=batch.conditions,
    )
    for ours, theirs in zip(decoded, data.series("train"), strict=True):
        assert ours.label == theirs.label
        assert ours.attributes == theirs.attributes
        assert ours.columns["x"].tolist() == theirs.columns["x"].tolist()
        assert ours.conditions["hour"].tolist() == theirs.conditions["hour"].tolist()
        assert ours.times == theirs.times


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".npz", ".parquet"])
def test_what_is_written_is_read_back(many, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    data = SeriesData(**many)
    series = data.series("train")
    series[0].columns["x"][1] = np.nan
    path = write_series(tmp_path / "new" / f"out{suffix}", series, data.codec)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    roles = {**many, "source": str(path), "valid_fraction": 0, "test_fraction": 0}
    if suffix == ".npz":
        roles.update(id_column=None, time_column=None)
    back = SeriesData(**roles)
    assert back.counts == {"train": 16}
    for ours, theirs in zip(back.series("train"), series, strict=True):
        assert ours.label == theirs.label
        assert ours.attributes == theirs.attributes
        np.testing.assert_array_equal(ours.columns["x"], theirs.columns["x"])
        np.testing.assert_array_equal(ours.conditions["hour"], theirs.conditions["hour"])
        assert ours.times == theirs.times


def test_what_cannot_be_written_leaves_nothing(many, tmp_path, monkeypatch):
    data = SeriesData(**many)
    series = data.series("test")
    with pytest.raises(DataError, match=r"out\.xls does not say its format: let it end in \.csv"):
        write_series(tmp_path / "out.xls", series, data.codec)
    with pytest.raises(DataError, match="there is no series to write"):
        write_series(tmp_path / "out.csv", [], data.codec)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"writing .*out\.parquet needs pyarrow"):
        write_series(tmp_path / "out.parquet", series, data.codec)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_series(tmp_path / "file" / "out.csv", series, data.codec)
    assert not list(tmp_path.glob("**/out*"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"window": 50},
            "window=50 is longer than the valid part of any series .at most 10 rows.*, or raise valid_fraction$",
        ),
        (
            {"window": 200},
            "longer than the train part of any series .at most 80 rows.*, or lower valid_fraction or test_frac",
        ),
        ({"window": 200, "split": "overlapping"}, "at most 100 rows.: lower window, or give more rows$"),
        ({"window": 1}, "window=1 must be a whole number of at least 2"),
        ({"stride": 0}, "stride=0 must be a whole number of at least 1"),
        ({"missing": "masked"}, "missing='masked' is unknown: did you mean 'mask'"),
        ({"split": "block"}, "split='block' is unknown: did you mean 'blocks'"),
        ({"scaling": "minmax"}, "scaling='minmax' is unknown"),
        ({"scaling": {"y": "standard"}}, "scaling names the column 'y'"),
        ({"valid_fraction": 0.6, "test_fraction": 0.5}, "leave nothing to train on"),
        ({"columns": ["same"]}, "every column is constant in the training data"),
        ({"columns": ["wave", "z"]}, "has no column 'z'"),
        ({"split": "series"}, "has 1 series, too few to divide .*id_column .* set split to 'blocks'"),
    ],
)
def test_what_cannot_be_ends_in_one_sentence(table, options, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        make(table, **options).prepare_data()
    assert "\n" not in str(error.value)


def test_a_constant_that_changes_later_is_named(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("x,y\n" + "".join(f"{row},{int(row > 90)}\n" for row in range(100)))
    with pytest.raises(DataError, match=r"'y' is 0\.0 throughout the training data but 1\.0 elsewhere: leave it out"):
        SeriesData(source=str(path), window=3).prepare_data()


def test_series_that_are_too_short_are_counted(many):
    data = SeriesData(**many, window=4, split="series", valid_fraction=0, test_fraction=0)
    with pytest.warns(UserWarning, match="5 of 20 series have fewer than window=4 rows in the train part"):
        data.prepare_data()


def test_no_part_where_none_is_wanted(table):
    data = make(table, valid_fraction=0, test_fraction=0)
    assert data.val_dataloader() == data.test_dataloader() == []
    with pytest.raises(DataError, match="there is no valid part, only train: raise valid_fraction"):
        data.sequences("valid")


class Counting(pl.LightningModule):
    """Keeps the numbers of the sequences that it is trained on, and saves a checkpoint after nine steps."""

    def __init__(self, path):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.path = path
        self.seen = []

    def training_step(self, batch, _):
        self.seen.append(batch.indices.tolist())
        return self.weight * batch.values.mean()

    def on_train_batch_end(self, *_):
        if self.trainer.global_step == 9:
            self.trainer.save_checkpoint(self.path)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_training_goes_on_where_the_checkpoint_was(tmp_path):
    path = tmp_path / "nine.ckpt"

    def fit(resume):
        data = SeriesData(num_series=50, length=4, num_features=2, batch_size=8, valid_fraction=0, test_fraction=0)
        model = Counting(path)
        trainer = pl.Trainer(
            max_steps=12,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            default_root_dir=tmp_path,
        )
        trainer.fit(model, datamodule=data, ckpt_path=path if resume else None)
        return model.seen

    whole = fit(resume=False)
    assert len(whole) == 12
    assert fit(resume=True) == whole[9:]


@pytest.mark.parametrize(
    ("name", "rows", "columns"), [("stocks", 3685, 6), ("energy", 19_734, 28), ("air_quality", 9356, 13)]
)
def test_public_sets_are_what_they_should_be(name, rows, columns):
    home = os.environ.get("HYBRIDGEN_DATA")
    if home is None or not any((Path(home) / name / file).is_file() for file in KNOWN_SERIES[name].files):
        pytest.skip(f"{name} is not here: get it with `hybridgen data {name}`, or set HYBRIDGEN_DATA")
    data = SeriesData(source=name)
    assert (data.table.num_rows, len(data.table.columns), data.window) == (rows, columns, 24)
    assert data.codec.num_features >= columns
    if name == "air_quality":
        share = np.isnan(data.table.columns["NMHC(GT)"]).mean()
        assert share == pytest.approx(0.90, abs=0.01)


def test_a_public_set_that_is_not_here_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HYBRIDGEN_DATA", raising=False)
    with pytest.raises(DataError, match="'stocks' is not on this machine: run `hybridgen data stocks`"):
        SeriesData(source="stocks")
