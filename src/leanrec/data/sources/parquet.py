"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.blocks import CUT, is_gzip
from leanrec.data.progress import OnProgress
from leanrec.data.source import PARQUET, Source
from leanrec.data.sources import sources


@sources.register("parquet")
class Parquet(Source):
    """A Parquet file; columns keep their types.

    Attributes:
        rows: How many are read at a time.
    """

    rows: ClassVar[int] = 1 << 19

    def sure(self) -> int:
        return 100 if self.log.start.startswith(PARQUET) else 0

    def open(self) -> None:
        path = self.log.path
        self.log.check_file()
        if not self.log.start.startswith(PARQUET):
            self.log.text()
            raise DataError(f"expected a Parquet file, got text in {path}; leave the format to be found")
        if is_gzip(path):
            raise DataError(f"expected a plain Parquet file, got a gzip-compressed one at {path}; unpack it first")
        try:
            self.columns = tuple(pl.read_parquet_schema(path))
        except (pl.exceptions.PolarsError, OSError):
            raise DataError(
                f"expected a whole Parquet file, got one cut in the middle (no footer after its last row) at {path}; "
                "copy it again"
            ) from None

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        row = 1
        try:
            scan = pl.scan_parquet(self.log.path)
            total = int(scan.select(pl.len()).collect().item())
            query = scan.select(pl.col(name).alias(role) for role, name in columns.items())
            for frame in query.collect_batches(chunk_size=self.rows, maintain_order=True):
                yield frame.with_columns(pl.int_range(row, row + frame.height, dtype=pl.Int64).alias("row"))
                row += frame.height
                if progress:
                    progress(row - 1, total)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).split("\n")[0]
            raise DataError(
                f"expected a whole Parquet file, got: {reason} after row {row - 1} of {self.log.path}; {CUT}"
            ) from None
