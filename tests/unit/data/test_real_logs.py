"""Public logs, when they are at hand: LEANREC_DATA_DIR names the folder that holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from leanrec.data.importer import import_log

LOGS = {
    "ml-1m/ml-1m.txt.gz": ("pairs", 6040, 3416, 999611, "items.tsv"),
    "ml-100k/ratings.csv.gz": ("csv", 943, 1682, 100000, "items.tsv"),
    "beauty/interactions.tsv.gz": ("tsv", 22363, 12101, 198502, "items.tsv"),
    "toys/toys.txt.gz": ("sequences", 19412, 11924, 167597, None),
    "sports/sports.txt.gz": ("sequences", 35598, 18357, 296337, None),
    "games/games.txt": ("pairs", 31013, 23715, 287107, None),
    "online-retail/events.parquet": ("parquet", 4339, 3665, 387797, "items.parquet"),
    "diginetica/sessions.txt.gz": ("sessions", 202633, 43097, 982961, None),
    "nowplaying/sessions.txt.gz": ("sessions", 142556, 60416, 1057684, None),
    "beauty-large/beauty-large.txt.gz": ("pairs", 40226, 54542, 353962, None),
}


@pytest.mark.data
@pytest.mark.parametrize("log", LOGS)
def test_published_sizes(tmp_path: Path, data_dir: Path, log: str) -> None:
    source = data_dir / log
    if not source.exists():
        pytest.skip(f"{log} is not there")
    form, users, items, events, titles = LOGS[log]
    store = import_log(source, tmp_path / "store", titles=source.parent / titles if titles else None)
    assert (store.num_users, store.num_items, store.num_events) == (users, items, events)
    assert store.meta.notes[0].removeprefix("format ").startswith(form)
    assert not store.meta.dropped
    if titles:
        assert (
            sum(title != key for title, key in zip(store.catalog.titles, store.catalog.keys, strict=True)) > items / 2
        )
