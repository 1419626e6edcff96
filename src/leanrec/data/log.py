"""Read a log of any form in batches of a few columns, each row with its number for messages."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.blocks import Progress, blocks, last_line_end
from leanrec.data.sniff import Layout

BATCH = 1 << 19  # rows of a Parquet file that are read at a time
_WORD = r"[^ \t\r]+"
_CUT = "was the file cut in the middle?"


def read_columns(
    path: Path,
    layout: Layout,
    columns: Mapping[str, str],
    progress: Progress | None = None,
    *,
    lenient: bool = False,
) -> Iterator[pl.DataFrame]:
    """Batches in file order with the asked columns under new names, and "row" (int64, from 1).

    Columns of a text are strings (an empty unquoted field is null); those of a Parquet file keep their type.

    Args:
        columns: New name -> name in the file, for instance {"user": "userId"}.
        progress: Called with (done, total), in bytes for text and in rows for Parquet.
        lenient: Cut off fields that a row has too many, as titles with a stray separator make them.

    Raises:
        DataError: The file is cut, damaged or not of its form.
    """
    if layout.format == "parquet":
        yield from _parquet(path, columns, progress)
        return
    if layout.format in ("csv", "tsv", "inter"):
        yield from _delimited(path, layout, columns, progress, lenient)
        return
    parse = {"jsonl": _json_lines, "pairs": _pairs, "sequences": _sequences, "sessions": _sessions}[layout.format]
    line = 1
    for block in blocks(path, progress=progress):
        yield parse(path, block, line, columns)
        line += block.count(b"\n")


def _delimited(
    path: Path, layout: Layout, columns: Mapping[str, str], progress: Progress | None, lenient: bool
) -> Iterator[pl.DataFrame]:
    header = layout.separator.join(map(str, range(len(layout.columns)))).encode() + b"\n"
    position = {role: layout.columns.index(name) for role, name in columns.items()}
    last = len(layout.columns) - 1  # Polars notices surplus fields only if it reads the last column
    row, skip, block = 1, layout.header, b""
    for block in blocks(path, quoted=layout.quoted, progress=progress):
        while skip and block:  # blank lines may stand before the header
            line, _, block = block.partition(b"\n")
            skip = not line.strip()
        if not block.strip():
            continue
        if block.endswith((b"\n\n", b"\n\r\n")):
            block = block.rstrip(b"\r\n")
        try:
            frame = pl.read_csv(
                header + block,  # a header in every block, so that no row of the log is taken for its shape
                columns=[str(place) for place in sorted({*position.values(), last})],
                separator=layout.separator,
                quote_char='"' if layout.quoted and b'"' in block else None,
                infer_schema=False,
                truncate_ragged_lines=lenient,
            )
        except pl.exceptions.PolarsError as error:
            _blame_row(path, layout, block, row, error)
        yield frame.select(
            *(pl.col(str(place)).alias(role) for role, place in position.items()),
            pl.int_range(row, row + frame.height, dtype=pl.Int64).alias("row"),
        )
        row += frame.height
    if not lenient:
        _check_last(path, layout, block, row - 1)


def _check_last(path: Path, layout: Layout, block: bytes, row: int) -> None:
    block = block.rstrip(b"\r\n")
    if not block or row == 0:
        return
    line = block[last_line_end(block, layout.quoted) :].decode(errors="replace")
    try:
        got = len(next(_reader(line, layout)))
    except csv.Error:  # a field longer than the module reads; Polars has read it
        return
    if got != len(layout.columns):
        raise DataError(f"expected {len(layout.columns)} fields, got {got} in the last row, {row}, of {path}; {_CUT}")


def _reader(text: str, layout: Layout) -> Iterator[list[str]]:
    quoting = csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE
    return csv.reader(io.StringIO(text, newline=""), delimiter=layout.separator, quoting=quoting, strict=True)


def _blame_row(path: Path, layout: Layout, block: bytes, row: int, error: Exception) -> NoReturn:
    """Find the row that Polars refused and say what is wrong with it."""
    text = _decode(path, block, row, "row")
    try:
        for fields in _reader(text, layout):
            if len(fields) > len(layout.columns):
                raise DataError(
                    f"expected {len(layout.columns)} fields, got {len(fields)} in row {row} of {path}; "
                    "quote fields that hold the separator"
                )
            row += 1
    except csv.Error as problem:
        got = "a quote that is not closed" if "end of data" in str(problem) else f"{problem}"
        raise DataError(f"expected whole quoted fields, got {got} from row {row} of {path}; {_CUT}") from None
    reason = str(error).split("\n")[0]
    raise DataError(f"expected {layout.format}, got text that cannot be parsed before row {row} of {path}: {reason}")


def _decode(path: Path, block: bytes, first: int, unit: str) -> str:
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        number = first + block.count(b"\n", 0, error.start)
        byte = block[error.start]
        raise DataError(
            f"expected UTF-8, got byte 0x{byte:02x} in {unit} {number} of {path}; convert the file"
        ) from None


def _words(path: Path, block: bytes, line: int) -> pl.DataFrame:
    lines = _decode(path, block, line, "line").split("\n")
    frame = pl.DataFrame({"words": lines}).select(
        pl.col("words").str.extract_all(_WORD), pl.int_range(line, line + len(lines), dtype=pl.Int64).alias("row")
    )
    return frame.filter(pl.col("words").list.len() > 0)


def _pairs(path: Path, block: bytes, line: int, columns: Mapping[str, str]) -> pl.DataFrame:
    frame = _words(path, block, line)
    wrong = frame.filter(pl.col("words").list.len() != 2)
    if wrong.height:
        got = len(wrong["words"][0])
        raise DataError(f"expected 'user item', got {_count(got)} in line {wrong['row'][0]} of {path}; {_CUT}")
    words = {"user": pl.col("words").list.get(0), "item": pl.col("words").list.get(1)}
    return frame.select(*(words[name].alias(role) for role, name in columns.items()), "row")


def _sequences(path: Path, block: bytes, line: int, columns: Mapping[str, str]) -> pl.DataFrame:
    frame = _words(path, block, line)
    wrong = frame.filter(pl.col("words").list.len() < 2)
    if wrong.height:
        raise DataError(f"expected 'user item item ...', got one word in line {wrong['row'][0]} of {path}; {_CUT}")
    words = {"user": pl.col("words").list.get(0), "item": pl.col("words").list.slice(1)}
    return frame.select(*(words[name].alias(role) for role, name in columns.items()), "row").explode("item")


def _sessions(path: Path, block: bytes, line: int, columns: Mapping[str, str]) -> pl.DataFrame:
    words = {"user": pl.col("row").cast(pl.String), "item": pl.col("words")}
    frame = _words(path, block, line)
    return frame.select(*(words[name].alias(role) for role, name in columns.items()), "row").explode("item")


def _count(words: int) -> str:
    return "one word" if words == 1 else f"{words} words"


_Value = str | int | float | None


def _json_lines(path: Path, block: bytes, line: int, columns: Mapping[str, str]) -> pl.DataFrame:
    fields = [(role, _Value, msgspec.field(name=name, default=None)) for role, name in columns.items()]
    decoder: Any = msgspec.json.Decoder(msgspec.defstruct("Row", fields))
    numbers, rows = [], []
    for number, text in enumerate(block.split(b"\n"), line):
        if not text or text.isspace():
            continue
        try:
            rows.append(decoder.decode(text))
        except msgspec.DecodeError as error:
            raise DataError(f"expected a JSON object, got: {error} in line {number} of {path}; {_CUT}") from None
        except UnicodeDecodeError:
            _decode(path, block, line, "line")
        numbers.append(number)
    data: dict[str, Any] = {role: [_text(getattr(row, role)) for row in rows] for role in columns}
    return pl.DataFrame({**data, "row": numbers}, schema={**dict.fromkeys(columns, pl.String), "row": pl.Int64})


def _text(value: _Value) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _parquet(path: Path, columns: Mapping[str, str], progress: Progress | None) -> Iterator[pl.DataFrame]:
    row = 1
    try:
        scan = pl.scan_parquet(path)
        total = int(scan.select(pl.len()).collect().item())
        query = scan.select(pl.col(name).alias(role) for role, name in columns.items())
        for frame in query.collect_batches(chunk_size=BATCH, maintain_order=True):
            yield frame.with_columns(pl.int_range(row, row + frame.height, dtype=pl.Int64).alias("row"))
            row += frame.height
            if progress:
                progress(row - 1, total)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"expected a whole Parquet file, got: {reason} after row {row - 1} of {path}; {_CUT}") from None
