"""Logs with bytes changed at random are read or refused in one line; nothing else happens, and nothing is left behind."""

from __future__ import annotations

import bz2
import gzip
import lzma
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import DataError
from leanrec.data.importer import import_log
from unit.data.logs import CSV, HEADERLESS, TABLE, lines, zipped


def parquet() -> bytes:
    made = BytesIO()
    TABLE.write_parquet(made)
    return made.getvalue()


TEXTS = [
    CSV.encode(),
    TABLE.write_csv(separator="\t").encode(),
    ("# exported\n" + CSV).encode(),
    ("sep=;\n" + CSV.replace(",", ";")).encode(),
    TABLE.with_columns(pl.from_epoch("time")).write_csv().encode(),
    ("user_id:token\titem_id:token\n" + lines("{u}\t{i}")).encode(),
    lines("{u}::{i}::{t}").encode(),
    lines("{u} {i}").encode(),
    b"1 2 3\n2 3 4 5\n3 4 5\n",
    TABLE.write_ndjson().encode(),
    TABLE.group_by("user", maintain_order=True).agg("item", "time").write_ndjson().encode(),
    lines('{{"user": {{"id": {u}}}, "item": {{"id": {i}}}, "time": {t}}}').encode(),
    CSV.encode("utf-16"),
    gzip.compress(CSV.encode(), mtime=0),
    bz2.compress(CSV.encode()),
    lzma.compress(CSV.encode()),
    zipped({"log.csv": CSV}),
]
JUNK = [
    *b"\0\r\n\",\t {}[]\xff#\\-'\x1f",
    b"\xef\xbb\xbf",
    b"::",
    b"NaN",
    b"null",
    b"true",
    b"1e400",
    b"9" * 30,
    b"sep=;\n",
]
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 1 << 12),
        st.integers(0, 60),
        st.sampled_from([bytes([junk]) if isinstance(junk, int) else junk for junk in JUNK]) | st.binary(max_size=3),
    ),
    min_size=1,
    max_size=6,
)
OPTIONS: list[dict[str, Any]] = [
    {},
    {},
    {"missing": "drop"},
    {"where": "item > 3", "missing": "drop"},
    {"since": "2020-01-01"},
    {"time_format": "%Y-%m-%d"},
    {"encoding": "cp1251"},
    HEADERLESS,
    *({"format": form} for form in ("csv", "tsv", "jsonl", "inter", "pairs", "sequences", "sessions")),
]


def changed(log: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Some bytes of the log replaced by others."""
    for place, gone, new in changes:
        start = place % (len(log) + 1)
        log = log[:start] + new + log[start + gone :]
    return log


def check(folder: Path, log: bytes, options: dict[str, Any]) -> None:
    (folder / "log").write_bytes(log)
    try:
        store = import_log(folder / "log", folder / "store", overwrite=True, **options)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert store.num_events == int(store.offsets[-1]) == sum(store.catalog.counts) > 0
    assert {path.name for path in folder.iterdir()} <= {"log", "store"}


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(TEXTS), CHANGES, st.sampled_from(OPTIONS))
def test_changed_logs(
    tmp_path_factory: pytest.TempPathFactory, log: bytes, changes: list[tuple[int, int, bytes]], options: dict[str, Any]
) -> None:
    check(tmp_path_factory.mktemp("fuzz"), changed(log, changes), options)


@pytest.mark.exhaustive
@settings(deadline=None, max_examples=20_000)
@given(st.sampled_from([*TEXTS, parquet()]), CHANGES, st.sampled_from(OPTIONS))
def test_many_changed_logs(
    tmp_path_factory: pytest.TempPathFactory, log: bytes, changes: list[tuple[int, int, bytes]], options: dict[str, Any]
) -> None:
    check(tmp_path_factory.mktemp("fuzz"), changed(log, changes), options)


ROWS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1_500_000_000, 1_600_000_000)), min_size=1, max_size=40
)


@settings(deadline=None, max_examples=40)
@given(ROWS, st.sampled_from(["{u},{i},{t}", "{u}.0, {i} ,{t}", '"{u}",{i},{t}.0', "{u};{i};{t}", "{u}\t{i}\t{t}"]))
def test_counts_are_those_of_a_plain_reader(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]], form: str
) -> None:
    rows = [*rows, *((user, 1, 1_500_000_000) for user in (1, 1, 1, 2))]
    folder = tmp_path_factory.mktemp("counts")
    separator = next(mark for mark in ",;\t" if mark in form)
    (folder / "log").write_text(separator.join(("user", "item", "time")) + "\n" + lines(form, rows))
    store = import_log(folder / "log", folder / "store")
    assert (store.num_users, store.num_items, store.num_events) == (
        len({row[0] for row in rows}),
        len({row[1] for row in rows}),
        len(rows),
    )
    assert store.times is not None and sorted(store.times.tolist()) == sorted(row[2] for row in rows)
