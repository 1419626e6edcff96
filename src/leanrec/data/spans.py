"""What the times of a log are like: their units, and those that can hardly be right."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import numpy as np

UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""Units of whole numbers -> how many are a second."""
MICRO = UNITS["microseconds"]
_ABOVE = 10**11
"""A number of seconds since 1970 is below this until the year 5138, one of milliseconds above since 1973."""
_BOUNDS = [_ABOVE * size for size in list(UNITS.values())[:-1]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_1990 = 631_152_000
_DAY = 86_400


def unit_of(number: float) -> str:
    """The unit in which a number is a time since 1970 that is neither far off nor close to 1970."""
    return next((unit for unit, size in UNITS.items() if number < _ABOVE * size), "nanoseconds")


def tick_of(moment: int | datetime, times: np.ndarray | None) -> int:
    """A moment in the unit of a log's times int64 [E]; a whole number is in it already. Seconds since 1970 without times."""
    if isinstance(moment, int):
        return moment
    size = UNITS["seconds" if times is None else unit_of(abs(int(times.max())))]
    return (moment - _EPOCH) // timedelta(microseconds=1) * size // MICRO


class Span:
    """Counts of times, added chunk by chunk.

    Attributes:
        units: Unit -> events whose time looks like it.
        early: Events before 1990.
        late: Events after now.
        first: The earliest tick, and ``last`` the latest; None before there are any.
    """

    def __init__(self) -> None:
        self.units = dict.fromkeys(UNITS, 0)
        self.early = self.late = 0
        self.first: int | None = None
        self.last: int | None = None
        self._dates = False
        self._now = int(time.time()) + _DAY
        self._latest = 0

    def add(self, ticks: np.ndarray, scale: int) -> None:
        """Count some more.

        Args:
            ticks: int64.
            scale: How many make a second, if it is not 1.
        """
        if not len(ticks):
            return
        lowest, highest = int(ticks.min()), int(ticks.max())
        self.first = lowest if self.first is None else min(self.first, lowest)
        self.last = highest if self.last is None else max(self.last, highest)
        if scale == MICRO:
            self._dates = True
            self._count(ticks, "seconds", MICRO)
            return
        unit = unit_of(abs(lowest))
        if unit == unit_of(abs(highest)):
            self._count(ticks, unit, UNITS[unit])
            return
        places = np.digitize(np.abs(ticks), _BOUNDS)
        for place, (unit, size) in enumerate(UNITS.items()):
            self._count(ticks[places == place], unit, size)

    def _count(self, ticks: np.ndarray, unit: str, second: int) -> None:
        self.units[unit] += len(ticks)
        self.early += int((ticks < _1990 * second).sum())
        late = ticks[ticks > self._now * second]
        self.late += len(late)
        self._latest = max(self._latest, int(late.max(initial=0)) // second)

    def notes(self) -> list[str]:
        """What can hardly be right, a line each."""
        found = []
        total = sum(self.units.values())
        several = {unit: count for unit, count in self.units.items() if count}
        if len(several) > 1:
            each = ", ".join(f"{count} look like {unit}" for unit, count in several.items())
            found.append(f"times are in several units: {each}; bring them to one, or their order is wrong")
        if self.early and (self._dates or self.early < total):
            found.append(f"{self.early} events have a time before 1990")
        if self.late:
            found.append(f"{self.late} events have a time after now, the latest {_date(self._latest)}")
        if total > 1 and self.first == self.last:
            found.append("all events have one time, so the order of the log is the order of events")
        return found


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} seconds after 1970"
