"""The logs of cases, by name, and their stores in the work folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from leanrec.core.errors import DataError
from leanrec.data.importer import import_log
from leanrec.data.simulate import Shop, simulate
from leanrec.data.store import Store

SHOP = "shop"
USUAL = Shop()
LOGS = {
    SHOP: "",
    "ml-100k": "ml-100k/ratings.csv.gz",
    "ml-1m": "ml-1m/ml-1m.txt.gz",
    "beauty": "beauty/interactions.tsv.gz",
    "toys": "toys/toys.txt.gz",
    "sports": "sports/sports.txt.gz",
    "games": "games/games.txt",
    "online-retail": "online-retail/events.parquet",
    "diginetica": "diginetica/sessions.txt.gz",
    "beauty-large": "beauty-large/beauty-large.txt.gz",
    "nowplaying": "nowplaying/sessions.txt.gz",
}
"""Places in the folder of ``--logs``; `leanrec data fetch` downloads some."""


def store_of(log: str, logs: Path, work: Path, shop: Shop = USUAL) -> Store:
    """The store of a log, imported or simulated once.

    Raises:
        DataError: The log is not there.
    """
    usual = log != SHOP or shop == USUAL
    path = work / "data" / (log if usual else f"{log}-{hashlib.sha256(msgspec.json.encode(shop)).hexdigest()[:12]}")
    if path.exists():
        return Store.open(path)
    if log == SHOP:
        return simulate(shop, path)
    source = logs / LOGS[log]
    if not source.exists():
        raise DataError(f"expected the log {log} at {source}, got nothing; name the folder of the logs with --logs")
    return import_log(source, path, name=log)
