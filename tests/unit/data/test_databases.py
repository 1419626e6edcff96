"""Queries to databases, and logs at addresses."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import unquote

import polars as pl
import pytest

from e2e.command import leanrec
from leanrec.core.errors import ConfigError, DataError
from leanrec.data.importer import import_log
from leanrec.data.sources import remote
from unit.data.logs import CSV, EVENTS, TABLE, WHOLE, histories, read, sizes

SQL = "SELECT user, item, time FROM events ORDER BY rowid"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE events (user, item, time)")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", EVENTS)
    connection.close()
    return path


def test_sqlite(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanrec.data.databases._ROWS", 10)
    store = import_log(f"sqlite:///{database}", tmp_path / "store", query=SQL)
    assert sizes(store) == WHOLE
    assert histories(store) == histories(read(tmp_path, CSV, overwrite=True))
    assert (store.meta.name, store.meta.source) == ("shop", f"sqlite://{database}".replace("sqlite:///", "sqlite:////"))


def test_the_command_reads_a_query(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("data", "import", "--query", SQL, "--out", tmp_path / "store", "--json")
    assert leanrec(*command, "--database", f"sqlite:///{database.name}").json["events"] == 72
    assert "expected files, or --query and --database, got neither" in leanrec("data", "import", "--out", "x").err
    refused = leanrec("data", "import", "a.csv", "--query", SQL, "--out", "x")
    assert refused.code == 2 and "got both; give one of them" in refused.err


@pytest.mark.parametrize(
    ("sql", "address", "message"),
    [
        (
            "SELECT colour FROM events",
            "sqlite:///{}",
            r"expected the rows of a query at .*, got: no such column: colour",
        ),
        ("DELETE FROM events", "sqlite:///{}", r"got: attempt to write a readonly database"),
        (
            "SELECT user, time FROM events",
            "sqlite:///{}",
            r"expected an item column, got the columns user, time in sqlite:",
        ),
        (SQL, "sqlite:///{}x", r"expected the rows of a query at .*, got: no file .*shop\.dbx"),
        (SQL, "oracle://a:secret@b/c", r"expected a database such as sqlite:///shop\.db, .* got the scheme 'oracle'"),
    ],
)
def test_queries_that_cannot_be_answered(tmp_path: Path, database: Path, sql: str, address: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        import_log(address.format(database), tmp_path / "store", query=sql)
    assert "secret" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["shop.db"]


@pytest.mark.parametrize(
    ("scheme", "package", "extra"),
    [
        ("postgresql", "adbc-driver-postgresql", "postgres"),
        ("postgres", "adbc-driver-postgresql", "postgres"),
        ("duckdb", "duckdb", "duckdb"),
    ],
)
def test_a_driver_that_is_not_there(
    tmp_path: Path, scheme: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("adbc_driver_postgresql.dbapi", "duckdb"):
        monkeypatch.setitem(sys.modules, module, None)
    message = (
        rf"expected the package {package} for {scheme} databases, got none; "
        rf"install it with pip install 'leanrec\[{extra}\]'"
    )
    with pytest.raises(ConfigError, match=message):
        import_log(f"{scheme}://me:secret@host/shop", tmp_path / "store", query=SQL)


@pytest.mark.parametrize("password", ["secret", "se%3Fcret"])
def test_a_password_is_not_in_an_error(tmp_path: Path, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(address: str) -> Any:
        raise OSError(f"cannot reach {address} as me with {unquote(password)} and the key k3y")

    module = "adbc_driver_postgresql"
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    monkeypatch.setitem(sys.modules, f"{module}.dbapi", SimpleNamespace(connect=connect))
    address = f"postgresql://me:{password}@host/shop?sslkey=k3y"
    with pytest.raises(
        DataError, match=r"expected the rows of a query at postgresql://host/shop, got: cannot reach"
    ) as caught:
        import_log(address, tmp_path / "store", query=SQL)
    assert not any(secret in str(caught.value) for secret in (password, unquote(password), "k3y"))
    with pytest.raises(DataError, match=r"expected a query and a database, got postgresql://host/shop; give both"):
        import_log("postgresql://me:secret@host/shop", tmp_path / "store", format="sql")


@pytest.mark.parametrize("form", ["parquet", "csv", "csv.gz", "ndjson", "arrow", "log"])
def test_addresses(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"log.{form}"
    if form == "parquet":
        TABLE.write_parquet(path)
    elif form == "arrow":
        TABLE.write_ipc(path)
    elif form == "ndjson":
        TABLE.write_ndjson(path)
    else:
        TABLE.write_csv(path, compression="gzip" if form == "csv.gz" else "uncompressed")
    store = import_log(f"file://{path}", tmp_path / "store", format="csv" if form == "log" else None)
    assert sizes(store) == WHOLE
    assert store.meta.name == "log"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "s3://bucket/log",
            r"expected a table at s3://bucket/log, got a name that does not say which; say --format parquet",
        ),
        (
            "file:///nowhere/log.parquet?token=secret",
            r"expected a table that can be read at file:///nowhere/log\.parquet, got: ",
        ),
    ],
)
def test_addresses_that_cannot_be_read(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        import_log(address, tmp_path / "store")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["user,item\n", "user,item\n1,2\n"])
def test_a_token_is_not_in_an_error_about_the_events(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.csv").write_text(text)
    monkeypatch.setitem(remote._SCANS, "csv", lambda address: pl.scan_csv(tmp_path / "log.csv"))
    with pytest.raises(DataError, match=r"got .* in https://host/log\.csv") as caught:
        import_log("https://me:secret@host/log.csv?token=secret", tmp_path / "store")
    assert "secret" not in str(caught.value)
