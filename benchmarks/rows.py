"""Rows of results: one long table, a CSV file for each case, that only ever grows.

A row is one figure. RFC 4180 with "\\n" at the end of lines; rows stand in the order in which they came.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from leanrec.core.errors import DataError, one_line
from leanrec.core.registry import did_you_mean
from leanrec.core.writing import written
from leanrec.cost.machine import machine

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SCHEMA: dict[str, Any] = {
    "case": pl.String,
    "variant": pl.String,
    "seed": pl.Int64,
    "part": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "unit": pl.String,
    "commit": pl.String,
    "config_sha": pl.String,
    "machine": pl.String,
    "cores": pl.Int64,
    "threads": pl.Int64,
    "torch": pl.String,
    "date": pl.String,
    "note": pl.String,
}
KEY = ("case", "variant", "seed", "part", "metric")
"""What one figure is called; of two rows of one key the later one counts."""


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One figure.

    Attributes:
        case: Name of the case.
        variant: Of the case; "canet/static" is the control "static" of "canet", "canet@0.3" is "canet" at a budget of .3.
        seed: Of training; None where there is none.
        part: Of the log: "valid" or "test"; empty where a figure is of no part.
        metric: What it is, with what it depends on: "ndcg@10", "p50, export, batch 1".
        value: The figure.
        low: Of its 95 % interval, if it has one.
        high: The other end.
        unit: "ms", "bytes", "FLOPs"; empty for shares and counts.
        commit: Of the code that measured it, with "+" if the tree had changes; empty outside of a repository.
        config_sha: What was measured and how (`configured.digest`); empty for rows of before there were cases.
        machine: The processor.
        cores: That could be used.
        threads: Of torch.
        torch: Its version.
        date: UTC.
        note: What else one should know, in a line.
    """

    case: str
    variant: str
    metric: str
    value: float
    seed: int | None = None
    part: str = ""
    low: float | None = None
    high: float | None = None
    unit: str = ""
    commit: str = ""
    config_sha: str = ""
    machine: str = ""
    cores: int | None = None
    threads: int | None = None
    torch: str = ""
    date: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, str) and ("\n" in value or "\r" in value):
                raise DataError(f"expected one line in {name} of a row, got {one_line(value)!r}")


def here() -> dict[str, Any]:
    """The columns of a row that say where and when."""
    found = machine()
    what = str(found["cpu"]) + (f", {found['gpu']}" if "gpu" in found else "")
    return {"machine": what, "commit": commit()} | {k: found[k] for k in ("cores", "threads", "torch", "date")}


@cache
def commit() -> str:
    """Of the code at work."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "--short=10", "HEAD")
    return head + ("+" if head and git("status", "--porcelain", "--", "src", "benchmarks/*.py") else "")


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file, all of them or, if the process is killed meanwhile, none.

    Raises:
        DataError: The file has other columns.
        WriteError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        if path.exists():
            _check_columns(path)
            old = path.read_bytes()
        else:
            old = (",".join(SCHEMA) + "\n").encode()
        with written(path) as made:
            made.write_bytes(old + _lines(rows).encode())


def _lines(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in SCHEMA])
    return text.getvalue()


def _cell(value: object) -> str:
    """The shortest text that reads back as the same value."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return "" if value is None else str(value)


def read(path: Path) -> pl.DataFrame:
    """The rows of a file; a file that is not there has none.

    Raises:
        DataError: It has other columns, or a cell of another type.
    """
    if not path.exists():
        return pl.DataFrame(schema=SCHEMA)
    _check_columns(path)
    try:
        return pl.read_csv(path, schema=SCHEMA).with_columns(pl.col(pl.String).fill_null(""))
    except pl.exceptions.PolarsError as error:
        raise DataError(f"expected rows of results in {path}, got {one_line(error)}; mend or remove the row") from error


def read_all(folder: Path = RESULTS) -> pl.DataFrame:
    """The rows of every case."""
    return pl.concat([pl.DataFrame(schema=SCHEMA), *(read(path) for path in sorted(folder.glob("*.csv")))])


def newest(frame: pl.DataFrame) -> pl.DataFrame:
    """The last row of every key."""
    return frame.unique(KEY, keep="last", maintain_order=True)


def _check_columns(path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        columns: Sequence[str] = next(csv.reader(file), [])
    for column in columns:
        if column not in SCHEMA:
            raise DataError(f"unknown column {column[:100]!r} in {path}; {did_you_mean(column, SCHEMA)}")
    if list(columns) != list(SCHEMA):
        raise DataError(f"expected the columns {','.join(SCHEMA)} in {path}, got {','.join(columns) or 'none'}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process appends to files of a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
