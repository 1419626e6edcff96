"""Import an interaction log of any size and form into a store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from leanrec.core.errors import DataError
from leanrec.core.forks import check_forked
from leanrec.core.writing import scratch
from leanrec.data.catalog import add_titles, number_items
from leanrec.data.columns import resolve
from leanrec.data.events import Events, NameCodes, Spool, again, core, group, remove, repeated, sort_by_time
from leanrec.data.growing import appended_to, check_grows, fractions_of, old_scale, put_first, repeats_rule, titled_as
from leanrec.data.progress import OnProgress, OnStageProgress
from leanrec.data.reading import Reader, Rules
from leanrec.data.source import Query, Source
from leanrec.data.sources import open_source
from leanrec.data.store import STORE_VERSION, Store, StoreMeta, check_target, write_store

SHORTEST = 3  # events a user needs for a training part, a validation target and a test target


def import_log(
    source: Any,
    out: Path | str,
    *,
    query: str | None = None,
    format: str | None = None,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    titles: Path | str | None = None,
    title_item: str | None = None,
    title_column: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    time_format: str | None = None,
    timezone: str | None = None,
    missing: Literal["error", "drop"] = "error",
    where: str | None = None,
    since: str | None = None,
    until: str | None = None,
    collapse: bool = False,
    min_user: int = 1,
    min_item: int = 1,
    duplicates: Literal["keep", "drop", "error"] = "keep",
    name: str | None = None,
    overwrite: bool = False,
    append: bool = False,
    progress: OnStageProgress | None = None,
) -> Store:
    """Read a log, group it by user in time order, number its items by popularity and write a store.

    Memory does not grow with the number of events. Without times the order of the log is the order of the events.

    Args:
        source: A file, a folder, a pattern such as "logs/*.csv", or whatever a source takes (`leanrec.data.sources`); or a list
            of such. Folders such as "day=2026-11-28" give a column more. Also an address such as "s3://bucket/log.parquet"; a
            frame of Polars, pandas or Arrow, or an iterator of frames; or with ``query`` the address of a database, such as
            "sqlite:///shop.db".
        out: The store to write.
        query: SQL whose rows are the log.
        format: Name of a source; found from the content if None.
        user: Column of the users; guessed if None, and so are ``item`` and ``time`` (which may be absent). If all that are given
            are numbers, they are positions, counted from 1, in a text without a header.
        header: Whether the first line of a text names its columns; found if None.
        encoding: Of a text; found if None.
        time_format: Of times as text, such as "%d.%m.%Y %H:%M"; found if None, where days and months cannot be mixed up.
        timezone: Of times without one, such as "Europe/Berlin"; UTC if None.
        missing: What to do with events without a user or an item: "error" refuses them, "drop" leaves them out, and those
            without a time too.
        where: Keep rows for which this is true, a condition of SQL on any columns: "rating >= 4 AND event = 'buy'".
        since: Leave out events before this time, a date or a number in the log's unit.
        until: Leave out events of this time and later.
        collapse: Keep one of several events of a user in a row with the same item, the first.
        titles: A table with the items' titles, its columns guessed or named by ``title_item`` and ``title_column``.
        min_user: Users with fewer events are dropped, items with fewer than ``min_item`` too, until none is left.
        duplicates: What to do with events of the same user, item and time.
        name: Of the data set; by default the file's name without suffixes.
        overwrite: Replace an existing store.
        append: Add the log to the store ``out``; what results is what an import of the old and the new log together would give.
        progress: Called with (stage, done, total); the stages are "read", "group", "sort", "write".

    Raises:
        DataError: The log or the titles are not usable.
        WriteError: The store cannot be written, or another process writes it. Nothing is left behind.
        ForkError: This process is a fork of one in which polars had started its threads.
    """
    check_forked()
    out = Path(out)
    if duplicates not in ("keep", "drop", "error"):
        raise DataError(f"expected duplicates to be keep, drop or error, got {duplicates!r}")
    if missing not in ("error", "drop"):
        raise DataError(f"expected missing to be error or drop, got {missing!r}")
    if not append:
        check_target(out, overwrite)
    source = source if query is None else Query(query, str(source))
    opened = open_source(source, format, (user, item, time), header=header, encoding=encoding)
    chosen = _columns(opened, {"user": user, "item": item, "time": time})
    reader = Reader(opened, chosen, Rules(missing, time_format, timezone, where, since, until))
    report = progress or (lambda stage, done, total: None)
    file = opened.log.title
    with scratch(out) as folder:
        before = _before(out, opened, reader) if append else None
        log = _collect(reader, folder, report, before)
        repeats = duplicates if before is None else repeats_rule(before.meta, duplicates)
        events, dropped, notes = _clean(log, repeats, collapse, min_user, min_item, report)
        kept = np.diff(events.offsets) > 0
        _check_enough(events, log.source, (min_user, min_item) != (1, 1))
        catalog, ids = number_items(log.items.names(), _item_counts(events, log.items.size))
        if titles is not None:
            catalog, untitled = add_titles(catalog, Path(titles), item=title_item, title=title_column)
            notes += [f"{untitled} items without a title are called by their key"] if untitled else []
        catalog = catalog if before is None else titled_as(catalog, before)
        meta = StoreMeta(
            schema=STORE_VERSION,
            name=name or _short(file),
            users=0,
            items=0,
            events=0,
            has_times=False,
            source=file,
            source_sha256=opened.sha256(),
            dropped={**reader.dropped, **dropped},
            notes=(*opened.notes(chosen), *reader.notes(), *notes),
            min_user=min_user,
            min_item=min_item,
        )
        return write_store(
            out,
            fractions=fractions_of(events, log.scale, folder),
            items=_renumber(events, ids, log.scale, partial(report, "write")),
            offsets=np.concatenate([[0], np.cumsum(np.diff(events.offsets)[kept])]),
            times=events.ticks,
            users=pl.DataFrame({"user": log.users.names()}).filter(pl.Series(kept)),
            catalog=catalog,
            meta=meta if before is None else appended_to(before.meta, meta, before.num_events, len(events.items)),
            overwrite=overwrite or append,
            part=folder,
        )


def _before(out: Path, source: Source, reader: Reader) -> Store:
    """The store that a log is added to."""
    store = Store.open(out)
    check_grows(store, reader.times is not None)
    if source.numbers_users:
        raise DataError(
            f"expected a log with users to append, got lines without one in {source.place}; import all of them"
        )
    return store


def _short(source: str) -> str:
    """A source's name without folders and suffixes."""
    file = source.rstrip("/").rpartition("/")[2]
    return file.lstrip(".").split(".")[0] or file


def _columns(source: Source, given: dict[str, str | None]) -> dict[str, str]:
    """The columns of users and items, and of times if there is one."""
    found = {
        role: resolve(role, name, source.columns, source.place, optional=role == "time", advice=source.advice)
        for role, name in given.items()
    }
    return {role: column for role, column in found.items() if column is not None}


@dataclass
class _Log:
    """The log as codes on disk."""

    source: str
    spool: Spool
    users: NameCodes
    items: NameCodes
    scale: int


def _collect(reader: Reader, folder: Path, report: OnStageProgress, before: Store | None = None) -> _Log:
    """Read everything once, turning names into numbers; the events of a store ``before`` come first."""
    source, scale = reader.source, 1
    users, items, spool = NameCodes(), NameCodes(), Spool(folder, reader.times is not None)
    try:
        for user, item, ticks in reader.events(partial(report, "read")):
            scale = max(reader.scale, 1 if before is None else old_scale(before))
            if ticks is not None and scale != reader.scale:
                ticks = ticks * scale
            if before is not None and len(user) and not spool.events:
                put_first(before, spool, users, items, scale, None if ticks is None else int(ticks[0]))
            spool.append(users.codes(user), items.codes(item), *(() if ticks is None else (ticks,)))
    finally:
        spool.close()
    if not spool.events:
        raise DataError(f"expected an interaction log, got {_nothing(reader)} in {source.log.shown}")
    source.check_users(users.size)
    return _Log(source.log.shown, spool, users, items, scale)


def _nothing(reader: Reader) -> str:
    if not reader.dropped:
        return f"a header and no {reader.source.unit}s"
    return "no event that was kept, dropped " + ", ".join(f"{count} ({why})" for why, count in reader.dropped.items())


def _clean(
    log: _Log, repeats: str, collapse: bool, min_user: int, min_item: int, report: OnStageProgress
) -> tuple[Events, dict[str, int], list[str]]:
    """Order and filter the events; what was dropped by reason, and what was found."""
    notes, dropped = [], {}
    events = group(log.spool, partial(report, "group"))
    sort_by_time(events, partial(report, "sort"))
    if events.unsorted:
        notes.append(
            f"{events.unsorted} events are older than the one before them; users' events were put in time order"
        )
    twice = _count_repeated(events, log, repeats)
    if twice and repeats == "drop":
        dropped["duplicates"] = twice
        all_events = events
        events = remove(events, lambda where, users: ~repeated(all_events, where, users), partial(report, "sort"))
    elif twice:
        notes.append(f"{twice} events repeat an earlier one of the same user, item and time and were kept")
    if collapse:
        every, before = events, len(events.items)
        events = remove(every, lambda where, users: ~again(every, where, users), partial(report, "sort"))
        dropped.update({"immediate repeats": before - len(events.items)} if before > len(events.items) else {})
    if min_user > 1 or min_item > 1:
        users_in, items_in, rare = core(events, log.items.size, min_user, min_item)
        dropped.update(rare)
        inside = events.items
        events = remove(events, lambda where, users: users_in[users] & items_in[inside[where]], partial(report, "sort"))
    lengths = np.diff(events.offsets)
    short = int(((lengths > 0) & (lengths < SHORTEST)).sum())
    if short:
        notes.append(f"{short} users have fewer than three events; they train but are not evaluated")
    return events, dropped, notes


def _count_repeated(events: Events, log: _Log, repeats: str) -> int:
    """How many events repeat an earlier one; refuses the first if they are errors."""
    total = 0
    for where, users in events.chunks():
        twice = repeated(events, where, users)
        total += int(twice.sum())
        if repeats == "error" and twice.any() and events.ticks is not None:
            place = int(twice.argmax())
            item, tick = int(events.items[where][place]), int(events.ticks[where][place])
            raise DataError(
                f"expected every event once, got user {log.users.names()[int(users[place])]!r}, item "
                f"{log.items.names()[item]!r}, time {tick // log.scale} twice in {log.source}; keep or drop the duplicates"
            )
    return total


def _check_enough(events: Events, source: str, filtered: bool) -> None:
    lengths = np.diff(events.offsets)
    users = int((lengths > 0).sum())
    if users == 0:
        raise DataError(
            f"expected events, got none that pass the minimum counts in {source}; lower min_user or min_item"
        )
    after = " after the minimum counts" if filtered else ""
    if users == 1:
        raise DataError(
            f"expected at least two users, got one{after} in {source}; with one there is nothing to learn from others, "
            "is the user column the right one?"
        )
    if int(lengths.max()) < SHORTEST:
        raise DataError(
            f"expected a user with at least three events, got at most {int(lengths.max())} per user{after} in "
            f"{source}; a shorter history cannot be split into training, validation and test"
        )


def _item_counts(events: Events, num_items: int) -> np.ndarray:
    counts = np.zeros(num_items, np.int64)
    for where, _ in events.chunks():
        counts += np.bincount(events.items[where], minlength=num_items)
    return counts


def _renumber(events: Events, ids: np.ndarray, scale: int, progress: OnProgress) -> np.ndarray:
    """Item codes to ids and ticks to the store's unit, in place."""
    for where, _ in events.chunks():
        events.items[where] = ids[events.items[where]]
        if events.ticks is not None and scale != 1:
            events.ticks[where] //= scale
        progress(where.stop, len(events.items))
    return events.items
