"""The rows of a query to a database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

import polars as pl

from leanrec.core.errors import DataError, one_line
from leanrec.data.databases import asker
from leanrec.data.progress import OnProgress
from leanrec.data.source import Query, Source, hushed
from leanrec.data.sources import sources
from leanrec.data.tables import with_rows


@sources.register("sql")
class Sql(Source):
    """The rows of a query to SQLite, or with extras to PostgreSQL or DuckDB, in the order in which they come."""

    def sure(self) -> int:
        return 100 if isinstance(self.log.value, Query) else 0

    def open(self) -> None:
        query = self.log.value
        if not isinstance(query, Query):
            raise DataError(f"expected a query and a database, got {self.log.shown}; give both")
        self.query = query
        ask = asker(query.database)
        try:
            self.answer = ask(query)
        except Exception as error:  # each driver has exceptions of its own
            raise self._failed(error) from None
        self.columns = self.answer.columns
        if not self.columns:
            self.answer.close()
            raise DataError(f"expected a query that has rows, got one without at {self.place}; SELECT some")

    def _failed(self, error: Exception) -> DataError:
        said = hushed(one_line(error), self.query.database)
        return DataError(f"expected the rows of a query at {self.place}, got: {said}; correct the query or the address")

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        with closing(self.answer):
            yield from with_rows(self._batches(columns), progress)

    def _batches(self, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:
        batches = self.answer.batches(columns)
        while True:
            try:
                frame = next(batches, None)
            except Exception as error:
                raise self._failed(error) from None
            if frame is None:
                return
            yield frame
