"""Events of a log as arrays on disk: grouped by user, sorted by time, filtered.

Nothing here holds more than a chunk of events and a few arrays over users or items in memory.
Shape letters: U users, E events, N items.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from leanrec.data.progress import OnProgress

EVENTS_AT_ONCE = 1 << 21  # events that are sorted at a time


class NameCodes:
    """Numbers names 0, 1, 2, ... in the order of their first appearance."""

    def __init__(self) -> None:
        self._table = pl.DataFrame(schema={"name": pl.String, "code": pl.Int32})

    @property
    def size(self) -> int:
        """How many names there are."""
        return self._table.height

    def codes(self, names: pl.Series) -> np.ndarray:
        """int32, the number of each name; new names get the next numbers."""
        frame = names.alias("name").to_frame()
        codes = self._look_up(frame)
        if codes.null_count():
            new = frame.filter(codes.is_null()).unique(maintain_order=True)
            numbers = pl.int_range(self.size, self.size + new.height, dtype=pl.Int32).alias("code")
            self._table = pl.concat([self._table, new.with_columns(numbers)], rechunk=True)
            codes = self._look_up(frame)
        return codes.to_numpy()

    def _look_up(self, frame: pl.DataFrame) -> pl.Series:
        return frame.join(self._table, on="name", how="left", maintain_order="left")["code"]

    def names(self) -> pl.Series:
        """All names in the order of their numbers."""
        return self._table["name"]


class Spool:
    """Coded events in the order of the log, appended to files in a folder."""

    def __init__(self, folder: Path, has_times: bool) -> None:
        self.folder, self.has_times = folder, has_times
        self.user_counts = np.zeros(0, np.int64)
        self.events = 0
        names = ("users", "items", "ticks") if has_times else ("users", "items")
        self._files = [(folder / name).open("wb") for name in names]

    def append(self, *columns: np.ndarray) -> None:
        """Add events: users and items (int32), and ticks (int64) if the log has times."""
        for file, column in zip(self._files, columns, strict=True):
            file.write(column.tobytes())
        counts = np.bincount(columns[0], minlength=len(self.user_counts))
        counts[: len(self.user_counts)] += self.user_counts
        self.user_counts = counts
        self.events += len(columns[0])

    def close(self) -> None:
        """Finish the files; further calls do nothing."""
        with ExitStack() as stack:  # the others, too, where one cannot write its rest
            for file in self._files:
                stack.callback(file.close)

    def chunks(self) -> Iterator[list[np.ndarray]]:
        """The events in pieces, in the order of the log: users, items and ticks if there are any."""
        dtypes = (np.int32, np.int32, np.int64)
        for start in range(0, self.events, EVENTS_AT_ONCE):
            yield [
                np.fromfile(file.name, dtype, EVENTS_AT_ONCE, offset=start * np.dtype(dtype).itemsize)
                for file, dtype in zip(self._files, dtypes, strict=False)
            ]


@dataclass
class Events:
    """Events grouped by user, in memory-mapped scratch files.

    Attributes:
        items: int32 [E], item codes.
        ticks: int64 [E] or None.
        offsets: int64 [U+1].
        unsorted: Events that the log had right after a later one of the same user.
    """

    items: np.ndarray
    ticks: np.ndarray | None
    offsets: np.ndarray
    unsorted: int = 0

    def chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Pieces of whole users: where they stand, and the user of each event (int64)."""
        users = len(self.offsets) - 1
        first = 0
        while first < users:
            last = int(np.searchsorted(self.offsets, self.offsets[first] + EVENTS_AT_ONCE, "right")) - 1
            last = min(max(last, first + 1), users)
            counts = np.diff(self.offsets[first : last + 1])
            if counts.any():
                yield (
                    slice(int(self.offsets[first]), int(self.offsets[last])),
                    np.repeat(np.arange(first, last), counts),
                )
            first = last


def group(spool: Spool, progress: OnProgress) -> Events:
    """Counting sort by user; events of a user keep the order of the log."""
    offsets = np.concatenate([[0], np.cumsum(spool.user_counts)]).astype(np.int64)
    items = disk_array(spool.folder / "grouped-items", spool.events, np.int32)
    ticks = disk_array(spool.folder / "grouped-ticks", spool.events, np.int64) if spool.has_times else None
    cursor = offsets[:-1].copy()
    done = 0
    for users, *columns in spool.chunks():
        order = np.argsort(users, kind="stable")
        ordered = users[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        counts = np.diff(starts, append=len(ordered))
        rank = np.arange(len(ordered)) - np.repeat(starts, counts)
        place = cursor[ordered] + rank
        cursor[ordered[starts]] += counts
        items[place] = columns[0][order]
        if ticks is not None:
            ticks[place] = columns[1][order]
        done += len(users)
        progress(done, spool.events)
    return Events(items, ticks, offsets)


def sort_by_time(events: Events, progress: OnProgress) -> None:
    """Sort every user's events by time in place; equal times keep the order of the log."""
    if events.ticks is None:
        return
    for where, users in events.chunks():
        ticks = np.array(events.ticks[where])
        late = int(((np.diff(ticks) < 0) & (np.diff(users) == 0)).sum())
        if late:
            order = np.lexsort((ticks, users))
            events.ticks[where] = ticks[order]
            events.items[where] = events.items[where][order]
            events.unsorted += late
        progress(where.stop, len(events.items))


def repeated(events: Events, where: slice, users: np.ndarray) -> np.ndarray:
    """bool per event of a chunk, whether it repeats an earlier one of the same user, item and time."""
    twice = np.zeros(len(users), bool)
    if events.ticks is None:
        return twice
    ticks, items = np.array(events.ticks[where]), np.array(events.items[where])
    tied = (np.diff(ticks) == 0) & (np.diff(users) == 0)
    among = np.flatnonzero(np.append(tied, False) | np.insert(tied, 0, False))
    order = among[np.lexsort((items[among], ticks[among], users[among]))]
    same = [np.diff(column[order]) == 0 for column in (users, ticks, items)]
    twice[order[1:][np.logical_and.reduce(same)]] = True
    return twice


def again(events: Events, where: slice, users: np.ndarray) -> np.ndarray:
    """bool per event of a chunk, whether the user's event before it is of the same item."""
    items = np.array(events.items[where])
    return np.append(False, (np.diff(items) == 0) & (np.diff(users) == 0))[: len(items)]


def remove(events: Events, keep: Callable[[slice, np.ndarray], np.ndarray], progress: OnProgress) -> Events:
    """Close the gaps, in place, that the events to drop leave.

    Args:
        keep: (where, users) -> bool per event of a chunk.
    """
    end, counts = 0, np.zeros(len(events.offsets) - 1, np.int64)
    for where, users in events.chunks():
        chosen = keep(where, users)
        kept = int(chosen.sum())
        for column in (events.items, events.ticks):
            if column is not None:
                column[end : end + kept] = column[where][chosen]
        end += kept
        counts += np.bincount(users[chosen], minlength=len(counts))
        progress(where.stop, len(events.items))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Events(events.items[:end], None if events.ticks is None else events.ticks[:end], offsets, events.unsorted)


def core(events: Events, num_items: int, min_user: int, min_item: int) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Drop rare items and users again and again until none is rare (the k-core).

    Returns:
        bool [U] and bool [N] of the users and items that stay, and the events dropped by reason.
    """
    users_in, items_in = np.diff(events.offsets) > 0, np.ones(num_items, bool)
    dropped = {"rare items": 0, "rare users": 0}
    while True:
        user_counts, item_counts = _count(events, users_in, items_in)
        rare = (item_counts > 0) & (item_counts < min_item)
        if rare.any():
            dropped["rare items"] += int(item_counts[rare].sum())
            items_in &= ~rare
            continue
        rare = users_in & (user_counts < min_user)
        if not rare.any():
            break
        dropped["rare users"] += int(user_counts[rare].sum())
        users_in &= ~rare
    return users_in & (user_counts > 0), items_in & (item_counts > 0), {k: v for k, v in dropped.items() if v}


def _count(events: Events, users_in: np.ndarray, items_in: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    user_counts, item_counts = np.zeros(len(users_in), np.int64), np.zeros(len(items_in), np.int64)
    for where, users in events.chunks():
        items = events.items[where]
        alive = users_in[users] & items_in[items]
        user_counts += np.bincount(users[alive], minlength=len(user_counts))
        item_counts += np.bincount(items[alive], minlength=len(item_counts))
    return user_counts, item_counts


def disk_array(path: Path, size: int, dtype: type[np.generic]) -> np.ndarray:
    """A writable memory-mapped array whose space is reserved, so that a full disk is an error here and no crash later.

    Raises:
        OSError: The disk is full.
    """
    reserve = getattr(os, "posix_fallocate", None)  # not on every system
    with path.open("wb") as file:
        if reserve:
            reserve(file.fileno(), 0, size * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r+" if reserve else "w+", shape=(size,))
