"""Logs in object stores and on web servers, scanned by Polars; credentials are those that Polars finds in the environment."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.scanned import Scanned
from leanrec.data.sources import sources

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
class Remote(Scanned):
    """A table at an address such as s3://bucket/log.parquet, gs://, az:// or https://."""

    def sure(self) -> int:
        return 90 if self.log.remote else 0

    def scan(self) -> pl.LazyFrame:
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
        return _SCANS[form](address)

    def wanted(self) -> tuple[str, str]:
        return "a table that can be read", "check address and credentials"
