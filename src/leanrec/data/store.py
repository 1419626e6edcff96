"""The store: one directory of memory-mapped arrays that every later step reads.

    items.npy        int32 [E], item ids 1..N, all users' histories one after the other, oldest first
    offsets.npy      int64 [U+1], user u owns items[offsets[u]:offsets[u + 1]]
    times.npy        int64 [E], only when the log has times
    fractions.npy    int32 [E], microseconds beside them, only when there are any; read when more is appended
    users.parquet    column "user", in user order, and any further columns
    catalog.parquet  columns "item", "title", "count", in id order: descending count, ties by key
    store.json       StoreMeta

Shape letters of this module: U users, E events, N items.
"""

from __future__ import annotations

import tokenize
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from leanrec.core.digest import catalog_digest
from leanrec.core.errors import DataError
from leanrec.core.folder import CheckedFolder
from leanrec.core.forks import check_forked
from leanrec.core.parquet import check_size, check_text
from leanrec.core.plain import LAST_SECOND, TIME, Catalog, Unknown
from leanrec.core.ranges import Whole
from leanrec.core.writing import put, reported, scratch, written

STORE_VERSION = 1
META, ITEMS, OFFSETS, TIMES, FRACTIONS = "store.json", "items.npy", "offsets.npy", "times.npy", "fractions.npy"
_CATALOG_COLUMNS = {"item": pl.String, "title": pl.String, "count": pl.Int64}
USERS, _CATALOG = "users.parquet", "catalog.parquet"
_FAILURES = (pl.exceptions.PolarsError,)
"""What Polars raises beside the system's errors where it cannot write."""
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What it raises where it cannot read."""
_LARGEST_META = 64 * 2**20
"""Bytes of store.json."""
_CHUNK = 2**20
"""Numbers of an array that are checked at once."""


class StoreMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``store.json`` holds.

    Attributes:
        schema: Version of the layout.
        name: Name of the data set, for tables and reports.
        source: File name of the log, without directories.
        source_sha256: Of the raw log; empty for generated data.
        dropped: Reason -> events dropped.
        notes: What the import assumed or found, one line each.
        simulation: Parameters of a simulated shop, else None.
        catalog_sha256: Over the item keys in id order; ties a run to its catalogue.
        min_user: Least events of users at the import, and of items ``min_item``.
        appended: How many logs were appended; ``source_sha256`` is over the checksums of all then.
    """

    schema: int
    name: str
    users: Whole
    items: Whole
    events: Whole
    has_times: bool
    source: str
    source_sha256: str
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()
    simulation: dict[str, Any] | None = None
    catalog_sha256: str = ""
    min_user: Whole = 1
    min_item: Whole = 1
    appended: Whole = 0


@dataclass(frozen=True, eq=False)
class Store:
    """An opened store; arrays are memory-mapped and read-only.

    Attributes:
        items: int32 [E], ids 1..N.
        offsets: int64 [U+1].
        times: int64 [E] in seconds (or the integer unit of the log), or None.
    """

    path: Path
    meta: StoreMeta
    items: np.ndarray
    offsets: np.ndarray
    times: np.ndarray | None

    @property
    def num_users(self) -> int:
        """Users U."""
        return self.meta.users

    @property
    def num_items(self) -> int:
        """Items N."""
        return self.meta.items

    @property
    def num_events(self) -> int:
        """Events E."""
        return self.meta.events

    @property
    def whole(self) -> Store:
        """The store with every event, which positions of a `Split` and of questions count in; this one, unless it is a view."""
        return self

    def place(self, position: np.ndarray) -> np.ndarray:
        """Where in ``items`` the known events begin that are not before ``position`` of the whole store, int64 as given."""
        return position

    def wanted(self, position: np.ndarray) -> np.ndarray:
        """int64 as given, the items at positions of the whole store; 0 for one that is not known."""
        return self.items[position].astype(np.int64)

    @property
    def unknown(self) -> Unknown | None:
        """What a view skips; None for a store that is none."""
        return None

    def columns(self, reads: Iterable[str]) -> dict[str, np.ndarray]:
        """What a model reads of the events beside items (`Backbone.reads`), int64 [E] each.

        Raises:
            DataError: The store does not have it, or in another unit.
        """
        return {name: self._column(name) for name in sorted(reads)}

    def _column(self, name: str) -> np.ndarray:
        if name != TIME:
            raise DataError(f"expected a model that reads {TIME} or nothing beside items, got one that reads {name!r}")
        if self.times is None:
            raise DataError(
                f"expected a store with times for a model that reads {TIME}, got none in {self.path}; import the log with "
                "its time column, or take a backbone that does not read it"
            )
        if self._newest > LAST_SECOND:
            raise DataError(
                f"expected times in seconds since 1970 for a model that reads {TIME}, got {self._newest} in {self.path}; "
                "divide the times of the log, and import it again"
            )
        return self.times

    @cached_property
    def _newest(self) -> int:
        return _range(self.path / TIMES, self.times)[1] if self.times is not None else 0

    @cached_property
    def catalog(self) -> Catalog:
        """Keys, titles and counts of all items.

        Raises:
            DataError: ``catalog.parquet`` is not the one this store was written with.
        """
        frame = _read_table(self.path / _CATALOG).select(*_CATALOG_COLUMNS)
        if sum(frame.null_count().row(0)):
            raise DataError(
                f"expected item, title and count of every item in {self.path / _CATALOG}, got others; {_AGAIN}"
            )
        if catalog_digest(frame["item"]) != self.meta.catalog_sha256:
            raise DataError(f"expected the item keys that {META} names, got others in {self.path / _CATALOG}; {_AGAIN}")
        return Catalog(tuple(frame["item"]), tuple(frame["title"]), tuple(frame["count"]))

    @cached_property
    def user_keys(self) -> list[str]:
        """Names of the users in the log, in user order."""
        return self.users_table()["user"].to_list()

    def users_table(self) -> pl.DataFrame:
        """Column "user", and further columns if the store has them."""
        return _read_table(self.path / USERS)

    def history(self, user: int) -> np.ndarray:
        """int32, all items of a user, oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def histories(
        self, start: np.ndarray, end: np.ndarray, reads: Iterable[str] = ()
    ) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
        """Items of events from ``start`` to ``end`` (int64 [B] each), and what else is read of them, as an engine takes them.

        Raises:
            DataError: The store does not have what is read.
        """

        def cut(column: np.ndarray) -> list[np.ndarray]:
            return [column[first:last] for first, last in zip(start.tolist(), end.tolist(), strict=True)]

        return cut(self.items), {name: cut(column) for name, column in self.columns(reads).items()}

    @classmethod
    def open(cls, path: Path | str) -> Store:
        """Open a store and check that its files belong together.

        Raises:
            DataError: It is missing, not a store, of another version, truncated or edited.
            ForkError: This process is a fork of one in which polars had started its threads.
        """
        check_forked()
        path = Path(path)
        meta = _read_meta(path)
        store = cls(
            path,
            meta,
            _map(path / ITEMS, np.int32, meta.events),
            _map(path / OFFSETS, np.int64, meta.users + 1),
            _map(path / TIMES, np.int64, meta.events) if meta.has_times else None,
        )
        bounds = store.offsets
        if bounds[0] != 0 or bounds[-1] != meta.events or (np.diff(bounds) < 0).any():
            raise DataError(f"expected ascending offsets from 0 to {meta.events} in {path / OFFSETS}; {_AGAIN}")
        lowest, highest = _range(path / ITEMS, store.items)
        if lowest < 1 or highest > meta.items:
            raise DataError(f"expected item ids 1..{meta.items}, got {lowest}..{highest} in {path / ITEMS}; {_AGAIN}")
        _check_table(path / USERS, meta.users, {"user": pl.String})
        _check_table(path / _CATALOG, meta.items, _CATALOG_COLUMNS)
        return store


def write_store(
    out: Path,
    *,
    items: np.ndarray,
    offsets: np.ndarray,
    times: np.ndarray | None,
    users: pl.DataFrame,
    catalog: pl.DataFrame,
    meta: StoreMeta,
    fractions: np.ndarray | None = None,
    overwrite: bool = False,
    part: Path | None = None,
) -> Store:
    """Write a store, whole or not at all.

    The sizes, ``has_times`` and the catalogue's digest in ``meta`` are filled in from the arrays.

    Args:
        users: Column "user", and any further columns.
        catalog: Columns "item", "title", "count", in id order.
        fractions: Microseconds beside the times.
        overwrite: Replace an existing store.
        part: The `scratch` of ``out``, where the caller has made it.

    Raises:
        DataError: ``out`` exists.
        WriteError: The disk is full or not writable, or another process writes ``out``; nothing is left behind.
        ForkError: This process is a fork of one in which polars had started its threads.
    """
    check_forked()
    check_target(out, overwrite)
    parts = (fractions, np.int32)
    meta = msgspec.structs.replace(
        meta,
        schema=STORE_VERSION,
        users=users.height,
        items=catalog.height,
        events=len(items),
        has_times=times is not None,
        catalog_sha256=catalog_digest(catalog["item"]),
    )
    with nullcontext(part) if part else scratch(out) as part, reported(out, also=_FAILURES):
        made = part / "store"
        made.mkdir()
        arrays = {ITEMS: (items, np.int32), OFFSETS: (offsets, np.int64), TIMES: (times, np.int64), FRACTIONS: parts}
        for name, (array, dtype) in arrays.items():
            if array is not None:
                np.save(made / name, np.asarray(array, dtype), allow_pickle=False)
        users.write_parquet(made / USERS)
        catalog.select("item", "title", pl.col("count").cast(pl.Int64)).write_parquet(made / _CATALOG)
        (made / META).write_bytes(msgspec.json.format(msgspec.json.encode(meta), indent=2) + b"\n")
        put(made, out, overwrite)
    return Store.open(out)


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a table, whole or not at all.

    Raises:
        WriteError: The disk is full or not writable, or another process writes the file; nothing is left behind.
        ForkError: This process is a fork of one in which polars had started its threads.
    """
    check_forked()
    with written(path, also=_FAILURES) as made:
        frame.write_parquet(made)


def check_target(out: Path, overwrite: bool) -> None:
    """Refuse a place where a store must not be written; cheap, so that it can be asked before a long import.

    Raises:
        DataError: ``out`` exists and is not an empty directory or a store that may be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / META).is_file():
        raise DataError(f"expected a new or empty directory, got {out} which is not a store; choose another one")
    if not overwrite:
        raise DataError(f"expected a new directory, got the store {out}; choose another one or allow overwriting it")


_AGAIN = "the store was cut or edited, import the log again"


def _read_meta(path: Path) -> StoreMeta:
    if not path.is_dir():
        raise DataError(f"expected a store, got no directory at {path}; make one with 'leanrec data import'")
    if not (path / META).is_file():
        raise DataError(f"expected a store, got a directory without {META} at {path}; is it the right one?")
    folder = _folder(path)
    return folder.decoded(META, folder.read(META, _LARGEST_META), StoreMeta, (STORE_VERSION,))


def _folder(path: Path) -> CheckedFolder:
    return CheckedFolder(path, "store", "import the log again", _AGAIN, DataError, links=True)


def _map(path: Path, dtype: type[np.generic], size: int) -> np.ndarray:
    _folder(path.parent).file(path.name)
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # of numbers only: never a pickle
    except (
        ValueError,
        OSError,
        EOFError,
        OverflowError,
        TypeError,
        SyntaxError,
        MemoryError,
        tokenize.TokenError,
    ) as error:
        raise DataError(f"expected {size} numbers in {path}, got: {_first_line(error)}; {_AGAIN}") from None
    if array.dtype != dtype or array.shape != (size,):
        got = f"{array.dtype} {list(array.shape)}"
        raise DataError(f"expected {np.dtype(dtype).name} [{size}], got {got} in {path}; {_AGAIN}")
    return array


def _range(path: Path, array: np.ndarray) -> tuple[int, int]:
    """The least and the largest number of an array, read a few MB at a time and not through its map, which would stay in memory."""
    lowest, highest, left = np.iinfo(array.dtype).max, 0, len(array)
    with path.open("rb") as file:
        file.seek(path.stat().st_size - array.nbytes)
        while left > 0:
            some = np.fromfile(file, array.dtype, min(left, _CHUNK))
            if not len(some):
                raise DataError(f"expected {len(array)} numbers in {path}, got fewer; {_AGAIN}")
            lowest, highest, left = min(lowest, int(some.min())), max(highest, int(some.max())), left - len(some)
    return (lowest, highest) if len(array) else (1, 1)


def _check_table(path: Path, rows: int, columns: Mapping[str, Any]) -> None:
    """Refuse a table of other rows or columns, or one that is small on disk and huge once it is read. None of it is read."""
    _folder(path.parent).file(path.name)
    try:
        check_size(path, rows)
        lazy = pl.scan_parquet(path)
        schema, got = dict(lazy.collect_schema()), int(lazy.select(pl.len()).collect().item())
    except (ValueError, *_UNREADABLE) as error:
        raise DataError(
            f"expected a Parquet file of {rows} rows at {path}, got: {_first_line(error)}; {_AGAIN}"
        ) from None
    if got != rows:
        raise DataError(f"expected {rows} rows, got {got} in {path}; {_AGAIN}")
    if any(schema.get(name) != kind for name, kind in columns.items()):
        wanted = " and ".join(f"{name} ({kind})" for name, kind in columns.items())
        raise DataError(f"expected the columns {wanted}, got others in {path}; {_AGAIN}")
    nested = [name for name, kind in schema.items() if kind.is_nested()]
    if nested:
        raise DataError(f"expected a value a row, got lists in the column {nested[0][:80]!r} of {path}; {_AGAIN}")


def _read_table(path: Path) -> pl.DataFrame:
    check_forked()
    _folder(path.parent).file(path.name)
    try:
        frame = pl.read_parquet(path)
        check_text(frame)
    except _UNREADABLE as error:
        raise DataError(f"expected a Parquet file at {path}, got: {_first_line(error)}; {_AGAIN}") from None
    except ValueError as error:
        raise DataError(f"{error} in {path}; {_AGAIN}") from None
    return frame


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
