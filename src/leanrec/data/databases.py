"""Databases: what connects to them, and the answers to queries, a piece at a time."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit
from weakref import finalize

import polars as pl

from leanrec.core.errors import ConfigError, DataError
from leanrec.data.source import Query
from leanrec.data.tables import chosen, paths, series

_ROWS = 1 << 16
"""Rows that are fetched at a time, with all their columns."""


class QueryResult(ABC):
    """Rows that a database gives to a query.

    Attributes:
        columns: Their names.
        ended: Ends the connection, once; called, too, when nobody has the answer any more.
    """

    columns: tuple[str, ...]
    ended: Callable[[], object]

    def close(self) -> None:
        """End the connection."""
        self.ended()

    @abstractmethod
    def batches(self, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:
        """Columns (new name -> name in the answer) of some rows after the other."""


class _Rows(QueryResult):
    """Rows of a cursor, as Python has them."""

    def __init__(self, cursor: Any) -> None:
        self.cursor = cursor
        self.columns = tuple(column[0] for column in cursor.description or ())

    def batches(self, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:
        places = {role: self.columns.index(name) for role, name in columns.items()}
        while rows := self.cursor.fetchmany(_ROWS):
            values = list(zip(*rows, strict=True))
            yield pl.DataFrame([series(role, values[place]) for role, place in places.items()])


class _Stream(QueryResult):
    """A stream of Arrow."""

    def __init__(self, stream: Any) -> None:
        self.scan = pl.LazyFrame() if stream is None else pl.scan_arrow_c_stream(stream)
        self.paths = paths(self.scan.collect_schema())
        self.columns = tuple(self.paths)

    def batches(self, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:
        query = self.scan.select(chosen(self.paths, columns))
        yield from query.collect_batches(chunk_size=_ROWS, maintain_order=True)


def _open_sqlite(driver: Any, address: str) -> Any:
    return driver.connect(f"file:{quote(str(_file(address)))}?mode=ro", uri=True)


def _open_duckdb(driver: Any, address: str) -> Any:
    return driver.connect(str(_file(address)), read_only=True)


def _open_postgres(driver: Any, address: str) -> Any:
    return driver.connect(address)


def _ask_sqlite(cursor: Any, sql: str) -> QueryResult:
    return _Rows(cursor.execute(sql))


def _ask_duckdb(cursor: Any, sql: str) -> QueryResult:
    return _Stream(cursor.sql(sql))


def _ask_postgres(cursor: Any, sql: str) -> QueryResult:
    sql = sql.strip("; \t\r\n")
    cursor.execute("SET TRANSACTION READ ONLY")
    inner = f"({sql}\n) AS answer"
    cursor.execute(f"SELECT * FROM {inner} LIMIT 0")
    schema = pl.scan_arrow_c_stream(cursor.fetch_arrow()).collect_schema()
    if any(map(_foreign, schema.values())):  # of types that Arrow has not, such as numeric and uuid
        names = {name: '"' + name.replace('"', '""') + '"' for name in schema}
        read = (f"{names[name]}::text" if _foreign(dtype) else names[name] for name, dtype in schema.items())
        sql = f"SELECT {', '.join(read)} FROM {inner}"
    cursor.execute(sql)
    return _Stream(cursor.fetch_arrow())


def _foreign(dtype: pl.DataType) -> bool:
    return dtype == pl.Binary or isinstance(dtype, pl.BaseExtension)


class _Kind(NamedTuple):
    """A kind of database: the module that connects to it, its package, the extra with it, and how to connect and to ask."""

    module: str
    package: str
    extra: str
    connect: Callable[[Any, str], Any]
    ask: Callable[[Any, str], QueryResult]


_POSTGRES = _Kind("adbc_driver_postgresql.dbapi", "adbc-driver-postgresql", "postgres", _open_postgres, _ask_postgres)
_KINDS = {
    "sqlite": _Kind("sqlite3", "sqlite3", "", _open_sqlite, _ask_sqlite),
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "duckdb": _Kind("duckdb", "duckdb", "duckdb", _open_duckdb, _ask_duckdb),
}


def asker(database: str) -> Callable[[Query], QueryResult]:
    """What asks a database of the kind that an address names.

    Raises:
        DataError: It names none that is known.
        ConfigError: The package for it is not installed.
    """
    scheme = urlsplit(database).scheme
    if scheme not in _KINDS:
        raise DataError(
            f"expected a database such as sqlite:///shop.db, postgresql://host/shop or duckdb:///shop.duckdb, got the scheme "
            f"{scheme!r}; name one of these, or give frames to leanrec.import_log"
        )
    kind = _KINDS[scheme]
    try:
        driver = importlib.import_module(kind.module)
    except ImportError:
        raise ConfigError(
            f"expected the package {kind.package} for {scheme} databases, got none; install it with "
            f"pip install 'leanrec[{kind.extra}]'"
        ) from None
    return lambda query: _asked(kind, driver, query)


def _asked(kind: _Kind, driver: Any, query: Query) -> QueryResult:
    with ExitStack() as stack:
        connection = stack.enter_context(closing(kind.connect(driver, query.database)))
        answer = kind.ask(stack.enter_context(closing(connection.cursor())), query.sql)
        answer.ended = finalize(answer, stack.pop_all().close)
    return answer


def _file(address: str) -> Path:
    """The file of an address: "sqlite:///shop.db" is one here, "sqlite:////data/shop.db" one from the root."""
    parts = urlsplit(address)
    path = Path(unquote((parts.netloc + parts.path) if parts.netloc else parts.path.removeprefix("/")))
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    return path
