"""Times go on as a person would write them: month ends stay month ends, zones and digits stay as they are spelled."""

import calendar
import json
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgen.codecs.errors import CodecError
from hybridgen.codecs.timestamps import TimeRule, find_format, fit_times


def rule_of(times):
    return fit_times("t", [times], find_format(times[0]))


@given(
    st.integers(1, 12), st.integers(1, 31), st.integers(1890, 2110), st.integers(1, 12), st.sampled_from(["", " 06:30"])
)
def test_a_step_in_months_keeps_its_day_wherever_the_month_has_it(step, day, year, month, clock):
    truth = []
    for row in range(40):
        years, place = divmod(month - 1 + row * step, 12)
        last = calendar.monthrange(year + years, place + 1)[1]
        truth.append(f"{year + years}-{place + 1:02d}-{min(day, last):02d}{clock}")
    rule = rule_of(truth[:14])
    assert rule.months == step
    assert rule.times(40) == truth


@pytest.mark.parametrize(
    ("times", "start", "after"),
    [
        # A start that the series could have come to goes on as the series; any other sets the day.
        (["2019-01-31", "2019-02-28", "2019-03-31"], "2024-02-29", ["2024-02-29", "2024-03-31"]),
        (["2019-01-31", "2019-02-28", "2019-03-31"], "2024-01-15", ["2024-01-15", "2024-02-15"]),
        (["2019-01-01", "2019-02-01", "2019-03-01"], "2024-01-31", ["2024-01-31", "2024-02-29", "2024-03-31"]),
        (["2019-01-30", "2019-02-28", "2019-03-30"], "2023-02-28", ["2023-02-28", "2023-03-30"]),
        (["2021-01-01", "2022-01-01", "2023-01-01"], None, ["2021-01-01", "2022-01-01", "2023-01-01", "2024-01-01"]),
        (["2023-07", "2023-08", "2023-09"], None, ["2023-07", "2023-08", "2023-09", "2023-10"]),
        (["2024-01-30", "2024-01-31", "2024-02-01"], None, ["2024-01-30", "2024-01-31", "2024-02-01", "2024-02-02"]),
        (["2024-01-31", "2024-02-01"], None, ["2024-01-31", "2024-02-01", "2024-02-02"]),
    ],
)
def test_where_a_step_in_months_starts_and_what_is_none(times, start, after):
    assert rule_of(times).times(len(after), start) == after


def test_each_series_may_stand_on_a_day_of_its_own():
    rule = fit_times("t", [["2024-01-15", "2024-02-15"], ["2024-01-31", "2024-02-29"]], "%Y-%m-%d")
    assert rule.times(3) == ["2024-01-15", "2024-02-15", "2024-03-15"]
    assert rule.times(3, "2024-01-31") == ["2024-01-31", "2024-02-29", "2024-03-31"]


@given(
    st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)),
    st.integers(1, 10**9),
    st.integers(0, 6),
    st.sampled_from(["", "Z", "+00:00", "+0000", "+02:00", "-0330"]),
    st.sampled_from(["%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M:%S"]),
)
def test_dates_keep_the_spelling_of_zone_and_fraction(base, step, digits, zone, form):
    unit = 10 ** (6 - digits)
    base = base.replace(microsecond=base.microsecond // unit * unit)
    dates = [base + timedelta(microseconds=row * step * unit) for row in range(6)]
    truth = [d.strftime(form) + (f".{d.microsecond:06d}"[: digits + 1] if digits else "") + zone for d in dates]
    assert rule_of(truth[:4]).times(6) == truth


@given(st.integers(-(10**19), 10**19), st.integers(1, 10**17))
def test_whole_numbers_keep_every_digit(base, step):
    truth = [str(base + row * step) for row in range(6)]
    rule = rule_of(truth[:3])
    assert TimeRule.from_config(json.loads(json.dumps(rule.to_config()))).times(6) == truth
    assert rule.format is None


@pytest.mark.parametrize(
    "times",
    [
        ["20240229", "20240301", "20240302"],
        ["20231130", "20231231", "20240131"],
        ["1700000000.123", "1700000000.623", "1700000001.123"],
        ["0.500", "0.750", "1.000"],
        ["0", "0.5", "1"],
    ],
)
def test_numbers_and_compact_dates_come_back(times):
    assert rule_of(times[:2]).times(3) == times


def test_eight_digits_are_a_date_only_where_all_of_them_are():
    assert rule_of(["20240131", "20240132"]).times(2) == ["20240131", "20240132"]
    with pytest.raises(CodecError, match="the time '5' is not of the format '%Y%m%d'"):
        rule_of(["20240130", "20240131"]).times(1, "5")


def test_a_rule_of_an_older_checkpoint_loads_and_goes_on_from_its_day():
    old = {"name": "t", "format": "%Y-%m-%d", "start": "2024-01-15", "step": 0.0, "months": 1, "regular": True}
    assert TimeRule.from_config(old).times(3) == ["2024-01-15", "2024-02-15", "2024-03-15"]
    assert TimeRule.from_config(old).times(2, "2024-01-31") == ["2024-01-31", "2024-02-29"]
    for damage in ({"day": 32}, {"day": True}, {"step": 10**400}, {"step": True}):
        with pytest.raises(CodecError, match="values that it cannot have"):
            TimeRule.from_config(old | damage)
    with pytest.raises(CodecError, match="is damaged"):
        TimeRule.from_config({name: value for name, value in old.items() if name != "months"})
