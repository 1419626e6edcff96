"""Logs as tools write them: each is read as the one log that it is."""

from __future__ import annotations

import bz2
import gzip
import lzma
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from unit.data.logs import CSV, EVENTS, HEADERLESS, TABLE, WHOLE, histories, lines, read, sizes, zipped


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return histories(read(tmp_path_factory.mktemp("plain"), CSV))


STRINGS = TABLE.cast({"user": pl.String, "item": pl.String})
READ: dict[str, tuple[str | bytes | pl.DataFrame, dict[str, Any]]] = {
    "comments": ("# exported\n# by hand\n" + CSV, {}),
    "comments and a blank line": ("# exported\n\n" + CSV, {}),
    "comments before pairs": ("# a graph\n" + lines("{u} {i}"), {}),
    "comments of another kind": ("% bip weighted\n" + lines("{u} {i} {t}"), {"format": "csv", **HEADERLESS}),
    "a header in a comment": ("# exported\n#user,item,time\n" + lines("{u},{i},{t}"), {"user": "#user"}),
    "comments before JSON": ("# exported\n" + lines('{{"user": {u}, "item": {i}, "time": {t}}}'), {}),
    "a header above pairs": ("uid mid\n" + lines("{u} {i}"), {}),
    "a header above lists": (
        "uid items\n"
        + "".join(f"{u} " + " ".join(str(e[1]) for e in EVENTS if e[0] == u) + " " * u + "\n" for u in range(1, 13)),
        {"format": "sequences"},
    ),
    "positions": (lines("{u},{i},{t}"), HEADERLESS),
    "positions below a header": (CSV, {**HEADERLESS, "header": True}),
    "names that are numbers": (CSV.replace("user,item,time", "0,1,2"), {"user": "0", "item": "1", "time": "2"}),
    "blanks as separators": (lines("{u} {i} {t}"), {"format": "csv", **HEADERLESS}),
    "several blanks": (lines("{u}   {i}  {t}"), {"format": "csv", **HEADERLESS}),
    "blanks at the start": (lines("  {u} {i} {t}"), {"format": "csv", **HEADERLESS}),
    "blanks around ids": ("user\titem\ttime\n" + lines("{u} \t {i}\t{t}"), {}),
    "blanks after commas": ("user, item, time\n" + lines("{u}, {i}, {t}"), {}),
    "blanks after commas, by name": ("user, item, time\n" + lines("{u}, {i}, {t}"), {"user": "user", "item": "item"}),
    "blanks that do not break": ("user,item,time\n" + lines("{u}\u00a0,{i},{t}"), {}),
    "carriage returns alone": (CSV.replace("\n", "\r"), {}),
    "carriage returns alone, JSON": (lines('{{"user": {u}, "item": {i}, "time": {t}}}').replace("\n", "\r"), {}),
    "carriage returns alone, pairs": (lines("{u} {i}").replace("\n", "\r"), {}),
    "a separator at the end of rows": ("user,item,time\n" + lines("{u},{i},{t},"), {}),
    "a separator at the end of all lines": ("user;item;time;\n" + lines("{u};{i};{t};"), {}),
    "sep=": ("sep=;\nuser;item;time\n" + lines("{u};{i};{t}"), {}),
    "sep= of a bar": ("SEP=|\r\nuser|item|time\r\n" + lines("{u}|{i}|{t}").replace("\n", "\r\n"), {}),
    "double colons": (lines("{u}::{i}::{t}"), HEADERLESS),
    "double colons with a header": ("user::item::time\n" + lines("{u}::{i}::{t}"), {}),
    "RecBole with commas": ("user_id:token,item_id:token,timestamp:float\n" + lines("{u},{i},{t}"), {}),
    "floats": ("user,item,time\n" + lines("{u}.0,{i}.0,{t}"), {}),
    "floats and whole numbers": ("user,item,time\n" + lines("{u}.00,{i},{t}.0"), {}),
    "floats, Parquet": (TABLE.cast({"user": pl.Float64, "item": pl.Float32}), {}),
    "decimals": (TABLE.cast({"user": pl.Decimal(38, 0), "item": pl.Decimal(10, 2)}), {}),
    "bytes": (STRINGS.cast({"user": pl.Binary, "item": pl.Binary}), {}),
    "categories": (STRINGS.cast({"user": pl.Categorical, "item": pl.Categorical}), {}),
    "lists": (TABLE.group_by("user", maintain_order=True).agg("item", "time"), {}),
    "arrays": (
        TABLE.group_by("user", maintain_order=True)
        .agg("item", "time")
        .cast({name: pl.Array(pl.Int64, 6) for name in ("item", "time")}),
        {},
    ),
    "lists in JSON": (TABLE.group_by("user", maintain_order=True).agg("item", "time").write_ndjson(), {}),
    "lists of items at one time": (TABLE.group_by("user", maintain_order=True).agg("item", pl.col("time").first()), {}),
    "structs": (TABLE.select(pl.struct(id="user").alias("user"), pl.struct(id="item").alias("item"), "time"), {}),
    "objects in JSON": (lines('{{"user": {{"id": {u}}}, "item": {{"id": {i}, "x": [1]}}, "time": {t}}}'), {}),
    "a name with a dot in JSON": (
        lines('{{"user.id": {u}, "user": {{"id": 7}}, "item": {i}, "time": {t}}}'),
        {"user": "user.id"},
    ),
    "gzip": (gzip.compress(CSV.encode()), {}),
    "bzip2": (bz2.compress(CSV.encode()), {}),
    "xz": (lzma.compress(CSV.encode()), {}),
    "zip": (zipped({"log.csv": CSV}), {}),
    "UTF-16 with a mark": (CSV.encode("utf-16"), {}),
    "UTF-16 without a mark": (CSV.encode("utf-16-le"), {}),
    "UTF-16 of the other order": (CSV.encode("utf-16-be"), {}),
    "UTF-32": (CSV.encode("utf-32"), {}),
    "an encoding by name": (CSV.encode("utf-16"), {"encoding": "UTF-16"}),
    "bytes that no one reads": (b"user,item,time,name\n" + lines("{u},{i},{t},\u0416").encode("cp1251"), {}),
    "days first": (
        "user,item,time\n"
        + "".join(f"{u},{i},{datetime.fromtimestamp(t, UTC):%d.%m.%Y %H:%M:%S}\n" for u, i, t in EVENTS),
        {"time_format": "%d.%m.%Y %H:%M:%S"},
    ),
    "months first": (
        "user,item,time\n"
        + "".join(f"{u},{i},{datetime.fromtimestamp(t, UTC):%m/%d/%y %H:%M:%S}\n" for u, i, t in EVENTS),
        {"time_format": "%m/%d/%y %H:%M:%S"},
    ),
}


@pytest.mark.parametrize("case", READ)
def test_a_log_is_read_however_it_is_written(tmp_path: Path, case: str, plain: dict[str, list[str]]) -> None:
    content, options = READ[case]
    store = read(tmp_path, content, **options)
    assert sizes(store) == WHOLE
    assert histories(store) == plain
