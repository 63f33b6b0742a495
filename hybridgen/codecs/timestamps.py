"""Timestamps: read as they stand in a file, continued by their rule, written as they stood."""

from __future__ import annotations

import calendar
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np

from hybridgen.codecs.errors import CodecError

#: Formats that are recognised by themselves: the year first, so that day and month cannot be confused.
FORMATS = (
    "%Y-%m",
    *("%Y-%m-%d", "%Y/%m/%d"),
    *(
        date + clock + zone
        for date in ("%Y-%m-%d", "%Y/%m/%d")
        for clock in (" %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S.%f")
        for zone in ("", "%z")
    ),
)


#: What ``%z`` and ``%f`` take, as ``datetime.strptime`` does.
_ZONE = r"(?P<zone>Z|[+-]\d\d:?[0-5]\d(?::?[0-5]\d(?:\.\d{1,6})?)?)"
_FRACTION = r"(?P<fraction>\d{1,6})"
_LAST_DAY = 31  # of any month, as the day that a series stands on


@dataclass(frozen=True)
class TimeRule:
    """How a column of times goes on from one row to the next.

    Attributes:
        name: Of the column.
        format: Of dates, for ``datetime.strptime``; None where times are numbers.
        start: The first time of the training data, as in the file.
        step: From row to row: the median, in seconds or in the column's own unit. 0 where ``months`` is the step.
        months: From row to row, for times that are months apart.
        regular: Whether the step was the same everywhere.
        day: Of the month, that such times stand on: in a shorter month, its last. 31 is the last day of every month;
            0 is the day of the first time.
    """

    name: str
    format: str | None
    start: str
    step: float
    months: int = 0
    regular: bool = True
    day: int = 0

    def times(self, length: int, start: str | None = None) -> list[str]:
        """Return ``length`` times from ``start`` on, by default from the first time of the training data.

        Dates spell their zone as the first one does; no time has fewer digits behind the point than it.

        Raises:
            CodecError: ``start`` cannot be read, or the times go beyond year 9999.
        """
        first = start if start is not None else self.start
        if self.format is None:
            return self._numbers(first, length)
        base = _parse_date(first, self.format)
        zone, digits = _spelling(first, self.format)
        micros = f"{timedelta(seconds=self.step).microseconds:06d}".rstrip("0")
        digits = max(digits, _spelling(self.start, self.format)[1], len(micros))
        try:
            return [_write(self._after(base, row), self.format, zone, digits) for row in range(length)]
        except OverflowError:
            raise CodecError(f"{length} times from {first!r} on leave the calendar: start earlier") from None

    def _numbers(self, first: str, length: int) -> list[str]:
        base, step = _parse_number(first), Decimal(str(self.step))
        if isinstance(base, int) and step == step.to_integral_value():
            return [str(base + row * int(step)) for row in range(length)]
        base = Decimal(base)
        numbers = [f"{base + row * step:f}" for row in range(length)]
        digits = max(_digits(base), _digits(Decimal(_parse_number(self.start))))
        if digits >= _digits(step.normalize()):
            return [f"{Decimal(number):.{digits}f}" for number in numbers]
        # A file whose first time has fewer digits than its step writes each as short as it can: 0.5, 0.75, 1.
        return [number.rstrip("0").rstrip(".") if "." in number else number for number in numbers]

    def _after(self, base: datetime, row: int) -> datetime:
        if not self.months:
            return base + timedelta(seconds=row * self.step)
        years, month = divmod(base.month - 1 + row * self.months, 12)
        # A start off the series' own day (--start) sets another one.
        day = self.day if base.day == min(self.day, _month_length(base.year, base.month)) else base.day
        try:
            return base.replace(
                year=base.year + years, month=month + 1, day=min(day, _month_length(base.year + years, month + 1))
            )
        except ValueError:
            raise OverflowError from None

    def to_config(self) -> dict[str, Any]:
        """Return the rule as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: object) -> TimeRule:
        """Rebuild a rule.

        Raises:
            CodecError: It is damaged.
        """
        # Rules of older checkpoints have no day: they go on from the day they start on.
        if not isinstance(config, dict) or config.keys() | {"day"} != {field.name for field in fields(cls)}:
            raise CodecError("the rule of its times is damaged: use another copy")
        rule = cls(**config)
        sound = (
            isinstance(rule.name, str)
            and isinstance(rule.start, str)
            and (rule.format is None or isinstance(rule.format, str))
            and type(rule.step) in (int, float)
            and abs(rule.step) <= sys.float_info.max
            and type(rule.months) is int
            and isinstance(rule.regular, bool)
            and type(rule.day) is int
            and 0 <= rule.day <= _LAST_DAY
        )
        if not sound:
            raise CodecError("the rule of its times has values that it cannot have: use another copy")
        rule.times(1)
        return rule


def find_format(example: str) -> str | None:
    """Return the format of a date, or None where it is a number.

    Raises:
        CodecError: It is neither a number nor of a format that can be told.
    """
    try:
        if "_" not in example and math.isfinite(float(example)):
            return None
    except ValueError:
        pass
    for candidate in FORMATS:
        try:
            datetime.strptime(example, candidate)
        except ValueError:
            continue
        return candidate
    raise CodecError(
        f"the time {example!r} is neither a number nor a date with the year first: give its format with time_format, "
        "such as '%d.%m.%Y %H:%M'"
    )


def parse_time(text: str, form: str | None) -> float:
    """Return a time as a number: as it stands, or seconds since 1970 of a date.

    Raises:
        CodecError: It is not of that format.
    """
    if form is None:
        return float(_parse_number(text))
    date = _parse_date(text, form)
    return (date - datetime(1970, 1, 1, tzinfo=timezone.utc if date.tzinfo else None)).total_seconds()


def fit_times(name: str, series: Sequence[Sequence[str]], form: str | None) -> TimeRule:
    """Find the rule of the times of one or more series, each in order.

    Numbers of eight digits that are all dates, such as 20240131, are taken as dates.

    Raises:
        CodecError: A time is not of the format.
    """
    if form is None and all(_is_compact_date(text) for times in series for text in times):
        form = "%Y%m%d"
    start = series[0][0]
    if form is None:
        numbers = [[_parse_number(text) for text in times] for times in series]
        # float() after the difference: an epoch in nanoseconds has more digits than a float
        steps: list[Any] = [after - before for times in numbers for before, after in pairwise(times)]
    else:
        dates = [[_parse_date(text, form) for text in times] for times in series]
        months, day = _step_in_months(dates)
        if months:
            return TimeRule(name, form, start, 0.0, months=months, day=day)
        steps = [(after - before).total_seconds() for times in dates for before, after in pairwise(times)]
    if not steps:
        return TimeRule(name, form, start, 1.0)
    together = np.array(steps, dtype=np.float64)
    if all(step == steps[0] for step in steps):
        return TimeRule(name, form, start, steps[0] if isinstance(steps[0], int) else float(steps[0]))
    # Differences of decimal fractions: 0.30000000000000004 - 0.2 is meant as 0.1.
    median = float(f"{np.median(together):.12g}")
    return TimeRule(name, form, start, median, regular=bool(np.allclose(together, median, rtol=1e-6, atol=0)))


def _step_in_months(series: Sequence[Sequence[datetime]]) -> tuple[int, int]:
    """Return the months from row to row and the day that the first series stands on; 0 where there are no such.

    In every series the step, the day and the time of day must always be the same, but for months without that day.
    """
    found: set[int] = set()
    for dates in series:
        day = _day_of(dates)
        for before, after in pairwise(dates):
            months = (after.year - before.year) * 12 + after.month - before.month
            same = all(date.day == min(day, _month_length(date.year, date.month)) for date in (before, after))
            if months < 1 or not same or after.time() != before.time():
                return 0, 0
            found.add(months)
    return (found.pop(), _day_of(series[0])) if len(found) == 1 else (0, 0)


def _day_of(dates: Sequence[datetime]) -> int:
    """Return the day of the month that dates stand on, if they stand on one."""
    if all(date.day == _month_length(date.year, date.month) for date in dates):
        return _LAST_DAY
    return max(date.day for date in dates)


def _month_length(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _is_compact_date(text: str) -> bool:
    if not re.fullmatch("[0-9]{8}", text):
        return False
    try:
        datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return False
    return True


def _parse_date(text: str, form: str) -> datetime:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        raise CodecError(f"the time {text!r} is not of the format {form!r}: correct it, or set time_format") from None


def _parse_number(text: str) -> int | Decimal:
    """Return a number with all of its digits."""
    try:
        number = math.nan if "_" in text else float(text)  # 1_000 is a number in Python's own spelling alone
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise CodecError(f"the time {text!r} is not a number, as the times before it are")
    return int(text) if re.fullmatch(r"\s*[+-]?\d+\s*", text) else Decimal(text)


def _digits(number: Decimal) -> int:
    """Return how many digits a number has behind its point."""
    return max(0, -int(number.as_tuple().exponent))


def _spelling(text: str, form: str) -> tuple[str | None, int]:
    """Return how a date writes its zone, None where it has none, and how many digits its fraction of a second has."""
    pattern = ""
    for piece in re.findall(r"%.|\s+|[^%\s]+", form):
        literal = r"\s+" if piece.isspace() else re.escape(piece)
        pattern += {"%z": _ZONE, "%f": _FRACTION}.get(piece, ".+?" if piece.startswith("%") else literal)
    found = re.fullmatch(pattern, text, re.IGNORECASE)
    parts = {} if found is None else found.groupdict()
    return parts.get("zone"), len(parts.get("fraction", "000000"))


def _write(date: datetime, form: str, zone: str | None, digits: int) -> str:
    parts = {"%f": f"{date.microsecond:06d}"[:digits]} | ({} if zone is None else {"%z": zone})
    return date.strftime(re.sub("%.", lambda piece: parts.get(piece[0], piece[0]), form))
