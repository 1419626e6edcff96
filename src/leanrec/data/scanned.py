"""A source that Polars scans: a table that is read piece by piece, wherever it lies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

import polars as pl

from leanrec.core.errors import DataError, LeanrecError, one_line
from leanrec.data.progress import OnProgress
from leanrec.data.source import Source, hushed
from leanrec.data.tables import ROWS_AT_ONCE, chosen, paths, with_rows


class Scanned(Source):
    """A table that is scanned."""

    @abstractmethod
    def scan(self) -> pl.LazyFrame:
        """The table, not read yet; whatever is raised is a fault of the table or of its place, but for errors of this project."""

    @abstractmethod
    def wanted(self) -> tuple[str, str]:
        """What is expected, and what to do where it is not so, for messages."""

    def open(self) -> None:
        try:
            self.table = self.scan()
            self.paths = paths(self.table.collect_schema())
        except LeanrecError:
            raise
        except Exception as error:  # of Polars, of the system, of the packages behind it
            raise self._failed(error) from None
        self.columns = tuple(self.paths)

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        query = self.table.select(chosen(self.paths, columns))
        try:
            yield from with_rows(query.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True), progress)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> DataError:
        expected, advice = self.wanted()
        return DataError(
            f"expected {expected} at {self.place}, got: {hushed(one_line(error), self.log.name)}; {advice}"
        )
