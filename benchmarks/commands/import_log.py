"""Time and peak memory of importing a large log, from a CSV file or a database with the same rows.

    python -m benchmarks.commands.import_log --rows 20000000 --out DIRECTORY --of csv|duckdb|postgresql

The log (user,item,timestamp; 300,000 users, 50,000 items of Zipf-like popularity, in time order) is generated in chunks
in a temporary folder below --out by a child process, so that the peak is that of the import alone. PostgreSQL is the server
that the variable LEANREC_BENCH_POSTGRES names; the table leanrec_log there is written anew, and dropped in the end.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.commands import told
from leanrec.data.importer import import_log

USERS, ITEMS, CHUNK = 300_000, 50_000, 1_000_000
TABLE = "leanrec_log"
QUERY = f"SELECT * FROM {TABLE}"


def generate(path: Path, rows: int) -> None:
    """Write the log."""
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, CHUNK):
            size = min(CHUNK, rows - start)
            frame = pl.DataFrame(
                {
                    "user": random.integers(0, min(USERS, max(2, rows // 10)), size),
                    "item": (ITEMS ** random.random(size)).astype(np.int64),
                    "timestamp": 1_500_000_000 + start + np.arange(size),
                }
            )
            frame.write_csv(file, include_header=start == 0)


def fill(of: str, address: str, path: Path, rows: int) -> None:
    """Write the log as CSV and, unless that is what is asked for, into a database."""
    generate(path, rows)
    if of == "duckdb":
        connect = importlib.import_module("duckdb").connect
        with closing(connect(address.removeprefix("duckdb:///"))) as connection:
            connection.execute(f"CREATE TABLE {TABLE} AS SELECT * FROM read_csv('{path}')")
    elif of == "postgresql":
        drop(address)
        with closing(server(address)) as connection, closing(connection.cursor()) as cursor:
            for start in range(0, rows, CHUNK):
                part = pl.scan_csv(path).slice(start, CHUNK).collect()
                cursor.adbc_ingest(TABLE, part, mode="append" if start else "create")
            connection.commit()


def server(address: str) -> Any:
    """A connection to PostgreSQL."""
    return importlib.import_module("adbc_driver_postgresql.dbapi").connect(address)


def drop(address: str) -> None:
    """Remove the table from PostgreSQL."""
    with closing(server(address)) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")
        connection.commit()


def main() -> None:
    """Generate, import, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--of", choices=("csv", "duckdb", "postgresql"), default="csv")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
        file = Path(folder) / "log.csv"
        address = os.environ.get("LEANREC_BENCH_POSTGRES", "")
        source = {"csv": str(file), "duckdb": f"duckdb:///{folder}/log.duckdb", "postgresql": address}[arguments.of]
        child = multiprocessing.get_context("spawn").Process(
            target=fill, args=(arguments.of, source, file, arguments.rows)
        )
        child.start()
        child.join()
        calls = []
        query = None if arguments.of == "csv" else QUERY
        used, started = time.process_time(), time.perf_counter()
        store = import_log(source, Path(folder) / "store", query=query, progress=lambda *call: calls.append(call[0]))
        seconds, used = time.perf_counter() - started, time.process_time() - used
        unit = 1 if sys.platform == "darwin" else 1024  # bytes that ru_maxrss counts in
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
        figures = {"rows": store.num_events, "users": store.num_users, "items": store.num_items}
        figures |= {"file_mb": file.stat().st_size / 1e6, "seconds": seconds, "core-seconds": used, "peak_mb": peak_mb}
        told(figures | {"progress_calls": len(calls), "polars": pl.__version__})
        if arguments.of == "postgresql":
            drop(address)


if __name__ == "__main__":
    main()
