"""Tables of Delta and Iceberg: the newest version of a folder of files, scanned by Polars."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import polars as pl

from leanrec.core.errors import ConfigError, DataError, one_line
from leanrec.data.members import LAKES
from leanrec.data.progress import OnProgress
from leanrec.data.source import Source, hushed
from leanrec.data.sources import sources
from leanrec.data.tables import ROWS_AT_ONCE, chosen, paths, with_rows


class _Lake(Source):
    """A folder of files of which a log says which are of the newest version.

    Attributes:
        package: Python package that reads the log.
    """

    package: ClassVar[str]

    @abstractmethod
    def scan(self) -> pl.LazyFrame:
        """The table, not read yet."""

    def sure(self) -> int:
        return 95 if not self.log.remote and LAKES[self.form](self.log.path) else 0

    def open(self) -> None:
        if find_spec(self.package) is None:
            raise ConfigError(
                f"expected the package {self.package} for the {self.form} table {self.place}, got none; install it with "
                f"pip install 'leanrec[{self.form}]'"
            )
        try:
            self.table = self.scan()
            self.paths = paths(self.table.collect_schema())
        except Exception as error:  # of Polars and of the package
            raise self._failed(error) from None
        self.columns = tuple(self.paths)

    def _failed(self, error: Exception) -> DataError:
        said = hushed(one_line(error), self.log.name)
        return DataError(f"expected a whole {self.form} table at {self.place}, got: {said}; check the path")

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        query = self.table.select(chosen(self.paths, columns))
        try:
            yield from with_rows(query.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True), progress)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._failed(error) from None


@sources.register("delta")
class Delta(_Lake):
    """A Delta table: a folder with a log in ``_delta_log``; with ``--format delta`` also one at an address."""

    package = "deltalake"

    def scan(self) -> pl.LazyFrame:
        return pl.scan_delta(self.log.name)


@sources.register("iceberg")
class Iceberg(_Lake):
    """An Iceberg table: a folder with ``metadata``, or the file in there of the version to read."""

    package = "pyiceberg"

    def scan(self) -> pl.LazyFrame:
        newest = max(self.log.path.glob("metadata/*.metadata.json"), key=_version, default=None)
        return pl.scan_iceberg(self.log.name if newest is None else str(newest.resolve()))


def _version(path: Path) -> int:
    """Of "00002-9c1e.metadata.json" or "v2.metadata.json"."""
    number = re.match(r"v?(\d+)", path.name)
    return int(number[1]) if number else -1
