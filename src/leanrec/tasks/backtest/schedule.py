"""What a backtest trains, and between which times it asks. Another one is never gone on with in the same directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from leanrec.config import RunConfig
from leanrec.core.errors import ArtifactError, ConfigError, DataError, one_line
from leanrec.core.writing import written
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.data.times import shown_date

SCHEDULE = "schedule.json"
NEWEST = 0.1
"""Share of all events that the windows hold by default."""


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides a backtest.

    Attributes:
        catalog_sha256: Of the items of the store.
        users: Of the store.
        events: Of the store.
        bounds: W + 1 times in the unit of the store; window w is from ``bounds[w - 1]`` on and before ``bounds[w]``.
        config: What is trained before every window.
        exclude_seen: Whether users' own items leave the rankings; None for what the first run does.
    """

    catalog_sha256: str
    users: int
    events: int
    bounds: tuple[int, ...]
    config: dict[str, Any]
    exclude_seen: bool | None

    @property
    def windows(self) -> range:
        """The windows W, from 1 on."""
        return range(1, len(self.bounds))

    def split(self, store: Store, window: int) -> Split:
        """Each user's first event in a window is the test target; what is before the window trains."""
        return Split.since(store, self.bounds[window - 1], self.bounds[window])


def schedule_of(
    config: RunConfig, store: Store, windows: int = 6, every: int | None = None, exclude_seen: bool | None = None
) -> Schedule:
    """The schedule of a backtest; all windows are looked at, so that none is empty.

    Args:
        config: What to train; it starts from no other run.
        store: The interactions, with times.
        windows: How many, the last one ends with the log.
        every: Length of each, in the unit of the store; by default they share the newest tenth of the events evenly.
        exclude_seen: As in `Schedule`.

    Raises:
        ConfigError: The configuration starts or learns from a run, which may have seen the windows.
        DataError: There are no times, nothing before the windows, or a window without users to ask.
    """
    for key in ("init", "teacher"):
        if getattr(config.train, key):
            raise ConfigError(
                f"expected a backtest without train.{key}, since that run may have seen the windows, got "
                f"{one_line(getattr(config.train, key))}; drop it"
            )
    schedule = Schedule(
        store.meta.catalog_sha256,
        store.num_users,
        store.num_events,
        _bounds(store, windows, every),
        config.tree(),
        exclude_seen,
    )
    for window in schedule.windows:
        try:
            schedule.split(store, window)
        except DataError as error:
            raise DataError(f"window {window}: {error}; ask for fewer --windows, or a longer --every") from None
    return schedule


def _bounds(store: Store, windows: int, every: int | None) -> tuple[int, ...]:
    if store.times is None:
        raise DataError(
            f"expected a log with times to backtest on, got none in {store.path}; import it with its time column"
        )
    first, end = int(store.times.min()), int(store.times.max()) + 1
    if every is None:
        at = np.quantile(store.times, np.linspace(1 - NEWEST, 1, windows, endpoint=False), method="lower")
        bounds = (*at.tolist(), end)
    else:
        bounds = tuple(end - every * left for left in range(windows, -1, -1))
    if bounds[0] <= first:
        raise DataError(
            f"expected events before the first window, which starts at {shown_date(bounds[0])}, got none in {store.path}, whose "
            f"first is at {shown_date(first)}; ask for fewer --windows, or a shorter --every"
        )
    if len(set(bounds)) < len(bounds):
        raise DataError(
            f"expected times that tell {windows} windows apart, got {len(set(bounds)) - 1} in the newest tenth of {store.path}; "
            "ask for fewer --windows, or say --every"
        )
    return bounds


def take_up(schedule: Schedule, out: Path) -> None:
    """Start a backtest in a directory, or go on with the one that is there.

    Raises:
        ConfigError: There is another one, or something else.
        ArtifactError: Its schedule is damaged.
    """
    path, raw = out / SCHEDULE, msgspec.json.encode(schedule)
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise ConfigError(f"expected a new or empty directory, got other files in {out}; choose another --out")
        with written(path) as made:
            made.write_bytes(msgspec.json.format(raw, indent=2) + b"\n")
        return
    try:
        had = msgspec.json.decode(path.read_bytes(), type=Schedule)
    except (OSError, msgspec.DecodeError) as error:
        raise ArtifactError(
            f"expected the schedule of a backtest in {path}, got: {one_line(error)}; choose another --out"
        ) from None
    asked = msgspec.json.decode(raw, type=Schedule)  # tuples of the configuration are lists in both
    other = [name for name in Schedule.__struct_fields__ if getattr(had, name) != getattr(asked, name)]
    if other:
        raise ConfigError(
            f"expected the backtest that {out} was started with, got one with other {', '.join(other)}; give the same log and "
            "options, or choose another --out"
        )
