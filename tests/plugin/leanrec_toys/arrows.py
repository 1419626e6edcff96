"""A source: text whose lines are "user > item"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from leanrec.data.progress import OnProgress
from leanrec.data.source import Source
from leanrec.data.sources import sources


@sources.register("arrows")
class Arrows(Source):
    """Lines 'user > item', in time order."""

    unit = "line"
    has_names = False

    def sure(self) -> int:
        return 100 if self.log.lines and all(" > " in line for line in self.log.lines) else 0

    def open(self) -> None:
        self.log.text()

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        pairs = [line.split(" > ") for line in self.log.path.read_text("utf-8").splitlines()]
        frame = pl.DataFrame(pairs, schema=["user", "item"], orient="row").with_row_index("row", 1)
        yield frame.select(*(pl.col(name).alias(role) for role, name in columns.items()), pl.col("row").cast(pl.Int64))
