"""What Parquet, Arrow and frames share: columns with types, read by Polars in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

ROWS_AT_ONCE = 1 << 19
"""Rows that are read at a time."""


def leaves(schema: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where the columns lie; those inside of a struct have its name before theirs."""
    for name, kind in schema.items():
        if isinstance(kind, pl.Struct):
            yield from leaves({field.name: field.dtype for field in kind.fields}, (*before, name))
        else:
            yield (*before, name)


def paths(schema: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Names of the columns, with dots where they lie in structs -> where they lie."""
    found: dict[str, tuple[str, ...]] = {}
    for path in leaves(schema):
        found.setdefault(".".join(path), path)
    return found


def at(path: tuple[str, ...]) -> pl.Expr:
    """The column at a place."""
    column = pl.col(path[0])
    for name in path[1:]:
        column = column.struct.field(name)
    return column


def with_rows(batches: Iterator[pl.DataFrame], first: int = 1) -> Iterator[pl.DataFrame]:
    """Batches with "row" (int64), the number of each row from ``first``."""
    for frame in batches:
        yield frame.with_columns(pl.int_range(first, first + frame.height, dtype=pl.Int64).alias("row"))
        first += frame.height
