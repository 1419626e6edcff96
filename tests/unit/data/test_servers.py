"""Queries to a real PostgreSQL, which is started here, and to a real file of DuckDB."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from leanrec.core.errors import DataError
from leanrec.data.importer import import_log
from unit.data.logs import CSV, EVENTS, T0, WHOLE, histories, read, sizes
from unit.data.postgres import PASSWORD, postgres

SQL = 'SELECT "user", item, "time" FROM events ORDER BY place'
EXECUTE = Callable[[str], None]
VALUES = ", ".join(f"({place}, {user}, {item}, {time})" for place, (user, item, time) in enumerate(EVENTS))
TABLE = (
    'CREATE TABLE events (place integer, "user" bigint, item bigint, "time" bigint)',
    f"INSERT INTO events VALUES {VALUES}",
)
UUID = "00000000-0000-0000-0000-{:012d}"
TYPES = f"""
SELECT CAST('{UUID[:-7]}' || lpad(CAST("user" AS text), 12, '0') AS uuid) AS visitor,
    CASE WHEN place = 1 THEN NULL ELSE CAST(item AS numeric(10, 2)) END AS product,
    to_timestamp("time") AS moment, item < 5 AS cheap, NULL AS nothing
FROM events ORDER BY place;
"""
CHILD = """
import sys
from pathlib import Path
from leanrec.data.importer import import_log
import_log(sys.argv[1], sys.argv[2], query=sys.argv[3])
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])  # getrusage has the peak of the parent, too
"""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgres() as address:
        import adbc_driver_postgresql.dbapi as driver

        with closing(driver.connect(address)) as connection:
            with closing(connection.cursor()) as cursor:
                for statement in TABLE:
                    cursor.execute(statement)
            connection.commit()
        yield address


@pytest.fixture(scope="module")
def duckdb(tmp_path_factory: pytest.TempPathFactory) -> str:
    driver = pytest.importorskip("duckdb", reason="needs the package duckdb")
    path = tmp_path_factory.mktemp("duckdb") / "shop.duckdb"
    with closing(driver.connect(str(path))) as connection:
        for statement in TABLE:
            connection.execute(statement)
    return f"duckdb:///{path}"


@pytest.fixture(params=["postgresql", "duckdb"])
def database(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


def test_a_query(tmp_path: Path, database: str) -> None:
    store = import_log(database, tmp_path / "store", query=SQL)
    assert sizes(store) == WHOLE
    assert histories(store) == histories(read(tmp_path, CSV, overwrite=True))
    assert store.meta.source == database.partition("?")[0].replace(f"me:{urlsplit(database).password}@", "")
    for path in store.path.iterdir():
        text = path.read_bytes()
        assert PASSWORD.encode() not in text and b"se%3Fcret" not in text


def test_types(tmp_path: Path, database: str) -> None:
    columns = {"user": "visitor", "item": "product", "time": "moment"}
    with pytest.raises(DataError, match=r"expected an item id, got nothing in row 2, column 'product'"):
        import_log(database, tmp_path / "store", query=TYPES, **columns)
    store = import_log(database, tmp_path / "store", query=TYPES, missing="drop", where="cheap", **columns)
    kept = [event for place, event in enumerate(EVENTS) if place != 1 and event[1] < 5]
    assert store.num_events == len(kept) and store.meta.dropped["missing item"] == 1
    wanted: dict[str, list[str]] = {}
    for user, item, _ in kept:
        wanted.setdefault(UUID.format(user), []).append(str(item))
    assert histories(store) == wanted
    assert store.times is not None and min(store.times) == min(time for *_, time in kept) >= T0


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM nothing", r"got: .*nothing.* does not exist.*; correct the query or the address"),
        ("DELETE FROM events", r"expected the rows of a query at .*, got: "),
        ("CREATE TABLE more AS SELECT 1 AS item", r"expected the rows of a query at .*, got: "),
        ("", r"expected (a query that has rows, got one without|the rows of a query) at "),
        ('SELECT "user", "time" FROM events', r"expected an item column, got the columns user, time in "),
    ],
)
def test_queries_that_cannot_be_answered(tmp_path: Path, database: str, sql: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        import_log(database, tmp_path / "store", query=sql)
    assert "\n" not in str(caught.value) and PASSWORD not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert sizes(import_log(database, tmp_path / "store", query=SQL)) == WHOLE


def test_a_query_that_fails_on_the_way(tmp_path: Path, database: str) -> None:
    wrong = "CASE WHEN place < 60 THEN '1' ELSE 'a' || place END"
    sql = f'SELECT "user", CAST({wrong} AS integer) AS item, "time" FROM events ORDER BY place'
    with pytest.raises(DataError, match=r"expected the rows of a query at .*, got: .*a60.*; correct"):
        import_log(database, tmp_path / "store", query=sql)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("se%3Fcret", "wr%3Fong"), r"got: .*password authentication failed.*; correct the query or the address"),
        (("postgres?", "nothing?"), r"got: .*database .*nothing.* does not exist.*; correct the query or the address"),
        (("host=", "host=/nowhere"), r"got: .* failed: No such file or directory"),
    ],
)
def test_a_server_that_does_not_answer(tmp_path: Path, postgresql: str, change: tuple[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        import_log(postgresql.replace(*change), tmp_path / "store", query=SQL)
    assert not any(secret in str(caught.value) for secret in (PASSWORD, "wr?ong", "%3F", "\n"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, database: str) -> None:
    many = """
    SELECT n % 1000 AS "user", n % 500 AS item, n AS "time", repeat('x', 400) AS rest
    FROM generate_series(1, 5000000) AS numbers(n)
    """  # two gigabytes
    child = subprocess.run(
        [sys.executable, "-c", CHILD, database, str(tmp_path / "store"), many],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert int(child.stdout) < 1000 * 1024
