"""Add newer events to what a run or an export has counted, without training. An export is updated without torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from leanrec.artifact.exported import is_export, read_export
from leanrec.artifact.exported_evidence import replace_evidence
from leanrec.core.errors import ArtifactError, ConfigError, DataError
from leanrec.core.followers import Counts, Pairs, add_followers
from leanrec.core.plain import LAST_SECOND, Catalog
from leanrec.core.training_events import Counted
from leanrec.core.writing import claimed, put, scratch
from leanrec.data.either import store_or_log
from leanrec.data.newer_events import NewerEvents
from leanrec.data.progress import OnStageProgress
from leanrec.data.spans import tick_of
from leanrec.data.store import Store
from leanrec.engine.export_checks import check_evidence
from leanrec.engine.export_runner import open_evidence

_DAY = 86_400


@dataclass(frozen=True)
class Update:
    """What an update has done.

    Attributes:
        events: Events that were counted; 0 where nothing was new, and nothing has changed then.
        users: Who have new events.
        skipped: New events of items that the model does not know.
        before: Until when events had been counted, in the unit of the log.
        until: Until when they are now.
    """

    events: int
    users: int
    skipped: int
    before: int
    until: int


@dataclass(frozen=True)
class _Counted:
    """Something that has counted, as it is on disk; ``save`` changes it there."""

    catalog: Catalog
    until: Counted | None
    counts: Counts
    pairs: Pairs
    save: Callable[[Counts, Counted], None]


def update_counts(
    path: Path | str,
    data: Path | str,
    since: int | datetime | None = None,
    half_life: float | None = None,
    out: Path | str | None = None,
    progress: OnStageProgress | None = None,
) -> Update:
    """Add the events of a store or a log that a run or an export has not counted yet. Rows are cut to their strongest again.

    Which events these are follows from their times: an event as old as the newest one that was counted is not counted again, also
    if it came late. Items are matched by key.

    Args:
        path: A run or an export with a table of followers.
        data: A store, or a log as ``leanrec data import`` reads it. Pairs across the border of old and new are counted where it has
            the histories that new events continue.
        since: Leave older events out: a moment with its zone, or a number in the unit of the log.
        half_life: Days after which old counts are worth half; None keeps them.
        out: Directory to write, new or empty; None changes ``path`` itself: whenever this ends, it is the old or the new one.
        progress: As in `import_log`.

    Raises:
        ArtifactError: There is no such table, or nothing says what it was counted from.
        DataError: The log cannot be read, or has no times.
        ConfigError: A half-life that is not above 0.
        WriteError: The disk is full or not writable, or another process writes there.
    """
    if half_life is not None and not half_life > 0:
        raise ConfigError(f"expected --half-life above 0 days, got {half_life:g}")
    path = Path(path)
    if out is None:
        _opened(path)  # refuses before anything is read or locked
        with claimed(path), store_or_log(Path(data), progress) as store:
            return _update(path, store, since, half_life)
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArtifactError(f"expected a new or empty directory to write, got {out}; choose another --out")
    _opened(path)
    with scratch(out) as part, store_or_log(Path(data), progress) as store:
        shutil.copytree(path, part / "copy")
        done = _update(part / "copy", store, since, half_life)
        put(part / "copy", out)
    return done


def _update(path: Path, store: Store, since: int | datetime | None, half_life: float | None) -> Update:
    found = _opened(path)
    assert found.until is not None
    events = NewerEvents(store, found.catalog, found.until, None if since is None else tick_of(since, store.times))
    before = found.until.until
    until = max(before, events.newest or before)
    if not events.num_events:
        return Update(0, events.num_users, events.skipped, before, before)
    counts = found.counts
    if half_life is not None:
        if until > LAST_SECOND:
            raise DataError(
                f"expected times in seconds since 1970 with --half-life, got {until} in {store.path}; divide the times of the log"
            )
        counts = counts.faded(0.5 ** ((until - before) / _DAY / half_life))
    add_followers(counts, events, found.pairs)
    found.save(counts, Counted(until))
    return Update(events.num_events, events.num_users, events.skipped, before, until)


def _opened(path: Path) -> _Counted:
    found = _of_export(path) if is_export(path) else _of_run(path)
    if found is None:
        from leanrec.techniques import filling

        raise ArtifactError(
            f"expected a run or an export with a table of followers, got none in {path}; add one with 'leanrec train DATA --init "
            f"RUN --technique {filling('sparse')[0]} train.epochs=0'"
        )
    if found.until is None:
        raise ArtifactError(
            f"expected a table that says until when it was counted, got none in {path}, which is older, or whose log had no times; "
            "train it again on a log with times"
        )
    return found


def _of_export(path: Path) -> _Counted | None:
    exported, catalog = read_export(path)
    if exported.evidence is None:
        return None
    check_evidence(path, exported)
    table = open_evidence(path / exported.evidence.file, len(catalog))
    if not table.pairs.reach:
        return None

    def save(counts: Counts, until: Counted) -> None:
        replace_evidence(path, exported, table.recounted(counts).arrays(), until)

    return _Counted(catalog, exported.evidence.counted, table.counts(), table.pairs, save)


def _of_run(path: Path) -> _Counted | None:
    from leanrec.artifact.store import replace_weights
    from leanrec.build import open_run
    from leanrec.core.tied import stored

    run = open_run(path)
    sparse = run.model.sparse
    counted = None if sparse is None else sparse.counted()
    if sparse is None or counted is None:
        return None
    counts, pairs = counted

    def save(counts: Counts, until: Counted) -> None:
        sparse.recount(counts)
        replace_weights(path, stored(run.model), msgspec.structs.replace(run.manifest, counted=until))

    return _Counted(run.catalog, run.manifest.counted, counts, pairs, save)
