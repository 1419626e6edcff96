"""One small log in many forms."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from leanrec.data.importer import import_log
from leanrec.data.store import Store

T0 = 1_600_000_000
EVENTS = [
    (user, (user * 2 + place * place) % 9 + 1, T0 + user * 1000 + place * 97)
    for user in range(1, 13)
    for place in range(6)
]
"""12 users, 9 items, 72 events."""
TABLE = pl.DataFrame(EVENTS, ["user", "item", "time"], orient="row")
WHOLE = (12, 9, 72)


def lines(row: str, events: Any = EVENTS) -> str:
    return "".join(row.format(u=user, i=item, t=time) + "\n" for user, item, time in events)


CSV = "user,item,time\n" + lines("{u},{i},{t}")


def read(tmp_path: Path, content: str | bytes | pl.DataFrame, **options: Any) -> Store:
    source = tmp_path / "log"
    if isinstance(content, pl.DataFrame):
        content.write_parquet(source)
    else:
        source.write_bytes(content.encode() if isinstance(content, str) else content)
    return import_log(source, tmp_path / "store", **options)


def sizes(store: Store) -> tuple[int, int, int]:
    return store.num_users, store.num_items, store.num_events


def histories(store: Store) -> dict[str, list[str]]:
    keys = store.catalog.keys
    return {name: [keys[item - 1] for item in store.history(user)] for user, name in enumerate(store.user_keys)}


def zipped(files: dict[str, str]) -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made.getvalue()


HEADERLESS = {"user": "1", "item": "2", "time": "3"}
