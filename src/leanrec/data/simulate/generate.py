"""Draw the histories of a simulated shop and write them as a store."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from leanrec.data.simulate.names import slug
from leanrec.data.simulate.shop import KINDS, Shop, World, apportion, open_shop
from leanrec.data.store import STORE_VERSION, Store, StoreMeta, write_store

_OPENING = 1_704_067_200  # 2024-01-01 00:00 UTC
_SEASON = 300 * 86_400
_PAUSE = 86_400.0


def simulate(shop: Shop, out: Path | str, overwrite: bool = False) -> Store:
    """Write the simulated shop as a store; all of it can be recomputed from the parameters in ``store.json``.

    The store has item titles, times in seconds, and the users' kinds in the column ``kind`` of ``users.parquet``.

    Raises:
        DataError: ``out`` exists and ``overwrite`` is off, or it cannot be written.
    """
    world = open_shop(shop)
    rng = np.random.default_rng([shop.seed, 1])
    kinds = rng.permutation(np.repeat(np.arange(3), apportion(shop.users, shop.shares)))
    lengths = draw_lengths(shop, rng)
    bought = np.full((shop.users, shop.max_length), -1, dtype=np.int32)
    for kind in range(3):
        rows = np.flatnonzero(kinds == kind)
        if len(rows):
            bought[rows] = draw_histories(world, kind, len(rows), rng)
    inside = np.arange(shop.max_length) < lengths[:, None]
    events = bought[inside]
    keys = np.array([slug(title) for title in world.titles])
    order, ids = number_by_count(events, keys)
    counts = np.bincount(events, minlength=shop.items)
    unsold = shop.items - len(order)
    return write_store(
        Path(out),
        items=ids[events],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        times=draw_times(shop, rng)[inside],
        users=pl.DataFrame(
            {"user": [f"u{u:06d}" for u in range(shop.users)], "kind": [KINDS[k] for k in kinds.tolist()]}
        ),
        catalog=pl.DataFrame(
            {"item": keys[order], "title": [world.titles[i] for i in order.tolist()], "count": counts[order]}
        ),
        meta=StoreMeta(
            schema=STORE_VERSION,
            name="simulated shop",
            users=shop.users,
            items=len(order),
            events=len(events),
            has_times=True,
            source="simulated",
            source_sha256="",
            dropped={},
            notes=(f"{unsold} items that nobody bought are left out",) if unsold else (),
            simulation=msgspec.to_builtins(shop),
        ),
        overwrite=overwrite,
    )


def draw_lengths(shop: Shop, rng: np.random.Generator) -> np.ndarray:
    """int64 [users]: geometric above the shortest length, cut at the longest."""
    extra = rng.geometric(1.0 / (shop.mean_length - shop.min_length + 1.0), size=shop.users) - 1
    return np.minimum(shop.min_length + extra, shop.max_length)


def draw_times(shop: Shop, rng: np.random.Generator) -> np.ndarray:
    """int64 [users, max_length] unix seconds, increasing along each row: a first visit, then exponential pauses."""
    first = _OPENING + rng.integers(_SEASON, size=(shop.users, 1))
    pauses = 1 + rng.exponential(_PAUSE, size=(shop.users, shop.max_length)).astype(np.int64)
    return first + np.cumsum(pauses, axis=1)


def draw_histories(world: World, kind: int, users: int, rng: np.random.Generator) -> np.ndarray:
    """int32 [users, max_length] items of users of one kind, drawn step by step from the true distribution."""
    shop = world.shop
    bought = np.full((users, 1 + shop.max_length), -1, dtype=np.int32)  # the first column is "nothing yet"
    shelves = np.cumsum(world.shelves(kind), axis=1)
    everything = np.cumsum(world.popularity)[None]
    anywhere = np.zeros(users, dtype=np.int64)
    for step in range(1, 1 + shop.max_length):
        candidates, weights, shelf = world.rule(kind, bought[:, :step])
        chosen = (rng.random((users, 1)) > np.cumsum(weights, axis=1)).sum(axis=1)
        by_rule = candidates[np.arange(users), np.minimum(chosen, candidates.shape[1] - 1)]
        dice = rng.random(users)
        firm = dice >= shop.noise + shop.stray
        by_shelf = draw(shelves, np.where(firm, shelf, 0), rng)
        by_shop = draw(everything, anywhere, rng)
        known = weights.sum(axis=1) > 0
        bought[:, step] = np.where(dice < shop.stray, by_shop, np.where(firm & known, by_rule, by_shelf))
    return bought[:, 1:]


def draw(cumulative: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64 [B] columns, each by the cumulative distribution [R, N] in the wanted row (int [B])."""
    dice = rng.random(len(rows)) * cumulative[rows, -1]
    columns = np.empty(len(rows), dtype=np.int64)
    for row in np.unique(rows):
        here = rows == row
        columns[here] = np.searchsorted(cumulative[row], dice[here], side="right")
    return columns


def number_by_count(events: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Items in id order (descending count, then key), without the unsold ones, and each item's id (0 if unsold)."""
    counts = np.bincount(events, minlength=len(keys))
    order = np.lexsort((keys, -counts))
    order = order[counts[order] > 0]
    ids = np.zeros(len(keys), dtype=np.int32)
    ids[order] = np.arange(1, len(order) + 1)
    return order, ids
