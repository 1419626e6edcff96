"""Tables of Delta and Iceberg: the newest version of a folder of files, scanned by Polars."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import polars as pl

from leanrec.core.errors import ConfigError
from leanrec.data.members import LAKES
from leanrec.data.scanned import Scanned
from leanrec.data.sources import sources


class _Lake(Scanned):
    """A folder of files of which a log says which are of the newest version.

    Attributes:
        package: Python package that reads the log.
    """

    package: ClassVar[str]

    def sure(self) -> int:
        return 95 if not self.log.remote and LAKES[self.form](self.log.path) else 0

    def open(self) -> None:
        if find_spec(self.package) is None:
            raise ConfigError(
                f"expected the package {self.package} for the {self.form} table {self.place}, got none; install it with "
                f"pip install 'leanrec[{self.form}]'"
            )
        super().open()

    def wanted(self) -> tuple[str, str]:
        return f"a whole {self.form} table", "check the path"


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
