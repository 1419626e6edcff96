"""Logs in object stores and on web servers, scanned by Polars; credentials are those that Polars finds in the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from urllib.parse import urlsplit

import polars as pl

from leanrec.core.errors import DataError, one_line
from leanrec.data.progress import OnProgress
from leanrec.data.source import Source, hushed
from leanrec.data.sources import sources
from leanrec.data.tables import ROWS_AT_ONCE, chosen, paths, with_rows

_SCANS = {
    "parquet": pl.scan_parquet,
    "arrow": pl.scan_ipc,
    "csv": partial(pl.scan_csv, infer_schema=False),
    "tsv": partial(pl.scan_csv, infer_schema=False, separator="\t"),
    "jsonl": pl.scan_ndjson,
}
_ENDINGS = {"feather": "arrow", "ipc": "arrow", "ndjson": "jsonl", "pq": "parquet"}
_PACKED = (".gz", ".zst")


@sources.register("remote")
class Remote(Source):
    """A table at an address such as s3://bucket/log.parquet, gs://, az:// or https://."""

    def sure(self) -> int:
        return 90 if self.log.remote else 0

    def open(self) -> None:
        address = self.log.name
        end = urlsplit(address).path
        for packed in _PACKED:
            end = end.removesuffix(packed)
        end = end.rpartition(".")[2].lower()
        form = self.log.form or _ENDINGS.get(end, end)
        if form not in _SCANS:
            raise DataError(
                f"expected a table at {self.place}, got a name that does not say which; say --format {', '.join(_SCANS)}"
            )
        try:
            self.scan = _SCANS[form](address)
            self.paths = paths(self.scan.collect_schema())
        except Exception as error:  # of Polars, of the system, of the readers behind it
            raise self._failed(error) from None
        self.columns = tuple(self.paths)

    def _failed(self, error: Exception) -> DataError:
        said = hushed(one_line(error), self.log.name)
        return DataError(
            f"expected a table that can be read at {self.place}, got: {said}; check address and credentials"
        )

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        query = self.scan.select(chosen(self.paths, columns))
        try:
            yield from with_rows(query.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True), progress)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._failed(error) from None
