"""From the frames of a source to events: ids as text, times as ticks, what is missing dropped or refused, and what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.columns import guess
from leanrec.data.ids import Ids
from leanrec.data.progress import OnProgress
from leanrec.data.source import Source
from leanrec.data.times import Times
from leanrec.data.where import Where

_USER, _ITEM, _TIME = "user", "item", "time"


@dataclass(frozen=True)
class Rules:
    """What to read of a log.

    Attributes:
        missing: "error" refuses an event without user, item or time, "drop" leaves it out.
        time_format: Of times as text, as strftime writes it; None to find out.
        timezone: Of times without one; None for UTC.
        where: A condition on columns, as SQL; None to keep all.
        since: Events before this time are left out, those of this time and later if it is ``until``.
    """

    missing: str = "error"
    time_format: str | None = None
    timezone: str | None = None
    where: str | None = None
    since: str | None = None
    until: str | None = None


class Reader:
    """Reads the events of a source once.

    Args:
        columns: "user", "item" and perhaps "time" -> column of the source.

    Attributes:
        dropped: Reason -> events left out.
    """

    def __init__(self, source: Source, columns: Mapping[str, str], rules: Rules) -> None:
        self.source, self.columns, self.rules = source, columns, rules
        self.ids = {role: Ids(role, columns[role]) for role in (_USER, _ITEM)}
        self.times: Times | None = None
        if _TIME in columns:
            self.times = Times(source.place, columns[_TIME], source.unit, rules.time_format, rules.timezone)
        elif rules.since is not None or rules.until is not None:
            raise DataError(
                f"expected a time column for since and until, got none in {source.place}; name it with --time"
            )
        self.where = Where(rules.where, source.columns, source.place) if rules.where is not None else None
        self.dropped: dict[str, int] = {}
        self.lists = False

    @property
    def scale(self) -> int:
        """Ticks per unit of the store."""
        return self.times.scale if self.times else 1

    def events(self, progress: OnProgress | None = None) -> Iterator[tuple[pl.Series, pl.Series, np.ndarray | None]]:
        """User ids and item ids (text, none missing) and ticks (int64, None for a log without times), chunk by chunk.

        Raises:
            DataError: An event has no user, item or time, or one that cannot be read.
        """
        for frame in self.source.frames({**self.columns, **(self.where.columns if self.where else {})}, progress):
            rows = frame.height
            frame = _exploded(frame, self.source, self.columns)
            self.lists |= frame.height != rows
            if self.where:
                chosen = self.where.keep(frame, self.source.place)
                self._count("outside where", int((~chosen).sum()))
                frame = frame.filter(chosen)
            known = [self.ids[role].clean(frame[role], self.source.place) for role in (_USER, _ITEM)]
            gaps = [(role, ids.is_null()) for role, ids in zip((_USER, _ITEM), known, strict=True) if ids.null_count()]
            if self.times:
                self.times.source = self.source.place
                lacks = self.times.missing(frame[_TIME])
                gaps += [(_TIME, lacks)] if lacks.any() and self.rules.missing == "drop" else []
            if gaps:
                keep = self._keep(frame, gaps)
                frame, known = frame.filter(keep), [ids.filter(keep) for ids in known]
            ticks = self.times.ticks(frame[_TIME], frame["row"]) if self.times else None
            yield self._within(known[0], known[1], ticks)

    def _within(
        self, users: pl.Series, items: pl.Series, ticks: np.ndarray | None
    ) -> tuple[pl.Series, pl.Series, np.ndarray | None]:
        """The events between since and until."""
        if self.times is None or ticks is None or not len(ticks):
            return users, items, ticks
        keep = np.ones(len(ticks), bool)
        if self.rules.since is not None:
            keep &= ticks >= self.times.bound(self.rules.since)
            self._count("before since", int((~keep).sum()))
        if self.rules.until is not None:
            late = ticks >= self.times.bound(self.rules.until)
            self._count("until and later", int((late & keep).sum()))
            keep &= ~late
        return (users, items, ticks) if keep.all() else (users.filter(keep), items.filter(keep), ticks[keep])

    def _keep(self, frame: pl.DataFrame, gaps: list[tuple[str, pl.Series]]) -> pl.Series:
        """bool, which events have a user, an item and a time."""
        keep = pl.repeat(True, frame.height, eager=True)
        for role, lacks in gaps:
            if self.rules.missing != "drop":
                self._refuse(frame, role, int(lacks.arg_true()[0]))
            self._count(f"missing {role}", int((lacks & keep).sum()))
            keep &= ~lacks
        return keep

    def _refuse(self, frame: pl.DataFrame, role: str, place: int) -> NoReturn:
        value = frame[role].cast(pl.String, strict=False)[place]
        unit = self.source.unit
        raise DataError(
            f"expected {'an item' if role == _ITEM else 'a user'} id, got {'nothing' if value is None else repr(value)} in {unit} "
            f"{frame['row'][place]}, column {self.columns[role]!r} of {self.source.place}; drop the {unit} or name the id, or "
            "leave such events out with --missing drop"
        )

    def _count(self, reason: str, events: int) -> None:
        if events:
            self.dropped[reason] = self.dropped.get(reason, 0) + events

    def notes(self) -> list[str]:
        """What was changed and what can hardly be right, a line each."""
        kind = guess("kind", self.source.columns)
        kinds = (
            []
            if kind is None or self.where or kind in self.columns.values()
            else [f"column {kind!r} seems to hold kinds of events; all were kept, choose with --where"]
        )
        spans = self.times.span.notes() if self.times else []
        lists = [f"a {self.source.unit} holds a list of items of one user, the oldest first"] if self.lists else []
        return [*lists, *self.ids[_USER].notes(), *self.ids[_ITEM].notes(), *spans, *kinds]


def _exploded(frame: pl.DataFrame, source: Source, columns: Mapping[str, str]) -> pl.DataFrame:
    """One event a row, where a row has lists of items, and perhaps of times, of one user."""
    lists = [role for role in columns if isinstance(frame[role].dtype, pl.List | pl.Array)]
    if not lists:
        return frame
    frame = frame.with_columns(pl.col(role).arr.to_list() for role in lists if frame[role].dtype == pl.Array)
    where = f"of {source.place}"
    if _USER in lists or _ITEM not in lists:
        role = _USER if _USER in lists else lists[0]
        raise DataError(
            f"expected lists of items, or none, got {frame[role].dtype} in column {columns[role]!r}, the {role}s, {where}; "
            "name other columns, or write one event a row"
        )
    lengths = [frame[role].list.len().fill_null(0) for role in lists]
    uneven = lengths[0] != lengths[-1]  # of items and of times, if there are lists of them
    if uneven.any():
        place = int(uneven.arg_true()[0])
        raise DataError(
            f"expected as many times as items, got {lengths[1][place]} and {lengths[0][place]} in {source.unit} "
            f"{frame['row'][place]} {where}; correct it or drop the {source.unit}"
        )
    return frame.filter(lengths[0] > 0).explode(lists)
