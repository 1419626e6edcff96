"""Find the form of a log from its content, never from its name.

Rules, in this order, on the first mebibyte of text:
    1. Parquet's magic bytes: ``parquet``.
    2. The first line starts with ``{``: ``jsonl``.
    3. Every field of the first line is ``name:type`` with a type of RecBole: ``inter``.
    4. Split at a tab, comma, semicolon, bar or space, the first line has a user and an item column (named by the
       caller or guessed): ``tsv`` for the tab, else ``csv``.
    5. Every line has two words: ``pairs``.
    6. Words without tabs, commas or semicolons: ``sequences`` if every line has at least two words and all first words
       differ (a user stands on one line), ``sessions`` if not (first words are items, and popular ones repeat).
    7. Otherwise (also if every line is one word) ``tsv`` or ``csv``, in which the columns then have to be named.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.blocks import head, is_gzip
from leanrec.data.columns import guess

FORMATS = ("csv", "tsv", "parquet", "jsonl", "inter", "pairs", "sequences", "sessions")
WORDS = ("pairs", "sequences", "sessions")
LISTED = 5
"""Most files of a directory that an error names."""
SAMPLE = 1 << 20
_SEPARATORS = "\t,;| "
_ATOMIC = re.compile(r"(.+):(token|token_seq|float|float_seq)")


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a log.

    Attributes:
        columns: Names in the order of the file; for JSON-lines those seen in the sample; ("user", "item") for words.
        quoted: Fields may be wrapped in double quotes.
        header: The first line names the columns.
        notes: What was assumed, for the store.
    """

    format: str
    columns: tuple[str, ...] = ("user", "item")
    separator: str = ""
    quoted: bool = False
    header: bool = False
    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What messages count: rows of a table (without its header) or lines of a text."""
        return "line" if self.format in (*WORDS, "jsonl") else "row"


def sniff(path: Path, format: str | None = None, given: Sequence[str | None] = ()) -> Layout:
    """Find out how to read a log.

    Args:
        format: One of ``FORMATS``, when the caller knows better.
        given: Column names that the caller will ask for. If all are numbers that the first line does not have, the file
            has no header and they are positions, counted from 1.

    Raises:
        DataError: The file is missing, empty, binary or not what ``format`` says.
    """
    if format is not None and format not in FORMATS:
        raise DataError(f"expected one of the formats {', '.join(FORMATS)}, got {format!r}")
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.is_file())
        advice = f"name one of its files: {', '.join(inside[:LISTED])}" if inside else "check the path"
        raise DataError(f"expected a log, got a directory at {path}; {advice}")
    if not path.is_file():
        raise DataError(f"expected a log, got no file at {path}; check the path")
    first, whole = head(path, SAMPLE)
    if not first.strip():
        raise DataError(f"expected an interaction log, got the empty file {path}")
    if first.startswith(b"PAR1"):
        return _parquet(path, format)
    if b"\0" in first:
        raise DataError(f"expected text in UTF-8 or a Parquet file, got binary data in {path}; unpack or convert it")
    lines = first.decode("utf-8", "replace").split("\n")
    lines = [line.rstrip("\r") for line in (lines if whole or len(lines) == 1 else lines[:-1])]
    lines = [line for line in lines if line.strip()]
    wanted = [name for name in given if name is not None]
    found = format or _guess_format(lines, wanted)
    if found == "parquet":
        raise DataError(f"expected a Parquet file, got text in {path}; leave the format to be found")
    if found == "jsonl":
        return _json_lines(path, lines)
    if found in WORDS:
        return Layout(found, notes=() if format else _word_notes(found, len(lines)))
    return _table(path, found, lines, wanted)


def _guess_format(lines: list[str], wanted: list[str]) -> str:
    start = lines[0].lstrip()
    if start.startswith(("{", "[{")):
        return "jsonl"
    if all(_ATOMIC.fullmatch(field) for field in lines[0].split("\t")):
        return "inter"
    separator = _separator(lines[0], wanted)
    if separator:
        return "tsv" if separator == "\t" else "csv"
    words = [line.split() for line in lines]
    if all(len(line) == 2 for line in words):
        return "pairs"
    if any(mark in lines[0] for mark in "\t,;|") or all(len(line) == 1 for line in words):
        return "tsv" if "\t" in lines[0] else "csv"
    one_user_a_line = len({line[0] for line in words}) == len(words) and all(len(line) > 1 for line in words)
    return "sequences" if one_user_a_line else "sessions"


def _word_notes(format: str, lines: int) -> tuple[str, ...]:
    saw = {
        "pairs": "two words on every line were taken for 'user item' in time order",
        "sequences": "the first word of a line was taken for the user because it differs on every line; "
        "if it is an item, import with the format 'sessions'",
        "sessions": "a line was taken for a session without a user because first words repeat or stand alone; "
        "if they are users, import with the format 'sequences'",
    }[format]
    return (f"format {format} found from {lines} lines: {saw}",)


def _separator(line: str, wanted: list[str]) -> str | None:
    """The character that splits a header line into a user and an item column, if there is one."""
    for separator in _SEPARATORS:
        names = _fields(line, separator, True)
        if len(names) < 2:
            continue
        if (wanted and set(wanted) <= set(names)) or (guess("user", names) and guess("item", names)):
            return separator
    return None


def _fields(line: str, separator: str, quoted: bool) -> list[str]:
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    return next(csv.reader([line], delimiter=separator, quoting=quoting))


def _table(path: Path, format: str, lines: list[str], wanted: list[str]) -> Layout:
    if format == "inter":
        names = [_ATOMIC.fullmatch(field) for field in lines[0].split("\t")]
        if not all(names):
            raise DataError(f"expected a header such as 'user_id:token<tab>item_id:token', got {lines[0]!r} in {path}")
        return Layout("inter", tuple(name[1] for name in names if name), "\t", header=True)
    separator = "\t" if format == "tsv" else _separator(lines[0], wanted) or _likely_separator(lines[0])
    quoted = format == "csv" or any(
        len(field) > 1 and field[0] == field[-1] == '"' for line in lines for field in line.split("\t")
    )
    names = _fields(lines[0], separator, quoted)
    numbers = bool(wanted) and all(name.isdecimal() for name in wanted) and not set(wanted) <= set(names)
    if numbers:
        names = [str(position + 1) for position in range(len(names))]
    return Layout(format, tuple(names), separator, quoted, header=not numbers)


def _likely_separator(line: str) -> str:
    return max(",;| ", key=line.count)


def _json_lines(path: Path, lines: list[str]) -> Layout:
    if lines[0].lstrip().startswith("["):
        raise DataError(f"expected one JSON object a line, got a JSON array in {path}; write one object a line")
    names: dict[str, None] = {}
    for line in lines[:100]:
        try:
            names.update(dict.fromkeys(msgspec.json.decode(line, type=dict)))
        except msgspec.DecodeError:
            break  # the reader names the line
    return Layout("jsonl", tuple(names))


def _parquet(path: Path, format: str | None) -> Layout:
    if format not in (None, "parquet"):
        raise DataError(f"expected the format {format!r}, got a Parquet file at {path}; leave the format to be found")
    if is_gzip(path):
        raise DataError(f"expected a plain Parquet file, got a gzip-compressed one at {path}; unpack it first")
    try:
        return Layout("parquet", tuple(pl.read_parquet_schema(path)))
    except (pl.exceptions.PolarsError, OSError):
        raise DataError(
            f"expected a whole Parquet file, got one cut in the middle (no footer after its last row) at {path}; "
            "copy it again"
        ) from None
