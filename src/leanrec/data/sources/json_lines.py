"""JSON-lines: one object a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.blocks import CUT, blocks, decode
from leanrec.data.progress import OnProgress
from leanrec.data.source import Source
from leanrec.data.sources import sources

_LOOKED_AT = 100
"""Lines whose fields are taken for the columns."""
_Value = str | int | float | None


@sources.register("jsonl")
class JsonLines(Source):
    """One JSON object a line; its fields are the columns."""

    unit = "line"

    def sure(self) -> int:
        return 90 if self.log.lines and self.log.lines[0].lstrip().startswith(("{", "[{")) else 0

    def open(self) -> None:
        lines = self.log.text()
        if lines[0].lstrip().startswith("["):
            raise DataError(
                f"expected one JSON object a line, got a JSON array in {self.log.path}; write one object a line"
            )
        names: dict[str, None] = {}
        for line in lines[:_LOOKED_AT]:
            try:
                names.update(dict.fromkeys(msgspec.json.decode(line, type=dict)))
            except msgspec.DecodeError:
                break  # `frames` names the line
        self.columns = tuple(names)

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        fields = [(role, _Value, msgspec.field(name=name, default=None)) for role, name in columns.items()]
        decoder: Any = msgspec.json.Decoder(msgspec.defstruct("Row", fields))
        line = 1
        for block in blocks(self.log.path, progress=progress):
            yield self._parsed(block, line, list(columns), decoder)
            line += block.count(b"\n")

    def _parsed(self, block: bytes, first: int, roles: list[str], decoder: Any) -> pl.DataFrame:
        numbers, rows = [], []
        for number, text in enumerate(block.split(b"\n"), first):
            if not text or text.isspace():
                continue
            try:
                rows.append(decoder.decode(text))
            except msgspec.DecodeError as error:
                raise DataError(
                    f"expected a JSON object, got: {error} in line {number} of {self.log.path}; {CUT}"
                ) from None
            except UnicodeDecodeError:
                decode(self.log.path, block, first, "line")
            numbers.append(number)
        data: dict[str, Any] = {role: [_text(getattr(row, role)) for row in rows] for role in roles}
        return pl.DataFrame({**data, "row": numbers}, schema={**dict.fromkeys(roles, pl.String), "row": pl.Int64})


def _text(value: _Value) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
