"""Timestamps: read as they stand in a file, continued by their rule, written as they stood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta, timezone
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
    """

    name: str
    format: str | None
    start: str
    step: float
    months: int = 0
    regular: bool = True

    def times(self, length: int, start: str | None = None) -> list[str]:
        """Return ``length`` times from ``start`` on, by default from the first time of the training data.

        Raises:
            CodecError: ``start`` cannot be read, or the times go beyond year 9999.
        """
        first = start if start is not None else self.start
        try:
            if self.format is None:
                base = parse_time(first, None)
                whole = base.is_integer() and float(self.step).is_integer()
                numbers = [base + row * self.step for row in range(length)]
                return [str(int(number)) if whole else f"{number:.12g}" for number in numbers]
            base = _parse_date(first, self.format)
            return [self._after(base, row).strftime(self.format) for row in range(length)]
        except OverflowError:
            raise CodecError(f"{length} times from {first!r} on leave the calendar: start earlier") from None

    def _after(self, base: datetime, row: int) -> datetime:
        if not self.months:
            return base + timedelta(seconds=row * self.step)
        years, month = divmod(base.month - 1 + row * self.months, 12)
        try:
            return base.replace(year=base.year + years, month=month + 1)
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
        if not isinstance(config, dict) or config.keys() != {field.name for field in fields(cls)}:
            raise CodecError("the rule of its times is damaged: use another copy")
        sound = (
            isinstance(config["name"], str)
            and isinstance(config["start"], str)
            and (config["format"] is None or isinstance(config["format"], str))
            and isinstance(config["step"], int | float)
            and math.isfinite(config["step"])
            and type(config["months"]) is int
            and isinstance(config["regular"], bool)
        )
        if not sound:
            raise CodecError("the rule of its times has values that it cannot have: use another copy")
        rule = cls(**config)
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
    if form is not None:
        date = _parse_date(text, form)
        return (date - datetime(1970, 1, 1, tzinfo=timezone.utc if date.tzinfo else None)).total_seconds()
    try:
        number = math.nan if "_" in text else float(text)  # 1_000 is a number in Python's own spelling alone
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise CodecError(f"the time {text!r} is not a number, as the times before it are")
    return number


def fit_times(name: str, series: Sequence[Sequence[str]], form: str | None) -> TimeRule:
    """Find the rule of the times of one or more series, each in order.

    Raises:
        CodecError: A time is not of the format.
    """
    steps = [np.diff([parse_time(text, form) for text in times]) for times in series]
    together = np.concatenate(steps) if steps else np.zeros(0)
    start = series[0][0]
    if not len(together):
        return TimeRule(name, form, start, 1.0)
    median = float(np.median(together))
    regular = bool(np.allclose(together, median, rtol=1e-6, atol=0))
    if form is not None and not regular:
        months = _step_in_months([[_parse_date(text, form) for text in times] for times in series])
        if months:
            return TimeRule(name, form, start, 0.0, months=months)
    return TimeRule(name, form, start, median, regular=regular)


def _step_in_months(series: Sequence[Sequence[datetime]]) -> int:
    """Return the number of months from row to row if it is always the same and days and hours are too, else 0."""
    found: set[int] = set()
    for dates in series:
        for before, after in pairwise(dates):
            months = (after.year - before.year) * 12 + after.month - before.month
            if after != before.replace(year=after.year, month=after.month, day=min(before.day, 28)):
                return 0
            found.add(months)
    return found.pop() if len(found) == 1 else 0


def _parse_date(text: str, form: str) -> datetime:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        raise CodecError(f"the time {text!r} is not of the format {form!r}: correct it, or set time_format") from None
