"""A store seen with the items of a model: its histories in the model's ids, whatever numbers the store gives its items.

Items are matched by key. Events of items that the model does not know are skipped and counted; everything else reads the view as
it would read the store that the model was trained on. Neither torch nor a run is needed.

Shape letters: U users, E events of the store, F of them known, N items of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import polars as pl

from leanrec.core.digest import catalog_digest
from leanrec.core.errors import DataError
from leanrec.core.plain import Catalog, Unknown
from leanrec.core.writing import reported
from leanrec.data.events import EVENTS_AT_ONCE, disk_array
from leanrec.data.store import Store


@dataclass(frozen=True, eq=False)
class MappedStore(Store):
    """A view of another store. Its ``items`` [F] and ``times`` [F] are of known events alone, and ``offsets`` [U+1] are theirs.

    Attributes:
        source: The store that is seen.
        known: The items of the model.
        skipped: int64 [E - F], ascending: where events of unknown items lie in the source.
        strange: Items of the source that the model does not know.
    """

    source: Store
    known: Catalog
    skipped: np.ndarray
    strange: int

    @property
    def whole(self) -> Store:
        return self.source

    def place(self, position: np.ndarray) -> np.ndarray:
        return position - np.searchsorted(self.skipped, position)

    def wanted(self, position: np.ndarray) -> np.ndarray:
        left_out = np.zeros(len(position), bool)
        if len(self.skipped):
            nearest = np.minimum(np.searchsorted(self.skipped, position), len(self.skipped) - 1)
            left_out = self.skipped[nearest] == position
        here = np.minimum(self.place(position), len(self.items) - 1)
        return np.where(left_out, 0, self.items[here]).astype(np.int64)

    @property
    def unknown(self) -> Unknown:
        return Unknown(self.strange, len(self.skipped), int((np.diff(self.offsets) == 0).sum()))

    @cached_property
    def catalog(self) -> Catalog:
        return self.known

    @cached_property
    def _newest(self) -> int:
        return self.source._newest


def item_ids(keys: tuple[str, ...], known: tuple[str, ...]) -> np.ndarray:
    """int32 [len(keys)], the place from 1 on of each key among the ``known`` ones; 0 for one that is not among them."""
    places = pl.DataFrame({"item": known}, schema={"item": pl.String}).with_row_index("id", offset=1)
    found = pl.DataFrame({"item": keys}, schema={"item": pl.String}).join(
        places, on="item", how="left", maintain_order="left"
    )
    return found["id"].fill_null(0).cast(pl.Int32).to_numpy()


def mapped(store: Store, catalog: Catalog) -> Store:
    """A store as a model with these items reads it; the store itself where it has the same items in the same order.

    Raises:
        DataError: The model knows none of its items.
        WriteError: The disk of temporary files is full; a view of E events takes 4 bytes an event there, or 12 with times.
    """
    digest = catalog_digest(catalog.keys)
    if digest == store.meta.catalog_sha256:
        return store
    ids = np.concatenate([[0], item_ids(store.catalog.keys, catalog.keys)]).astype(np.int32)
    skipped = np.concatenate([np.zeros(0, np.int64), *(where[ids[items] == 0] for where, items in _pieces(store))])
    events = store.num_events - len(skipped)
    if not events:
        raise DataError(
            f"expected items that the model knows, such as {catalog.keys[0][:60]!r}, got only others, such as "
            f"{store.catalog.keys[0][:60]!r}, in {store.path}; is it the right store?"
        )
    items, times = _known(store, ids, events, timed=store.times is not None and len(skipped) > 0)
    return MappedStore(
        store.path,
        msgspec.structs.replace(store.meta, items=len(catalog), events=events, catalog_sha256=digest),
        items,
        store.offsets - np.searchsorted(skipped, store.offsets),
        store.times if times is None else times,
        source=store,
        known=catalog,
        skipped=skipped,
        strange=int((ids[1:] == 0).sum()),
    )


def open_for(catalog: Catalog, path: Path, trained_on: str, data: Path | None = None) -> Store:
    """The store at ``data``, else the one that the model at ``path`` was trained on, as a model with these items reads it.

    Raises:
        DataError: It is not there, or the model knows none of its items.
    """
    place = data or Path(trained_on)
    if data is None and not place.is_dir():
        raise DataError(f"expected the store of {path}, got none at {place}; name its place with --data")
    return mapped(Store.open(place), catalog)


def _pieces(store: Store) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions and item ids of the store's events, some at a time."""
    for start in range(0, store.num_events, EVENTS_AT_ONCE):
        items = np.asarray(store.items[start : start + EVENTS_AT_ONCE])
        yield np.arange(start, start + len(items)), items


def _known(store: Store, ids: np.ndarray, events: int, timed: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Items int32 [F] in the model's ids, and times int64 [F] where they are wanted, in files that are gone with the process."""
    with TemporaryDirectory(prefix="leanrec-", ignore_cleanup_errors=True) as folder, reported(Path(folder)):
        items = disk_array(Path(folder) / "items", events, np.int32)
        times = disk_array(Path(folder) / "times", events, np.int64) if timed else None
    end = 0
    for where, read in _pieces(store):
        own = ids[read]
        first, end = end, end + int((own > 0).sum())
        items[first:end] = own[own > 0]
        if times is not None and store.times is not None:
            times[first:end] = store.times[where[own > 0]]
    return items, times
