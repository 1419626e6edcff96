"""JSON-lines: one object a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import msgspec
import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.blocks import CUT, blocks, decode
from leanrec.data.progress import OnProgress
from leanrec.data.source import Source
from leanrec.data.sources import sources
from leanrec.data.tables import leaves

_LOOKED_AT = 100
"""Lines whose fields are taken for the columns."""
_Scalar = str | int | float | None
_Value = _Scalar | list[_Scalar]
_KINDS = {dict: "an object", list: "a list", bool: "true or false", str: "text", int: "a number", float: "a number"}


@sources.register("jsonl")
class JsonLines(Source):
    """One JSON object a line; its fields are the columns."""

    unit = "line"
    file_form = True

    def sure(self) -> int:
        return 90 if self.log.lines and self.log.lines[0].lstrip().startswith("{") and not self.log.foreign else 0

    def open(self) -> None:
        lines = self.log.text()
        if lines[0].lstrip().startswith("["):
            raise DataError(
                f"expected one JSON object a line, got a JSON array in {self.log.path}; write one object a line"
            )
        self.paths: dict[str, tuple[str, ...]] = {}
        for line in lines[:_LOOKED_AT]:
            try:
                for path in leaves(msgspec.json.decode(line, type=dict)):
                    self.paths.setdefault(".".join(path), path)
            except msgspec.DecodeError:
                break  # `frames` names the line
        if not self.paths and len(lines) > 1 and _starts_object(lines):
            raise DataError(
                f"expected one JSON object a line, got one over several lines in {self.log.path}; "
                "write each on a line of its own, for instance with jq -c ."
            )
        self.columns = tuple(self.paths)

    def notes(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        return (*super().notes(columns), *self.log.script.notes)

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        paths = {role: self.paths.get(name, (name,)) for role, name in columns.items()}
        tops = {path[0]: _Value if len(path) == 1 else dict[str, Any] | None for path in paths.values()}
        attributes = {top: f"f{place}" for place, top in enumerate(tops)}
        fields = [(attributes[top], kind, msgspec.field(name=top, default=None)) for top, kind in tops.items()]
        decoder: Any = msgspec.json.Decoder(msgspec.defstruct("Row", fields))
        places = {role: (attributes[path[0]], path) for role, path in paths.items()}
        line = 1
        for block in blocks(self.log.path, script=self.log.script, progress=progress):
            yield self._parsed(block, line, places, decoder)
            line += block.count(b"\n")

    def _parsed(
        self, block: bytes, first: int, places: Mapping[str, tuple[str, Sequence[str]]], decoder: Any
    ) -> pl.DataFrame:
        numbers, rows = [], []
        for number, text in enumerate(block.split(b"\n"), first):
            if not text or text.isspace():
                continue
            try:
                rows.append(decoder.decode(text))
            except msgspec.ValidationError as error:
                self._refuse_value(error, text, number)
            except msgspec.DecodeError as error:
                raise DataError(
                    f"expected a JSON object, got: {error} in line {number} of {self.log.path}; {CUT}"
                ) from None
            except UnicodeDecodeError:
                decode(self.log.path, block, first, "line")
            numbers.append(number)
        data = []
        for role, (attribute, path) in places.items():
            data.append(self._column(role, path, [getattr(row, attribute) for row in rows], numbers))
        return pl.DataFrame([*data, pl.Series("row", numbers, pl.Int64)])

    def _column(self, role: str, path: Sequence[str], values: list[Any], numbers: list[int]) -> pl.Series:
        for depth, name in enumerate(path[1:], 2):
            for place, value in enumerate(values):
                values[place] = value.get(name) if isinstance(value, dict) else None
                if isinstance(values[place], dict | bool) and depth == len(path):
                    self._refuse_kind(".".join(path), values[place], numbers[place])
        if not any(isinstance(value, list) for value in values):
            return pl.Series(role, [_text(value) for value in values], pl.String)
        for place, value in enumerate(values):
            if value is not None and not isinstance(value, list):
                raise DataError(
                    f"expected lists in all lines or in none, got {_KINDS.get(type(value), 'a value')} in line {numbers[place]}, "
                    f"field {'.'.join(path)!r} of {self.log.path}; write lists of one"
                )
        return pl.Series(role, [value and [_text(one) for one in value] for value in values], pl.List(pl.String))

    def _refuse_value(self, error: Exception, text: bytes, number: int) -> NoReturn:
        """Say which field of a line has a value that is none of an event."""
        try:
            line = msgspec.json.decode(text)
        except msgspec.DecodeError:  # further on
            line = None
        name = str(error).partition("`$.")[2].partition("`")[0].partition("[")[0]
        if isinstance(line, dict) and isinstance(line.get(name), dict | bool):
            self._refuse_kind(name, line[name], number)
        raise DataError(f"expected a JSON object, got: {error} in line {number} of {self.log.path}; {CUT}") from None

    def _refuse_kind(self, name: str, value: object, number: int) -> NoReturn:
        inner = [f"{name}.{key}" for key in value] if isinstance(value, dict) else []
        advice = f"name a field inside of it: {', '.join(inner[:5])}" if inner else "name another field"
        raise DataError(
            f"expected text, a number or null, got {_KINDS[type(value)]} in line {number}, field {name!r} of "
            f"{self.log.path}; {advice}"
        ) from None


def _starts_object(lines: Sequence[str]) -> bool:
    try:
        msgspec.json.decode(lines[0])
    except msgspec.DecodeError as error:
        return "truncated" in str(error) and not lines[1].lstrip().startswith("{")
    return False


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
