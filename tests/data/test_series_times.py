"""What SeriesData says of times, and of a file that is one series."""

import warnings

import pytest

from hybridgen.data import DataError, SeriesData


def table(tmp_path, days):
    path = tmp_path / "table.csv"
    path.write_text("day,x\n" + "".join(f"2024-01-{day:02d},{day}\n" for day in days))
    return str(path)


def test_uneven_times_are_told_once_and_even_ones_are_not(tmp_path):
    weekdays = SeriesData(source=table(tmp_path, [1, 2, 3, 4, 5, 8, 9, 10, 11, 12]), time_column="day", window=2)
    with pytest.warns(UserWarning, match=r"table.csv: the times in 'day' are not evenly .* 86400 seconds apart"):
        assert weekdays.codec.time.times(2) == ["2024-01-01", "2024-01-02"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not weekdays.codec.time.regular
        assert SeriesData(source=table(tmp_path, range(1, 11)), time_column="day", window=2).codec.time.regular


def test_one_whole_series_is_a_sequence_for_a_codec_that_there_is_but_none_to_train_on(tmp_path):
    source, none = table(tmp_path, range(1, 11)), {"valid_fraction": 0.0, "test_fraction": 0.0}
    codec = SeriesData(source=source, time_column="day", window=2).codec.to_config()
    given = SeriesData(source=source, time_column="day", codec=codec, **none)
    assert [len(series) for series in given.series("train")] == [10]
    for options in (none, {"codec": codec}):
        with pytest.raises(DataError, match="is one series of 10 rows: set window to cut it"):
            _ = SeriesData(source=source, time_column="day", **options).counts
