"""The catalogue: item ids by descending popularity, and readable titles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.columns import resolve
from leanrec.data.ids import Ids
from leanrec.data.sources import open_source


def number_items(keys: pl.Series, counts: np.ndarray) -> tuple[pl.DataFrame, np.ndarray]:
    """Number the items that have events 1..N by descending count, ties by key.

    Args:
        keys: Names by code.
        counts: int64, events by code.

    Returns:
        The catalogue (columns "item", "title", "count", in id order, keys as titles) and int32 ids by code, 0 for
        items without events.
    """
    frame = pl.DataFrame({"item": keys, "title": keys, "count": counts.astype(np.int64)}).with_row_index("code")
    frame = frame.filter(pl.col("count") > 0).sort("count", "item", descending=[True, False])
    ids = np.zeros(len(keys), np.int32)
    ids[frame["code"].to_numpy()] = np.arange(1, frame.height + 1, dtype=np.int32)
    return frame.drop("code"), ids


def add_titles(
    catalog: pl.DataFrame, path: Path, *, item: str | None = None, title: str | None = None, format: str | None = None
) -> tuple[pl.DataFrame, int]:
    """Put titles from a file of any table form into the catalogue; the first title of an item counts.

    Args:
        item: Column of the item keys; guessed if None.
        title: Column of the titles; guessed if None.

    Returns:
        The catalogue, and how many items have no title and keep their key instead.

    Raises:
        DataError: The file is unreadable, lacks a column, or has none of the catalogue's items.
    """
    source = open_source(path, format, (item, title))
    if not source.has_names:
        raise DataError(f"expected a table with an item and a title column, got words in {path}; add a header")
    asked = (("item", item, "title-item"), ("title", title, "title-column"))
    columns = {role: resolve(role, name, source.columns, path, option=option) for role, name, option in asked}
    known, ids = catalog.select("item"), Ids("title item", str(columns["item"]))
    parts = []
    for frame in source.frames({role: name for role, name in columns.items() if name}, lenient=True):
        keys = ids.clean(frame["item"], str(path))
        titles = frame.select(keys.alias("item"), pl.col("title").cast(pl.String).str.strip_chars())
        parts.append(titles.filter(pl.col("title") != "").join(known, on="item", how="semi", maintain_order="left"))
    found = pl.concat(parts).unique("item", keep="first", maintain_order=True) if parts else None
    if found is None or found.is_empty():
        raise DataError(
            f"expected titles of items like {catalog['item'][0]!r}, got none in column {columns['item']!r} of {path}; "
            "is it the right file and column?"
        )
    named = catalog.drop("title").join(found, on="item", how="left", maintain_order="left")
    named = named.with_columns(pl.col("title").fill_null(pl.col("item"))).select("item", "title", "count")
    return named, catalog.height - found.height
