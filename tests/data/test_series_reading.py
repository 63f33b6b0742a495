"""Reading series: what is right is read exactly, what is wrong is named by file, line and column."""

import sys
import textwrap
import zipfile

import numpy as np
import pytest

from hybridgen.data import DataError, SeriesData
from hybridgen.data.series_csv import read_csv


@pytest.fixture
def write(tmp_path):
    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode())
        return path

    return write


def test_cells_are_read_exactly(write):
    path = write('\ufeffa, b ,"c, d"\r\n1.5,,0.1\r\n\r\n -2e3 ,NaN,7\r\n')
    columns = read_csv(path)
    assert list(columns) == ["a", "b", "c, d"]
    assert columns["a"].tolist() == [1.5, -2000.0]
    assert np.isnan(columns["b"]).all()
    assert columns["c, d"].tolist() == [0.1, 7.0]


def test_text_and_missing_cells(write):
    columns = read_csv(write("a,b\nx,-200\n?,3\n-,4\n"), text=["a"], missing_values=[-200.0, "-"])
    assert columns["a"].tolist() == ["x", None, None]
    assert np.isnan(columns["b"][0])
    assert columns["b"].tolist()[1:] == [3.0, 4.0]


def test_a_header_is_told_from_numbers(write):
    assert list(read_csv(write("1,2\n3,4\n"))) == ["x1", "x2"]
    assert list(read_csv(write("1,2\n3,4\n"), header=True)) == ["1", "2"]
    assert list(read_csv(write("1,2\n3,4\n"), names=["a", "b"])) == ["a", "b"]
    assert read_csv(write("a\tb\n3\t4\n"), delimiter="\t")["b"].tolist() == [4.0]


def test_only_what_is_wanted_is_read(write):
    assert list(read_csv(write("a,b\nnot a number,1\n"), wanted=["b"])) == ["b"]


def test_long_files_are_read_in_blocks(write):
    path = write("a,b\n" + "".join(f"{row},{-row}\n" for row in range(45_000)))
    columns = read_csv(path)
    assert np.array_equal(columns["a"], np.arange(45_000.0))
    assert np.array_equal(columns["b"], -np.arange(45_000.0))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a,b\n1,2\n3,x\n", r"line 3, column 'b': 'x' is not a number: .*categorical_columns"),
        ("a,b\n1,2\n3,1_10\n", "line 3, column 'b': '1_10' is not a number"),
        ("a,b\n1,2\n3,inf\n", "line 3, column 'b': 'inf' is not finite"),
        ("a,b\n1,2\n3\n", "line 3: it has 1 cells but the table has 2 columns"),
        ("a,b\n1,2,3\n", "line 2: it has 3 cells but the table has 2 columns"),
        ("a,b\n\n1,2\n1,2,3\n", "line 4: it has 3 cells"),
        ("a,a\n1,2\n", "line 1: the header has 'a' twice"),
        (",a\n1,2\n", "line 1: cell 1 of the header is empty"),
        ("a;b\n1;2\n", "line 1: the cells seem to be divided by ';': set delimiter"),
        ("a,b\n", "has a header but no rows"),
        ("", "is empty: give a csv file"),
        (b"a,b\n1,2\n1,\xff\n", "line 3, cell 2: byte 0xFF is not UTF-8 text"),
        ('a,b\n1,2\n1,"2\n', "line 3: this is not a row of a csv file"),
    ],
)
def test_what_is_wrong_is_named(write, content, sentence):
    path = write(content)
    with pytest.raises(DataError, match=sentence) as error:
        read_csv(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_and_a_wrong_option(tmp_path, write):
    with pytest.raises(DataError, match=r"there is no file .*nothing\.csv"):
        read_csv(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="delimiter=';;' must be one character"):
        read_csv(write("a\n1\n"), delimiter=";;")
    with pytest.raises(DataError, match="there is no file stock and no source of that name: did you mean 'stocks'"):
        SeriesData(source="stock")
    with pytest.raises(DataError, match="is not a csv, parquet or npz file by its name"):
        SeriesData(source=str(write("a\n1\n", "table.xls")), window=2).table  # noqa: B018


LONG = """\
    who,day,age,mood,x,note
    b,2,30,,5,n
    a,1,40,good,1,n
    b,1,30,bad,4,n
    a,2,40,,2,n
    a,3,40,bad,3,n
    """


def test_rows_are_grouped_and_put_in_the_order_of_time(write):
    data = SeriesData(
        source=str(write(LONG)),
        id_column="who",
        time_column="day",
        attribute_columns=["age"],
        categorical_columns=["mood"],
        columns=["x", "mood"],
        valid_fraction=0,
        test_fraction=0,
    )
    table = data.table
    assert table.names == ["b", "a"]
    assert table.starts.tolist() == [0, 2, 5]
    assert table.columns["x"].tolist() == [4, 5, 1, 2, 3]
    assert table.columns["mood"].tolist() == ["bad", None, "good", None, "bad"]
    assert table.attributes["age"].tolist() == [30, 40]
    assert table.times == ["1", "2", "1", "2", "3"]
    assert data.sequences("train").lengths.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"categorical_columns": ["moods"]}, "has no column 'moods': did you mean 'mood'"),
        ({"id_column": "whom"}, "has no column 'whom': did you mean 'who'"),
        ({"id_column": "who", "columns": ["who", "x"]}, "the column 'who' has two roles"),
        (
            {"id_column": "who", "attribute_columns": ["x"], "columns": ["age"]},
            "the attribute 'x' is 5.0 and 4.0 in the series 'b'",
        ),
        (
            {"id_column": "who", "label_column": "mood", "columns": ["x"]},
            "the label 'mood' is None and 'bad' in the series 'b'",
        ),
        ({"id_column": "mood", "columns": ["x"]}, "row 1 has no value in the id column 'mood'"),
        ({"time_column": "day", "columns": ["x"]}, "the table has the time '1' twice"),
        ({"time_column": "note", "columns": ["x"]}, "'note': the time 'n' is neither a number nor a date"),
        ({"columns": ["x"]}, "is one series of 5 rows: set window to cut it, or id_column"),
    ],
)
def test_a_role_that_does_not_fit_is_named(write, options, sentence):
    path = write(LONG)
    with pytest.raises(DataError, match=sentence) as error:
        SeriesData(source=str(path), **options).prepare_data()
    assert "\n" not in str(error.value)


def test_arrays_are_read(tmp_path):
    values = np.arange(24.0).reshape(2, 4, 3)
    values[0, 1, 2] = -200
    path = tmp_path / "arrays.npz"
    np.savez(
        path,
        values=values,
        columns=["a", "b", "c"],
        lengths=[4, 3],
        labels=["dog", "cat"],
        attributes=[[1.0], [2.0]],
        attribute_names=["age"],
    )
    data = SeriesData(source=str(path), missing_values=[-200.0], valid_fraction=0, test_fraction=0)
    assert list(data.table.columns) == ["a", "b", "c"]
    assert np.isnan(data.table.columns["c"][1])
    batch = data.sequences("train").batch()
    assert batch.lengths.tolist() == [4, 3]
    assert [data.codec.labels[label] for label in batch.labels.tolist()] == ["dog", "cat"]
    assert batch.attributes.tolist() == [[0.0], [1.0]]


def test_windows_of_one_table_are_chained_back(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 2))
    windows = np.stack([rows[start : start + 5] for start in range(26)])
    path = tmp_path / "windows.npz"
    np.savez(path, data=windows)
    table = SeriesData(source=str(path), window=5).table
    assert np.array_equal(np.stack(list(table.columns.values()), axis=1), rows)
    np.savez(path, data=windows[::2])  # no chain: series of their own
    assert SeriesData(source=str(path)).table.num_series == 13


TWO = {"values": np.zeros((2, 3, 1)), "attributes": np.zeros((2, 2))}


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"a": np.zeros((2, 3)), "b": np.zeros(2)}, "has the arrays a, b: name the one of the series 'values'"),
        ({"values": np.zeros(3)}, r"the array 'values' is float64 of shape \(3,\)"),
        ({"values": np.array([["a", "b"]])}, "must be numbers of shape"),
        ({"values": np.array([[1.0, np.inf]])}, r"the value at \(0, 1\) of 'values' is not finite"),
        ({"values": np.zeros((2, 3, 1)), "lengths": np.array([1, 4])}, "'lengths' must be whole numbers of 1 to 3"),
        ({"values": np.zeros((2, 3, 1)), "labels": np.array(["a"])}, "'labels' is of shape .* 2 series"),
        (
            {"values": np.zeros((2, 3, 2)), "columns": np.array(["a"])},
            "'columns' has 1 names but 'values' has 2 columns",
        ),
        ({"values": np.zeros((2, 3, 1)), "times": np.array(["a"])}, r"'times' is of shape \(1,\)"),
        ({"values": np.zeros((3, 1)), "lengths": np.array(3)}, r"'lengths' is of shape \(\) but there are 1 series"),
        ({"values": np.zeros((2, 3, 1)), "lengths": np.ones((2, 1), int)}, r"'lengths' is of shape \(2, 1\)"),
        ({"values": np.zeros((3, 1)), "labels": np.array("a")}, r"'labels' is of shape \(\)"),
        ({"values": np.zeros((3, 1)), "columns": np.array("a")}, r"'columns' is of shape \(\): give a list of 1"),
        ({"values": np.zeros((3, 1)), "times": np.array("a")}, r"'times' is of shape \(\)"),
        ({"values": np.zeros((2, 3, 3)), "columns": np.array(["a", "a", "b"])}, "'columns' has 'a' twice"),
        (TWO | {"attribute_names": np.array(["a"])}, "'attribute_names' has 1 names but 'attributes' has 2 columns"),
        (TWO | {"attribute_names": np.array(list("abc"))}, "'attribute_names' has 3 names but 'attributes' has 2"),
        (TWO | {"attribute_names": np.array(["a", "a"])}, "'attribute_names' has 'a' twice"),
        (TWO | {"attributes": np.zeros((2, 2, 1))}, r"'attributes' is of shape \(2, 2, 1\)"),
        (TWO | {"attributes": np.array([["a", "b"]] * 2)}, "'attributes' must be finite numbers but is <U1"),
        (TWO | {"attributes": np.full((2, 2), np.inf)}, "'attributes' must be finite numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, arrays, sentence):
    path = tmp_path / "arrays.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=sentence) as error:
        SeriesData(source=str(path)).table  # noqa: B018
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 half of a zip"])
def test_a_damaged_array_file_is_named(tmp_path, content):
    path = tmp_path / "arrays.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"arrays\.npz cannot be read as a numpy npz file") as error:
        SeriesData(source=str(path)).table  # noqa: B018
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_array_file_with_any_byte_turned_is_read_or_named(save, tmp_path):
    path = tmp_path / "arrays.npz"
    save(path, values=np.arange(24.0).reshape(2, 4, 3), lengths=[4, 3])
    whole = path.read_bytes()
    said = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            SeriesData(source=str(path), valid_fraction=0, test_fraction=0).table  # noqa: B018
        except DataError as error:
            said.append(str(error))
    assert len(said) > len(whole) / 2
    assert all(str(path) in sentence and "\n" not in sentence for sentence in said)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"categorical_columns": ["y"]}, "has no column 'y'"),
        ({"categorical_columns": ["x"]}, r"'categories_x' is of shape \(\): give a list of texts"),
        ({"time_column": "when", "columns": ["x"]}, "'1_0' is neither a number nor a date"),
    ],
)
def test_roles_that_do_not_fit_an_array_file_are_named(options, sentence, tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, values=np.zeros((3, 1)), columns=["x"], categories_x="a", times=["1_0", "1_1", "1_2"])
    with pytest.raises(DataError, match=sentence):
        SeriesData(source=str(path), **options).table  # noqa: B018


def rows():
    """Two series, mixed and out of order, with a missing cell, as numbers."""
    values = [[1, 2, 30, 5], [0, 1, 40, 1], [1, 1, 30, 4], [0, 2, 40, 2], [0, 3, 40, np.nan]]
    return {"values": np.array(values), "columns": ["who", "day", "age", "x"]}


def same(ours, theirs):
    assert ours.names == theirs.names
    assert ours.starts.tolist() == theirs.starts.tolist()
    assert (ours.times, ours.time_format, ours.labels) == (theirs.times, theirs.time_format, theirs.labels)
    for room in ("columns", "conditions", "attributes"):
        mine, yours = getattr(ours, room), getattr(theirs, room)
        assert list(mine) == list(yours)
        for name in mine:
            assert mine[name].dtype == yours[name].dtype
            np.testing.assert_array_equal(mine[name], yours[name])


@pytest.mark.parametrize(
    "options",
    [
        {"id_column": "who", "time_column": "day", "attribute_columns": ["age"]},
        {"id_column": "who", "label_column": "age", "condition_columns": ["day"]},
        {"id_column": "who"},
        {"time_column": "x", "columns": ["age", "who"], "categorical_columns": ["who"]},
    ],
)
def test_an_array_is_read_as_the_same_table_in_csv(options, write, tmp_path):
    arrays = rows()
    if options.get("time_column") == "x":
        arrays["values"][4, 3] = 0.5
    lines = [",".join("" if np.isnan(cell) else f"{cell:g}" for cell in row) for row in arrays["values"]]
    text = write("\n".join([",".join(arrays["columns"]), *lines]) + "\n")
    np.savez(tmp_path / "table.npz", **arrays)
    same(*(SeriesData(source=str(path), window=2, **options).table for path in (tmp_path / "table.npz", text)))


def test_the_side_arrays_of_a_table_are_ordered_and_named_too(tmp_path):
    path = tmp_path / "table.npz"
    days = ["2024-01-02", "2024-01-01", "2024-01-01", "2024-01-02", "2024-01-03"]
    np.savez(path, **rows(), times=days, categories_who=["ann", "bob"])
    table = SeriesData(source=str(path), window=2, id_column="who").table
    assert table.names == ["bob", "ann"]
    assert table.times == ["2024-01-01", "2024-01-02", "2024-01-01", "2024-01-02", "2024-01-03"]
    assert table.columns["x"][:4].tolist() == [4, 5, 1, 2]
    values = np.array([[2.0, 7.0], [1.0, 8.0]])
    np.savez(path, values=values, columns=["t", "x"], labels=["dog"], attributes=[[3.0]], attribute_names=["age"])
    table = SeriesData(source=str(path), window=2, time_column="t", label_column="animal").table
    assert (table.labels, table.times, table.attributes["age"].tolist()) == (["dog"], ["1", "2"], [3.0])
    assert {name: cells.tolist() for name, cells in table.columns.items()} == {"x": [8.0, 7.0]}


@pytest.mark.parametrize(
    ("arrays", "options", "sentence"),
    [
        ({}, {"time_column": "days"}, "has no column 'days': did you mean 'day'"),
        ({}, {"id_column": "whom"}, "has no column 'whom': did you mean 'who'"),
        ({}, {"id_column": "x"}, "row 5 has no value in the id column 'x'"),
        ({}, {"time_column": "day"}, "the table has the time '1' twice"),
        ({}, {"id_column": "who", "label_column": "x"}, "the label 'x' is '5' and '4' in the series '1'"),
        ({"times": np.arange(5)}, {"time_column": "day"}, "has times in 'times' and in the column 'day'"),
        ({"labels": ["a"]}, {"id_column": "who"}, "'labels' is of one series, but id_column='who' tells many apart"),
        ({"values": 2.0**60 + np.zeros((5, 4))}, {"id_column": "who"}, r"'who' has numbers of 2\*\*53 and more"),
        ({"values": np.zeros((2, 3, 4))}, {"id_column": "whom"}, "has no column 'whom': did you mean 'who'"),
        (
            {"values": np.arange(24).reshape(2, 3, 4)},
            {"id_column": "who"},
            "has its series apart already: leave out id_column='who'",
        ),
        ({"values": np.zeros((2, 3, 4))}, {"time_column": "days"}, "has no column 'days': did you mean 'day'"),
        ({"values": np.eye(4)[None]}, {"time_column": "day"}, r"save 'day' as an array 'times' of shape \(series, st"),
    ],
)
def test_a_time_or_id_column_that_an_array_file_cannot_have_is_named(arrays, options, sentence, tmp_path):
    path = tmp_path / "table.npz"
    np.savez(path, **rows() | arrays)
    with pytest.raises(DataError, match=sentence) as error:
        SeriesData(source=str(path), window=2, **options).table  # noqa: B018
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_member_that_is_no_array_is_named(tmp_path):
    path = tmp_path / "arrays.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("values.npy", b"no array")
    with pytest.raises(DataError, match=r"cannot be read as a numpy npz file \('values.*' is no array\)"):
        SeriesData(source=str(path)).table  # noqa: B018


def test_pickled_arrays_are_not_opened(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, values=np.array([[1.0], None], dtype=object))
    with pytest.raises(DataError, match="cannot be read as a numpy npz file"):
        SeriesData(source=str(path)).table  # noqa: B018


def test_parquet_without_pyarrow_says_what_to_install(write, monkeypatch):
    path = write(b"PAR1", "table.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"reading .*table\.parquet needs pyarrow: run `pip install pyarrow`"):
        SeriesData(source=str(path), window=2).table  # noqa: B018


def test_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    path = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.table({"x": [1.0, None, 3.0], "n": [1, 2, 3], "kind": ["a", None, "b"]}), path)
    data = SeriesData(source=str(path), window=2, categorical_columns=["kind"], valid_fraction=0, test_fraction=0)
    assert data.table.columns["kind"].tolist() == ["a", None, "b"]
    assert data.table.columns["n"].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="the column 'kind' is of type string, not numbers"):
        SeriesData(source=str(path), window=2).table  # noqa: B018
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        SeriesData(source=str(path), window=2).table  # noqa: B018
