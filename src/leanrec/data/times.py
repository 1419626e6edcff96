"""Times of a log as integers that sort: numbers, dates with or without a time of day, any time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl

from leanrec.core.errors import DataError

MICRO = 1_000_000
_SECONDS_LIMIT = 9e11  # larger numbers are not seconds (the year 30000) and keep their unit
_DATED = (10**8, 10**10)
"""Seconds between these, from 1973 to 2286, are shown as dates."""
_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)


class Times:
    """Turns the time column of a log into ticks, batch by batch.

    The first value decides the form. Whole numbers are ticks as they are, whatever their unit. Numbers with a fraction
    and dates become microseconds, so that order within a second is kept; ``scale`` ticks make one unit of the store.
    Dates without a zone are UTC.
    """

    def __init__(self, source: str, column: str, unit: str) -> None:
        self.source, self.column, self.unit = source, column, unit
        self.scale = 1
        self._convert: Callable[[pl.Series], pl.Series] | None = None

    def ticks(self, values: pl.Series, rows: pl.Series) -> np.ndarray:
        """int64, one tick count per value.

        Raises:
            DataError: A value is missing or not a time; the message has its row.
        """
        if self._convert is None:
            self._convert = self._choose(values)
        ticks = self._convert(values)
        if ticks.null_count():
            place = int(ticks.is_null().arg_true()[0])
            got = "nothing" if values[place] is None else repr(values[place])
            raise DataError(
                f"expected a time such as 1700000000 or 2023-11-14T22:13:20, got {got} in {self.unit} {rows[place]}, "
                f"column {self.column!r} of {self.source}; correct it or drop the {self.unit}"
            )
        return ticks.to_numpy()

    def _choose(self, values: pl.Series) -> Callable[[pl.Series], pl.Series]:
        if values.dtype.is_temporal():
            self.scale = MICRO
            return _from_dates
        if values.dtype.is_integer():
            return _from_whole
        if values.dtype not in (pl.String, pl.Float32, pl.Float64):
            raise DataError(
                f"expected numbers, dates or text as times, got {values.dtype} in column {self.column!r} of {self.source}"
            )
        if values.head(1).cast(pl.Int64, strict=False).null_count() == 0 and values.dtype == pl.String:
            return _from_whole
        number = values.head(1).cast(pl.Float64, strict=False)[0]
        if number is None:
            self.scale = MICRO
            return _from_text
        self.scale = MICRO if abs(number) < _SECONDS_LIMIT else 1
        return self._from_fractions

    def _from_fractions(self, values: pl.Series) -> pl.Series:
        return _floor(values.cast(pl.Float64, strict=False) * self.scale)


def shown_date(time: int) -> str:
    """A date if the number looks like seconds since 1970, else the number."""
    if not _DATED[0] <= time < _DATED[1]:
        return str(time)
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _floor(numbers: pl.Series) -> pl.Series:
    return numbers.floor().cast(pl.Int64, strict=False)


def _from_whole(values: pl.Series) -> pl.Series:
    ticks = values.cast(pl.Int64, strict=False)
    if ticks.null_count():  # a few "17.0" among the integers
        ticks = ticks.fill_null(_floor(values.cast(pl.Float64, strict=False)))
    return ticks


def _from_dates(values: pl.Series) -> pl.Series:
    return values.cast(pl.Datetime("us"), strict=False).to_physical()


def _from_text(values: pl.Series) -> pl.Series:
    text = values.str.strip_chars().str.replace(r" ?UTC$", "Z").str.replace("T", " ", literal=True)
    text = text.str.replace(r"^(\d{4})/(\d\d?)/", "$1-$2-")
    text = text.set(~text.str.contains(r"^\d{4}-").fill_null(False), None)
    parsed = pl.Series(values.name, [None] * len(text), pl.Datetime("us", "UTC"))
    for format in _FORMATS:
        if parsed.null_count() == text.null_count():
            break
        left = text.set(parsed.is_not_null(), None)
        parsed = parsed.fill_null(left.str.to_datetime(format, strict=False, time_unit="us", time_zone="UTC"))
    return parsed.to_physical()
