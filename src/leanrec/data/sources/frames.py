"""Frames of Polars, pandas and Arrow, and iterators of them, from Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.progress import OnProgress
from leanrec.data.source import Source
from leanrec.data.sources import sources
from leanrec.data.tables import ROWS_AT_ONCE, chosen, paths, series, with_rows


@sources.register("frames")
class Frames(Source):
    """A frame of Polars, pandas or Arrow, or an iterator of frames; each is read once, and one is in memory at a time."""

    def sure(self) -> int:
        return 80 if self.log.value is not None else 0

    def open(self) -> None:
        self.batches = _batches(self.log.value)
        first = next(self.batches, None)
        if first is None:
            raise DataError("expected frames of events, got an iterator without any; give one")
        self.batches = chain([first], self.batches)
        self.columns = tuple(paths(first.schema))

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        yield from with_rows(self._chosen(columns), progress)

    def _chosen(self, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:
        for number, frame in enumerate(self.batches, 1):
            known = paths(frame.schema)
            for role, name in columns.items():
                if name not in known:
                    raise DataError(
                        f"expected the {role} column {name!r} in every frame, got none in frame {number}; it has the columns "
                        f"{', '.join(known)}"
                    )
            yield frame.select(chosen(known, columns))


def _batches(value: Any) -> Iterator[pl.DataFrame]:
    """What was given, as frames of Polars."""
    if isinstance(value, pl.DataFrame):
        yield from value.iter_slices(ROWS_AT_ONCE) if value.height else [value]
    elif isinstance(value, pl.LazyFrame):
        yield from value.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True)
    elif hasattr(value, "iloc") and hasattr(value, "columns"):
        for start in range(0, max(len(value), 1), ROWS_AT_ONCE):
            yield _from_pandas(value.iloc[start : start + ROWS_AT_ONCE])
    elif hasattr(value, "to_batches") and not hasattr(value, "__next__"):
        for batch in value.to_batches():
            yield pl.DataFrame(batch)
    elif hasattr(value, "read_next_batch"):
        for batch in value:
            yield pl.DataFrame(batch)
    elif hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
        yield pl.DataFrame(value)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        for part in value:
            yield from _batches(part)
    else:
        raise DataError(
            f"expected a path, a frame of Polars, pandas or Arrow, or an iterator of frames, got {type(value).__name__}; convert it"
        )


def _from_pandas(frame: Any) -> pl.DataFrame:
    """The columns of a frame of pandas, without its index; pyarrow is not needed."""
    return pl.DataFrame([_column(str(name), frame[name]) for name in frame.columns])


def _column(name: str, column: Any) -> pl.Series:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufM":
        return pl.Series(name, column.to_numpy())
    gone = column.isna().to_numpy()
    return series(name, [None if missing else value for value, missing in zip(column.tolist(), gone, strict=True)])
