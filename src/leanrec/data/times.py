"""Times of a log as integers that sort: numbers, dates with or without a time of day, any time zone."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl

from leanrec.core.errors import DataError, one_line
from leanrec.data.ids import is_missing
from leanrec.data.spans import MICRO, UNITS, Span, unit_of

_SECONDS_LIMIT = 9e11  # larger numbers are not seconds (the year 30000) and keep their unit
_DATED = (10**8, 10**10)
"""Seconds between these, from 1973 to 2286, are shown as dates."""
_FORMATS = (
    ("%Y-%m-%d %H:%M:%S%.f%#z", True),
    ("%Y-%m-%d %H:%M:%S%.f", False),
    ("%Y-%m-%d %H:%M%#z", True),
    ("%Y-%m-%d %H:%M", False),
    ("%Y-%m-%d", False),
)
"""Forms of dates, and whether they have a zone."""
_DAYS = re.compile(r"\d{1,2}([./-])\d{1,2}\1(\d{4}|\d{2})([ T]\d{1,2}:\d{2}(:\d{2})?)?")
_POLARS = pl.exceptions.PolarsError


class Times:
    """Turns the time column of a log into ticks, batch by batch.

    The first value decides the form. Whole numbers are ticks as they are, whatever their unit. Numbers with a fraction
    and dates become microseconds, so that order within a second is kept; ``scale`` ticks make one unit of the store.
    Dates without a zone are of ``zone``, or UTC.

    Args:
        source: Where the times are from, for messages; may be set anew.
        format: Of text, as strftime writes it; found if None.
        zone: Name of a time zone.

    Attributes:
        span: What the times were like.
    """

    def __init__(self, source: str, column: str, unit: str, format: str | None = None, zone: str | None = None) -> None:
        self.source, self.column, self.unit = source, column, unit
        self.format, self.zone = format, zone
        self.scale = 1
        self.span = Span()
        self._magnitude = 1
        self._dated = False
        self._convert: Callable[[pl.Series], pl.Series] | None = None
        _check(format, zone)

    def ticks(self, values: pl.Series, rows: pl.Series) -> np.ndarray:
        """int64, one tick count per value.

        Raises:
            DataError: A value is missing or not a time; the message has its row.
        """
        if not len(values):
            return np.zeros(0, np.int64)
        if values.dtype.is_decimal():
            values = values.cast(pl.Float64)
        if self._convert is None:
            self._convert, self._dated = self._choose(values), values.dtype.is_temporal()
        elif values.dtype.is_temporal() != self._dated:
            raise DataError(
                f"expected times of one type, got {values.dtype} in column {self.column!r} of {self.source}, unlike before; "
                "convert them"
            )
        ticks = self._convert(values)
        if ticks.null_count():
            place = int(ticks.is_null().arg_true()[0])
            self._refuse(values[place], rows[place])
        found = ticks.to_numpy()
        self.span.add(found, self.scale)
        return found

    def missing(self, values: pl.Series) -> pl.Series:
        """bool, whether there is no time."""
        if values.dtype.is_float():
            return values.is_null() | values.is_nan().fill_null(False)
        return is_missing(values.str.strip_chars()) if values.dtype == pl.String else values.is_null()

    def bound(self, text: str) -> int:
        """The tick of a time that a user gives, a number in the unit of the log or a date; after the first `ticks`.

        Raises:
            DataError: It is no time.
        """
        number = pl.Series([text]).cast(pl.Float64, strict=False)[0]
        if number is not None and self.format is None:
            return int(number * self.scale)
        micros = self._from_text(pl.Series([text]))[0]
        if micros is None:
            raise DataError(f"expected a time such as 2023-11-14 or a number, got {text!r}; correct --since or --until")
        return micros if self.scale == MICRO else micros * self._magnitude // MICRO

    def _refuse(self, value: object, row: int) -> None:
        got = "nothing" if value is None else repr(value)
        advice = f"correct it or drop the {self.unit}"
        form = _DAYS.fullmatch(value.strip()) if isinstance(value, str) and self.format is None else None
        if form:
            mark, rest = form[1], ("" if not form[3] else form[3][0] + ("%H:%M:%S" if form[4] else "%H:%M"))
            year = "%Y" if len(form[2]) == 4 else "%y"
            first, second = (f"%{a}{mark}%{b}{mark}{year}{rest}" for a, b in ("dm", "md"))
            advice = f"say --time-format '{first}' if the day is first, '{second}' if the month is"
        expected = f"of the form {self.format!r}" if self.format else "such as 1700000000 or 2023-11-14T22:13:20"
        raise DataError(
            f"expected a time {expected}, got {got} in {self.unit} {row}, column {self.column!r} of {self.source}; {advice}"
        )

    def _choose(self, values: pl.Series) -> Callable[[pl.Series], pl.Series]:
        kind = values.dtype
        if not (kind.is_integer() or kind.is_float() or kind in (pl.String, pl.Datetime, pl.Date)) or (
            self.format and kind in (pl.Datetime, pl.Date)
        ):
            what = "text or numbers for a time format" if self.format else "numbers, dates or text as times"
            day = "; a time of day has no date" if kind == pl.Time else ""
            raise DataError(
                f"expected {what}, got {kind} in column {self.column!r} of {self.source}{day}; name another column, or convert it"
            )
        if self.format or kind in (pl.Datetime, pl.Date):
            self.scale = MICRO
            return self._from_format if self.format else self._from_dates
        number = values.head(1).cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)[0]
        self._magnitude = UNITS[unit_of(abs(number or 0))]
        if kind.is_integer() or (kind == pl.String and _whole(values.head(1)).null_count() == 0):
            return _from_whole
        if number is None:
            self.scale = MICRO
            return self._from_text
        self.scale = MICRO if abs(number) < _SECONDS_LIMIT else 1
        return self._from_fractions

    def _from_fractions(self, values: pl.Series) -> pl.Series:
        return _floor(_bare(values).cast(pl.Float64, strict=False) * self.scale)

    def _from_format(self, values: pl.Series) -> pl.Series:
        return self._parsed(_bare(values.cast(pl.String)), str(self.format), "%z" in str(self.format)).to_physical()

    def _from_dates(self, values: pl.Series) -> pl.Series:
        own = getattr(values.dtype, "time_zone", None)
        values = values.cast(pl.Datetime("us", own), strict=False)
        return (_local(values, self.zone) if self.zone and own is None else values).to_physical()

    def _from_text(self, values: pl.Series) -> pl.Series:
        text = _bare(values.cast(pl.String)).str.replace(r" ?UTC$", "Z").str.replace("T", " ", literal=True)
        text = text.str.replace(r"^(\d{4})/(\d\d?)/", "$1-$2-")
        text = text.set(~text.str.contains(r"^\d{4}-").fill_null(False), None)
        parsed = pl.Series(values.name, [None] * len(text), pl.Datetime("us", "UTC"))
        for format, zoned in _FORMATS:
            if parsed.null_count() == text.null_count():
                break
            left = text.set(parsed.is_not_null(), None)
            parsed = parsed.fill_null(self._parsed(left, format, zoned))
        return parsed.to_physical()

    def _parsed(self, text: pl.Series, format: str, zoned: bool) -> pl.Series:
        if zoned or not self.zone:
            return text.str.to_datetime(format, strict=False, time_unit="us", time_zone="UTC")
        return _local(text.str.to_datetime(format, strict=False, time_unit="us"), self.zone)


def _local(naive: pl.Series, zone: str) -> pl.Series:
    return naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _check(format: str | None, zone: str | None) -> None:
    """Refuse a form or a zone that there is not."""
    noon = pl.Series(["2020-01-01"]).str.to_datetime("%Y-%m-%d", time_unit="us")
    try:
        if zone is not None:
            _local(noon, zone)
    except _POLARS:
        raise DataError(f"expected a time zone such as Europe/Berlin, got {zone!r}; correct --timezone") from None
    try:
        if format is not None:
            noon.dt.strftime(format).str.to_datetime(format, strict=False, time_unit="us", time_zone="UTC")
    except _POLARS as error:
        raise DataError(
            f"expected a time format such as '%d.%m.%Y %H:%M', got {format!r}: {one_line(error)}; correct --time-format"
        ) from None


def shown_date(time: int) -> str:
    """A date if the number looks like seconds since 1970, else the number."""
    if not _DATED[0] <= time < _DATED[1]:
        return str(time)
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _floor(numbers: pl.Series) -> pl.Series:
    return numbers.floor().cast(pl.Int64, strict=False)


def _bare(values: pl.Series) -> pl.Series:
    return values.str.strip_chars() if values.dtype == pl.String else values


def _whole(values: pl.Series) -> pl.Series:
    return _bare(values).cast(pl.Int64, strict=False)


def _from_whole(values: pl.Series) -> pl.Series:
    ticks = values.cast(pl.Int64, strict=False)
    if ticks.null_count():  # blanks, or a few "17.0" among the integers
        ticks = _whole(values)
        ticks = ticks.fill_null(_floor(_bare(values).cast(pl.Float64, strict=False)))
    return ticks
