"""What a store gives to an import that goes on from it: its events come first, as if they stood at the head of the new log."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.events import EVENTS_AT_ONCE, Events, NameCodes, Spool, disk_array
from leanrec.data.spans import MICRO, unit_of
from leanrec.data.store import FRACTIONS, Store, StoreMeta

_BY_OTHERS = ("rare items", "rare users", "immediate repeats")
"""Reasons for which an event was dropped that another event could have changed."""
_COUNTED_ANEW = ("they train but are not evaluated", "and were kept")
"""Ends of notes on all events."""


def check_grows(store: Store, timed: bool) -> None:
    """Refuse a store that an import of all logs together would differ from.

    Args:
        timed: Whether the new log has times.

    Raises:
        DataError: It is simulated, was filtered by counts, or one has times and the other has none.
    """
    meta, again = store.meta, "import the old and the new log together"
    if meta.simulation is not None:
        raise DataError(
            f"expected a store that was imported, got a simulated one in {store.path}; simulate a longer one"
        )
    lost = [reason for reason in _BY_OTHERS if meta.dropped.get(reason)]
    if lost or (meta.min_user, meta.min_item) != (1, 1):
        got = f"one without {meta.dropped[lost[0]]:,} events ({lost[0]})" if lost else "one with minimum counts"
        raise DataError(
            f"expected a store with all its events, since new ones can change which are kept, got {got} in {store.path}; {again}"
        )
    if timed and store.times is None:
        raise DataError(f"expected a log without times, as {store.path} has none, got one with times; {again}")
    if store.times is not None and not timed:
        raise DataError(
            f"expected a log with the times that {store.path} has, got one with none; name its time column, or {again}"
        )


def old_scale(store: Store) -> int:
    """Ticks per unit of the store's times."""
    return MICRO if (store.path / FRACTIONS).is_file() else 1


def put_first(store: Store, spool: Spool, users: NameCodes, items: NameCodes, scale: int, first: int | None) -> None:
    """Append the events of a store to an empty spool.

    Args:
        scale: Ticks per unit of the store's times.
        first: A tick of the new log.

    Raises:
        DataError: The new log's times are of another unit.
    """
    if store.times is not None and first is not None:
        units = [unit_of(abs(int(number))) for number in (store.times.max(), first // scale)]
        if units[0] != units[1]:
            raise DataError(
                f"expected times in {units[0]} as in {store.path}, got {units[1]} in the new log; bring them to one unit"
            )
    codes = users.codes(pl.Series(store.user_keys)), items.codes(pl.Series(store.catalog.keys))
    parts = np.load(store.path / FRACTIONS, mmap_mode="r") if old_scale(store) > 1 else None
    for start in range(0, store.num_events, EVENTS_AT_ONCE):
        here = slice(start, min(start + EVENTS_AT_ONCE, store.num_events))
        owners = np.searchsorted(store.offsets, np.arange(here.start, here.stop), "right") - 1
        ticks: list[np.ndarray] = []
        if store.times is not None:
            ticks = [store.times[here] * scale + (0 if parts is None else parts[here])]
        spool.append(codes[0][owners], codes[1][store.items[here] - 1], *ticks)


def fractions_of(events: Events, scale: int, folder: Path) -> np.ndarray | None:
    """What of the ticks is lost in whole units, int32 [E]; None if nothing is."""
    if events.ticks is None or scale == 1:
        return None
    if not any((events.ticks[where] % scale).any() for where, _ in events.chunks()):
        return None
    found = disk_array(folder / "fractions", len(events.ticks), np.int32)
    for where, _ in events.chunks():
        found[where] = events.ticks[where] % scale
    return found


def titled_as(catalog: pl.DataFrame, store: Store) -> pl.DataFrame:
    """A catalogue whose items that are called by their key have the titles of a store."""
    old = pl.DataFrame({"item": store.catalog.keys, "old": store.catalog.titles})
    found = catalog.join(old, on="item", how="left", maintain_order="left")
    bare = (pl.col("title") == pl.col("item")) & pl.col("old").is_not_null()
    return found.with_columns(pl.when(bare).then("old").otherwise("title").alias("title")).drop("old")


def appended_to(old: StoreMeta, new: StoreMeta, before: int, after: int) -> StoreMeta:
    """What is written about a store of ``before`` events that a log was appended to, so that it has ``after``."""
    dropped = {why: old.dropped.get(why, 0) + new.dropped.get(why, 0) for why in {**old.dropped, **new.dropped}}
    kept = [note for note in old.notes if not note.endswith(_COUNTED_ANEW)]
    told = f"{new.source} was appended: {after - before:,} events more"
    return msgspec.structs.replace(
        old,
        source_sha256=hashlib.sha256(f"{old.source_sha256}{new.source_sha256}".encode()).hexdigest(),
        dropped=dropped,
        notes=tuple(dict.fromkeys([*kept, told, *new.notes])),
        appended=old.appended + 1,
    )


def repeats_rule(old: StoreMeta, asked: str) -> str:
    """What to do with repeated events: what was done with those that are there."""
    return "drop" if old.dropped.get("duplicates") else asked
