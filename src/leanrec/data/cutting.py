"""What a store held before a time, as a store of its own: what an import of the log until then would have given."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.catalog import number_items
from leanrec.data.split import count_before
from leanrec.data.store import FRACTIONS, Store, write_store
from leanrec.data.times import shown_date


def cut_before(store: Store, time: int, out: Path) -> Store:
    """Write the events before a time, with the users and items that they have; items are numbered anew by popularity.

    Memory: 1 byte for every event, and 20 for each that is kept.

    Args:
        store: The interactions, with times.
        time: In the unit of the store.
        out: Directory of the new store.

    Raises:
        DataError: There are no times, no such events, or ``out`` exists.
        WriteError: It cannot be written.
    """
    if store.times is None or not (early := np.asarray(store.times) < time).any():
        raise DataError(f"expected events before {shown_date(time)}, got none in {store.path}; cut it at a later time")
    counts = count_before(store, store.times, time)
    users, items, keys = counts > 0, np.asarray(store.items[early]), pl.Series(store.catalog.keys)
    catalog, ids = number_items(keys, np.bincount(items, minlength=store.num_items + 1)[1:])
    titles = pl.DataFrame({"item": keys, "title": store.catalog.titles})
    parts = store.path / FRACTIONS
    return write_store(
        out,
        items=ids[items - 1],
        offsets=np.concatenate([[0], np.cumsum(counts[users])]),
        times=np.asarray(store.times[early]),
        users=store.users_table().filter(pl.Series(users)),
        catalog=catalog.drop("title").join(titles, on="item", how="left", maintain_order="left"),
        meta=msgspec.structs.replace(store.meta, simulation=None),
        fractions=np.load(parts, mmap_mode="r")[early] if parts.is_file() else None,
    )
