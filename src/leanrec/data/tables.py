"""What sources of tables share: columns inside of others, and batches whose rows are numbered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from leanrec.data.progress import OnProgress

ROWS_AT_ONCE = 1 << 19
"""Rows that are read at a time."""


def leaves(tree: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where the columns of a schema or the fields of an object lie; those inside of another have its name before theirs."""
    for name, value in tree.items():
        inside = value.to_schema() if isinstance(value, pl.Struct) else value
        if isinstance(inside, Mapping) and inside:
            yield from leaves(inside, (*before, name))
        else:
            yield (*before, name)


def paths(schema: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Names of the columns, with dots where they lie in structs -> where they lie."""
    found: dict[str, tuple[str, ...]] = {}
    for path in leaves(schema):
        found.setdefault(".".join(path), path)
    return found


def chosen(where: Mapping[str, tuple[str, ...]], columns: Mapping[str, str]) -> list[pl.Expr]:
    """The asked columns under new names.

    Args:
        where: As `paths` found.
        columns: New name -> name in the log.
    """
    return [_at(where[name]).alias(role) for role, name in columns.items()]


def _at(path: tuple[str, ...]) -> pl.Expr:
    column = pl.col(path[0])
    for name in path[1:]:
        column = column.struct.field(name)
    return column


def with_rows(
    batches: Iterable[pl.DataFrame], progress: OnProgress | None = None, total: int = 0
) -> Iterator[pl.DataFrame]:
    """Batches with "row" (int64), the number of each row from 1; small ones are put together.

    Args:
        progress: Called with (rows read, total).
        total: Rows that there are; 0 if nobody knows.
    """
    done = 0
    for frame in _together(batches):
        yield frame.with_columns(pl.int_range(done + 1, done + frame.height + 1, dtype=pl.Int64).alias("row"))
        done += frame.height
        if progress:
            progress(done, total)


def _together(batches: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Small frames of the same types as larger ones: every frame has a cost of its own."""
    waiting: list[pl.DataFrame] = []
    for frame in batches:
        if waiting and (waiting[0].schema != frame.schema or sum(map(len, waiting)) + frame.height > ROWS_AT_ONCE):
            yield pl.concat(waiting, rechunk=True)
            waiting = []
        waiting.append(frame)
    if waiting:
        yield pl.concat(waiting, rechunk=True)


def series(name: str, values: Sequence[Any]) -> pl.Series:
    """Values of Python as a column; those of several types, and of types that Polars does not know, as text."""
    try:
        column = pl.Series(name, values)
    except (TypeError, OverflowError):
        column = None
    if column is not None and column.dtype != pl.Object:
        return column
    return pl.Series(name, [None if value is None else str(value) for value in values])
