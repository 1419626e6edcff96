"""Parquet and Arrow files: columns keep their types."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.blocks import CUT
from leanrec.data.packed import packer
from leanrec.data.progress import OnProgress
from leanrec.data.source import Source
from leanrec.data.sources import sources
from leanrec.data.tables import ROWS_AT_ONCE, chosen, paths, with_rows

_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What Polars raises where it cannot read a file."""


class _Typed(Source):
    """A file of columns with types that Polars scans.

    Attributes:
        rows: How many are read at a time.
        magic: First bytes of such a file.
        title: What it is called.
    """

    file_form = True
    rows: ClassVar[int] = ROWS_AT_ONCE
    magic: ClassVar[bytes]
    title: ClassVar[str]

    @abstractmethod
    def scan(self) -> pl.LazyFrame:
        """The file, not read yet."""

    def sure(self) -> int:
        return 100 if self.log.start.startswith(self.magic) else 0

    def open(self) -> None:
        path = self.log.path
        self.log.check_file()
        if not self.log.start.startswith(self.magic):
            self.log.text()
            raise DataError(f"expected {self.title} file, got text in {path}; leave the format to be found")
        packed = packer(path)
        if packed:
            plain = self.title.replace("a ", "a plain ").replace("an ", "a plain ")
            raise DataError(f"expected {plain} file, got a {packed}-compressed one at {path}; unpack it first")
        try:
            self.paths = paths(self.scan().collect_schema())
        except _UNREADABLE:
            raise DataError(
                f"expected a whole {self.title.split()[1]} file, got one cut in the middle (no footer after its last row) "
                f"at {path}; copy it again"
            ) from None
        self.columns = tuple(self.paths)

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        done = 0
        try:
            scan = self.scan()
            total = int(scan.select(pl.len()).collect().item())
            query = scan.select(chosen(self.paths, columns))
            batches = query.collect_batches(chunk_size=self.rows, maintain_order=True)
            for frame in with_rows(batches, progress, total):
                yield frame
                done += frame.height
        except _UNREADABLE as error:
            reason = str(error).split("\n")[0]
            raise DataError(
                f"expected a whole {self.title.split()[1]} file, got: {reason} after row {done} of {self.log.path}; {CUT}"
            ) from None


@sources.register("parquet")
class Parquet(_Typed):
    """A Parquet file; columns keep their types."""

    magic, title = b"PAR1", "a Parquet"

    def scan(self) -> pl.LazyFrame:
        return pl.scan_parquet(self.log.path, hive_partitioning=False, glob=False)


@sources.register("arrow")
class Arrow(_Typed):
    """An Arrow IPC file, also called Feather; columns keep their types."""

    magic, title = b"ARROW1", "an Arrow"

    def scan(self) -> pl.LazyFrame:
        return pl.scan_ipc(self.log.path, hive_partitioning=False, glob=False)
