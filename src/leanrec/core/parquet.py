"""How large a Parquet file gets once it is read: the bytes of its pages, unpacked.

A file of a few KB may unpack to gigabytes. Its footer and the headers in front of its pages say how much it is; the latter are what
a reader allocates. Both are Thrift messages in the compact protocol, of which only what is needed is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import polars as pl

MAGIC = b"PAR1"
LARGEST_FOOTER = 16 * 2**20
PAGE_HEADER = 2**16
"""Bytes within which a header of a page ends; statistics with long keys make it large."""
USUAL, A_ROW = 2**20, 4096
"""Bytes that a table may have at least, and more a row."""


def check_size(path: Path, rows: int) -> None:
    """Refuse a table that unpacks to far more than so many rows have.

    Raises:
        ValueError: Says what was expected.
        OSError: It cannot be read.
    """
    unpacked = unpacked_bytes(path)
    if unpacked > most_bytes(rows):
        raise ValueError(f"expected at most {most_bytes(rows)} bytes unpacked of {rows} rows, got {unpacked}")


def check_text(frame: pl.DataFrame) -> None:
    """Refuse a table with far longer texts than so many rows have: a page may hold one text once that stands in all rows.

    Raises:
        ValueError: Says what was expected.
    """
    text = sum(int(frame[name].str.len_bytes().sum()) for name, kind in frame.schema.items() if kind == pl.String)
    if text > most_bytes(frame.height):
        raise ValueError(
            f"expected at most {most_bytes(frame.height)} bytes of text in {frame.height} rows, got {text}"
        )


def most_bytes(rows: int) -> int:
    """Bytes that so many rows may have."""
    return USUAL + A_ROW * rows


def unpacked_bytes(path: Path) -> int:
    """Bytes of all pages of a file once they are unpacked.

    Raises:
        ValueError: It is no whole Parquet file.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or length > min(size - 8, LARGEST_FOOTER):
            raise ValueError("expected Parquet, got other bytes or a part of it")
        file.seek(size - 8 - length)
        footer, _ = _Thrift(file.read(length)).struct()
        groups, unpacked = footer.get(4, []), 0
        if not isinstance(groups, list):
            raise ValueError("expected the footer of Parquet, got another")
        for meta in _columns(cast(list[Any], groups)):
            first = min(at for at in (meta.get(9), meta.get(11)) if isinstance(at, int) and at > 0)
            left, at = meta.get(7), first
            if not isinstance(left, int) or not 0 <= left <= size - first:
                raise ValueError("expected pages inside the file, got some outside")
            while left > 0:
                file.seek(at)
                page, used = _Thrift(file.read(min(PAGE_HEADER, left))).struct()
                whole, packed = page.get(2), page.get(3)
                if not isinstance(whole, int) or not isinstance(packed, int) or whole < 0 or packed < 0:
                    raise ValueError("expected the sizes of a page, got none")
                unpacked += whole
                at, left = at + used + packed, left - used - packed
            if left < 0:
                raise ValueError("expected pages inside their column, got a longer one")
    return unpacked


def _columns(groups: list[Any]) -> Iterator[dict[int, Any]]:
    """The description of every column of every group of rows."""
    for group in groups:
        for column in _fields(group).get(1, []):
            meta = _fields(_fields(column).get(3))
            if not any(isinstance(meta.get(place), int) and meta[place] > 0 for place in (9, 11)):
                raise ValueError("expected columns inside the file, got some elsewhere")
            yield meta


def _fields(message: Any) -> dict[int, Any]:
    if not isinstance(message, dict):
        raise ValueError("expected the footer of Parquet, got another")
    return cast(dict[int, Any], message)


class _Thrift:
    """Reads one message; fields by number, numbers as int, text as bytes."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at, self.things = raw, 0, 0

    def struct(self, depth: int = 0) -> tuple[dict[int, Any], int]:
        """A message, and how many bytes it had."""
        self.things += 1
        if depth > 16 or self.things > 2**20:
            raise ValueError("expected a message of usual size, got a deeper or longer one")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._signed()
            fields[number] = self._value(head & 15, depth)
        return fields, self.at

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            return self._take(8)
        if kind == 8:
            return self._take(self._unsigned())
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 != 15 else self._unsigned()
            if count > len(self.raw):
                raise ValueError("expected a list inside the message, got a longer one")
            return [
                self._byte() == 1 if head & 15 in (1, 2) else self._value(head & 15, depth + 1) for _ in range(count)
            ]
        if kind == 12:
            return self.struct(depth + 1)[0]
        raise ValueError("expected a message of Parquet, got another")

    def _byte(self) -> int:
        if self.at >= len(self.raw):
            raise ValueError("expected a whole message, got part of one")
        self.at += 1
        return self.raw[self.at - 1]

    def _take(self, count: int) -> bytes:
        if count > len(self.raw) - self.at:
            raise ValueError("expected a whole message, got part of one")
        self.at += count
        return self.raw[self.at - count : self.at]

    def _unsigned(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("expected a number, got a longer one")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
