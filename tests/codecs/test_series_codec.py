"""Series: real units, categories, missing cells and times survive the way to features and back."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridgen import codecs
from hybridgen.codecs import CodecError, FeatureGroup, SeriesCodec
from hybridgen.codecs.timestamps import find_format, fit_times


def text(*cells):
    values = np.empty(len(cells), dtype=object)
    values[:] = cells
    return values


def mixed(**options):
    """A codec with every kind of column, and the columns that it was fitted on."""
    columns = {
        "price": np.array([1.25, 2.5, np.nan, 4.0]),
        "kind": text("b", "a", "b", None),
        "count": np.array([10.0, 30.0, 20.0, 10.0]),
        "site": text("x", "x", "x", "x"),
        "zero": np.zeros(4),
    }
    codec = SeriesCodec.fit(
        columns,
        attributes={"age": np.array([30.0, 40.0]), "town": text("Bonn", "Aachen")},
        conditions={"hour": np.array([0.0, 1.0, 2.0, 3.0])},
        categorical=["kind", "site", "town"],
        labels=["no", "yes"],
        **options,
    )
    return codec, columns


def same(ours, theirs):
    assert list(ours) == list(theirs)
    for name, cells in theirs.items():
        if cells.dtype == object:
            assert ours[name].tolist() == cells.tolist()
        else:
            np.testing.assert_allclose(ours[name], cells, rtol=1e-6, atol=1e-6)


def made_or_refused(make):
    """Return what is made, or None if it was refused in one sentence; let anything else that is raised pass."""
    try:
        return make()
    except CodecError as error:
        message = str(error)
    assert "\n" not in message
    return None


def test_every_kind_of_column_comes_back():
    codec, columns = mixed()
    values, mask = codec.encode(columns)
    assert values.dtype == torch.float32
    assert values.shape == mask.shape == (4, codec.num_features)
    assert codec.groups == [
        FeatureGroup("price", "unit", 0, 1),
        FeatureGroup("price", "observed", 1, 2),
        FeatureGroup("kind", "categorical", 2, 4),
        FeatureGroup("kind", "observed", 4, 5),
        FeatureGroup("count", "unit", 5, 6),
    ]
    assert mask.tolist()[2] == [False, True, True, True, True, True]
    assert mask.tolist()[3] == [True, True, False, False, True, True]
    assert values[2, 0] == codec.neutral[0]  # the mean of what there is
    assert codec.neutral.shape == (codec.num_features,)
    (series,) = codec.decode(values[None])
    same(series.columns, columns)
    assert series.columns["count"].tolist() == [10, 30, 20, 10]  # exactly: the file had whole numbers


def test_labels_attributes_and_conditions_come_back():
    codec, columns = mixed()
    attributes = torch.stack([codec.encode_attributes({"age": 40.0, "town": "Bonn"})])
    given_hours = codec.encode_conditions({"hour": np.arange(4.0)})
    values = codec.encode(columns)[0][None]
    (series,) = codec.decode(values, labels=torch.tensor([1]), attributes=attributes, conditions=given_hours[None])
    assert series.label == "yes"
    assert series.attributes == {"age": 40.0, "town": "Bonn"}
    assert series.conditions["hour"].tolist() == [0, 1, 2, 3]
    assert (codec.num_labels, codec.num_attributes, codec.num_conditions) == (2, 3, 1)
    assert codec.label_index("yes") == 1
    with pytest.raises(CodecError, match=r"there is no label 'yess': .*'yes'"):
        codec.label_index("yess")


def test_a_saved_codec_is_the_same():
    codec, columns = mixed(
        scaling={"price": "standard", "count": "none"}, time=fit_times("t", [["2024-01-01", "2024-01-02"]], "%Y-%m-%d")
    )
    loaded = codecs.from_config(json.loads(json.dumps(codec.to_config())))
    for other in (loaded, pickle.loads(pickle.dumps(codec))):
        assert isinstance(other, SeriesCodec)
        assert other.to_config() == codec.to_config()
        assert all(a.equal(b) for a, b in zip(other.encode(columns), codec.encode(columns), strict=True))
        assert other.decode(codec.encode(columns)[0][None])[0].times == [f"2024-01-0{day}" for day in range(1, 5)]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(-1e9, 1e9) | st.just(float("nan")), min_size=2, max_size=30),
    st.sampled_from(["min_max", "standard"]),
)
def test_any_numbers_come_back_within_the_precision_of_their_range(numbers, scaling):
    cells = np.array(numbers)
    columns = {"x": cells, "other": np.arange(len(cells)) * 1.0}
    codec = made_or_refused(lambda: SeriesCodec.fit(columns, scaling=scaling))
    if codec is None:  # nothing there, or narrower than float can scale
        return
    values, _ = codec.encode(columns)
    assert values.isfinite().all()
    if scaling == "min_max":
        assert (values >= 0).all()
        assert (values <= 1).all()
    back = codec.decode(values[None])[0].columns["x"]
    there = ~np.isnan(cells)
    assert (np.isnan(back) == ~there).all()
    width = np.ptp(cells[there]) or 1.0
    assert np.abs(back[there] - cells[there]).max() <= 1e-5 * width


def test_the_ranges_of_features_are_named():
    cells = {"a": np.array([0.2, 0.5]), "b": np.array([-1.0, 0.5]), "c": np.array([3.0, 9.0])}
    assert [group.kind for group in SeriesCodec.fit(cells, scaling="none").groups] == ["unit", "symmetric", "real"]


def test_categories_are_the_likeliest_or_drawn():
    codec = SeriesCodec.fit({"kind": text("a", "b", "c")}, categorical=["kind"])
    values = torch.tensor([0.1, 0.6, 0.3]).expand(1, 3000, 3)
    assert set(codec.decode(values)[0].columns["kind"]) == {"b"}
    drawn = codec.decode(values, categories="sample", seed=1)[0].columns["kind"].tolist()
    assert drawn == codec.decode(values, categories="sample", seed=1)[0].columns["kind"].tolist()
    shares = [drawn.count(kind) / 3000 for kind in "abc"]
    assert shares == pytest.approx([0.1, 0.6, 0.3], abs=0.04)


def test_categories_that_are_numbers_are_in_their_order():
    codec = SeriesCodec.fit({"n": text("10", "9", "2")}, categorical=["n"])
    assert codec.columns[0].categories == ("2", "9", "10")


def test_reversed_features_are_turned_back():
    cells = {"x": np.array([1.0, 2.0, 4.0])}
    codec = SeriesCodec.fit(cells, reverse=True)
    values, _ = codec.encode(cells)
    assert values[0] == 1  # the last row first
    assert codec.decode(values[None])[0].columns["x"].tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("times", "form", "after"),
    [
        (["0", "2", "4"], None, ["0", "2", "4", "6"]),
        (["0.5", "0.75"], None, ["0.5", "0.75", "1", "1.25"]),
        (["2024-02-27", "2024-02-28"], None, ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01"]),
        (["2024-01-31 23:50", "2024-02-01 00:00"], None, ["2024-01-31 23:50", "2024-02-01 00:00", "2024-02-01 00:10"]),
        (["2023-11-01", "2023-12-01", "2024-01-01"], None, ["2023-11-01", "2023-12-01", "2024-01-01", "2024-02-01"]),
        (["01.02.2024", "02.02.2024"], "%d.%m.%Y", ["01.02.2024", "02.02.2024", "03.02.2024"]),
        (["2024-01-01T00:00:00+0100", "2024-01-01T06:00:00+0100"], None, ["2024-01-01T00:00:00+0100"]),
    ],
)
def test_times_go_on_by_their_rule(times, form, after):
    rule = fit_times("t", [times], form or find_format(times[0]))
    assert rule.times(len(after)) == after
    assert rule.regular or rule.months


def test_times_start_where_one_says():
    rule = fit_times("t", [["2024-01-01", "2024-01-08"]], "%Y-%m-%d")
    assert rule.times(2, "2030-05-01") == ["2030-05-01", "2030-05-08"]
    with pytest.raises(CodecError, match="the time 'soon' is not of the format '%Y-%m-%d'"):
        rule.times(2, "soon")
    with pytest.raises(CodecError, match="leave the calendar"):
        rule.times(3, "9999-12-30")


def test_irregular_times_go_on_by_the_median_and_say_so():
    rule = fit_times("t", [["0", "1", "2", "10"]], None)
    assert (rule.step, rule.regular) == (1.0, False)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda c, x: c.encode({**x, "kind": text("a", "z", "a", "a")}),
            "category 'z' of the column 'kind' was not in",
        ),
        (lambda c, x: c.encode({**x, "zero": np.ones(4)}), r"'zero' is 0\.0 throughout .* but 1\.0 elsewhere"),
        (lambda c, x: c.encode({"price": x["price"]}), "there is no column 'kind'"),
        (
            lambda c, x: c.decode(torch.zeros(1, 4, 3)),
            r"shape \(1, 4, 3\) cannot be decoded: give \(B, T, F\) with F=6",
        ),
        (lambda c, x: c.decode(torch.full((1, 4, 6), float("nan"))), "series 0 has values that are not finite"),
        (lambda c, x: c.decode(torch.zeros(1, 4, 6), categories="best"), "categories='best' is unknown"),
        (lambda c, x: SeriesCodec.fit({"a": np.ones(3)}), "every column is constant in the training data"),
        (lambda c, x: SeriesCodec.fit({"a": np.full(3, np.nan)}), "'a' has no value in the training data"),
        (lambda c, x: SeriesCodec.fit(x, categorical=["kinds"]), "categorical names the column 'kinds': .*'kind'"),
        (lambda c, x: SeriesCodec.fit({"a": np.arange(3.0)}, scaling="minmax"), "scaling='minmax' of the column 'a'"),
    ],
)
def test_what_cannot_be_ends_in_one_sentence(call, sentence):
    codec, columns = mixed()
    with pytest.raises(CodecError, match=sentence) as caught:
        call(codec, columns)
    assert "\n" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_stands_in_a_saved_codec_it_loads_or_is_refused(data):
    codec, _ = mixed(time=fit_times("t", [["0", "1"]], None))
    config = json.loads(json.dumps(codec.to_config()))
    room = data.draw(st.sampled_from([config, config["time"], *config["columns"]]))
    room[data.draw(st.sampled_from(sorted(room)))] = data.draw(json_values)
    loaded = made_or_refused(lambda: codecs.from_config(config))
    assert loaded is None or len(loaded.decode(torch.zeros(1, 2, loaded.num_features))) == 1
