"""The rows of a query to a database."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import polars as pl

from leanrec.core.errors import ConfigError, DataError, one_line
from leanrec.data.progress import OnProgress
from leanrec.data.source import Query, Source
from leanrec.data.sources import sources
from leanrec.data.tables import series, with_rows

_ROWS = 1 << 16
"""Rows that are fetched at a time."""


@sources.register("sql")
class Sql(Source):
    """The rows of a query to SQLite, or with extras to PostgreSQL or DuckDB, in the order in which they come."""

    def sure(self) -> int:
        return 100 if isinstance(self.log.value, Query) else 0

    def open(self) -> None:
        query = self.log.value
        if not isinstance(query, Query):
            raise DataError(f"expected a query and a database, got {self.log.shown}; give both")
        self.connection, self.cursor = self._asked(query)
        if self.cursor.description is None:
            self.connection.close()
            raise DataError(f"expected a query that has rows, got one without at {self.place}; SELECT some")
        self.columns = tuple(column[0] for column in self.cursor.description)

    def _asked(self, query: Query) -> tuple[Any, Any]:
        """The connection, and the cursor of the query."""
        connect = _connector(query.database)
        try:
            connection, cursor = connect(query.database)
            cursor.execute(query.sql)
        except Exception as error:  # each driver has exceptions of its own
            raise self._failed(error) from None
        return connection, cursor

    def _failed(self, error: Exception) -> DataError:
        secret = urlsplit(self.log.value.database).password if isinstance(self.log.value, Query) else None
        said = one_line(error).replace(secret, "...") if secret else one_line(error)
        return DataError(f"expected the rows of a query at {self.place}, got: {said}; correct the query or the address")

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        with closing(self.connection):
            yield from with_rows(self._batches(columns), progress)

    def _batches(self, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:
        places = {role: self.columns.index(name) for role, name in columns.items()}
        while True:
            try:
                rows = self.cursor.fetchmany(_ROWS)
            except Exception as error:
                raise self._failed(error) from None
            if not rows:
                return
            yield pl.DataFrame([series(role, [row[place] for row in rows]) for role, place in places.items()])


def _connector(database: str) -> Any:
    """What connects to a database of the kind that an address names.

    Raises:
        DataError: It names none that is known.
        ConfigError: The package for it is not installed.
    """
    scheme = urlsplit(database).scheme
    if scheme == "sqlite":
        return _sqlite
    known = {"postgresql": ("psycopg", "postgres", _postgres), "postgres": ("psycopg", "postgres", _postgres)}
    known["duckdb"] = ("duckdb", "duckdb", _duckdb)
    if scheme not in known:
        raise DataError(
            f"expected a database such as sqlite:///shop.db, postgresql://host/shop or duckdb:///shop.duckdb, got the scheme "
            f"{scheme!r}; name one of these, or give frames to leanrec.import_log"
        )
    module, extra, connect = known[scheme]
    try:
        driver = importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"expected the package {module} for {scheme} databases, got none; install it with pip install 'leanrec[{extra}]'"
        ) from None
    return lambda address: connect(driver, address)


def _sqlite(address: str) -> tuple[Any, Any]:
    path = _file(address)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    return connection, connection.cursor()


def _duckdb(driver: Any, address: str) -> tuple[Any, Any]:
    connection = driver.connect(str(_file(address)), read_only=True)
    return connection, connection.cursor()


def _postgres(driver: Any, address: str) -> tuple[Any, Any]:
    connection = driver.connect(address)
    return connection, connection.cursor(name="leanrec")  # of the server, which sends rows as they are fetched


def _file(address: str) -> Path:
    """The file of an address: "sqlite:///shop.db" is one here, "sqlite:////data/shop.db" one from the root."""
    parts = urlsplit(address)
    return Path(unquote((parts.netloc + parts.path) if parts.netloc else parts.path.removeprefix("/")))
