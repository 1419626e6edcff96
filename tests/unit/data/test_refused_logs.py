"""What cannot be read, or may be several things, is refused with the cause and the way out."""

from __future__ import annotations

import bz2
import lzma
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from leanrec.core.errors import DataError
from unit.data.logs import CSV, HEADERLESS, TABLE, lines, read, zipped

REFUSED: dict[str, tuple[str | bytes | pl.DataFrame, dict[str, Any], str]] = {
    "triples": (
        lines("{u} {i} {t}"),
        {},
        r"got a table of 3 columns with blanks in between, or lists of one length, in .*log; for the table say --format csv "
        r"--user 1 --item 2 --time 3, for lists --format sequences \(the first word is the user\) or --format sessions",
    ),
    "triples with a header": (
        "uid mid when\n" + lines("{u} {i} {t}"),
        {},
        r"for the table say --format csv --user uid --item mid, for lists",
    ),
    "numbers with a fraction": (
        "1 2.5\n2 3 4\n",
        {},
        r"got words such as '2\.5', which are rarely ids, in .*log; name the --format",
    ),
    "LibSVM": ("1 3:1 5:1\n2 4:1\n", {}, r"got words such as '3:1', which are rarely ids"),
    "assignments": ("user=1 item=2\nuser=2 item=3 at=4\n", {}, r"got words such as 'user=1', which are rarely ids"),
    "prose": ("It was late. Then it rained\nNobody came\n", {}, r"got words such as 'late\.', which are rarely ids"),
    "comments in between": (
        "1 2 3\n# later\n2 3\n",
        {},
        r"got a comment, '# later', between the lines of .*; remove such lines",
    ),
    "an array": (
        '[{"user": 1}]',
        {},
        r"got a JSON array in .*log; write one object a line, for instance with jq -c '\.\[\]'",
    ),
    "a pretty array": ('[\n {\n  "user": 1\n }\n]\n', {}, r"got a JSON array in .*log; write one object a line"),
    "a pretty object": (
        '{\n  "user": 1\n}\n',
        {},
        r"expected one JSON object a line, got one over several lines in .*log; write each",
    ),
    "ARFF": (
        "% made\n@relation log\n@attribute user numeric\n@data\n1,2\n",
        {},
        r"got an ARFF file in .*log; remove the lines up to",
    ),
    "MatrixMarket": (
        "%%MatrixMarket matrix\n3 3 1\n1 2 5\n",
        {},
        r"got a MatrixMarket file in .*log; remove its first lines",
    ),
    "an access log": (
        '1.2.3.4 - - [10/Oct/2020:13:55:36 +0000] "GET / HTTP/1.0" 200 2326\n' * 3,
        {},
        r"got the access log of a web server in .*log",
    ),
    "XML": ("<?xml version='1.0'?>\n<log/>\n", {}, r"got XML or HTML in .*log; write a table of user, item and time"),
    "SQL": ("INSERT INTO log VALUES (1, 2);\n", {}, r"got SQL in .*log; load it into a database"),
    "Python": (
        "{'user': 1, 'item': 2}\n",
        {},
        r"got Python dictionaries in .*log; write them as JSON, one object a line",
    ),
    "double colons without positions": (
        lines("{u}::{i}::{t}"),
        {},
        r"its first line, separated by '::', looks like data: give positions, --user 1 --item 2 --time 3",
    ),
    "no header": (
        lines("{u},{i},{t}"),
        {},
        r"expected a user column, got the columns .*looks like data: give positions, --user 1 --item 2 --time 3",
    ),
    "positions above a header": (
        CSV,
        HEADERLESS,
        r"expected --header or --no-header with positions, got a first line that looks like a header, 'user,item,time'",
    ),
    "row names": (
        "user,item,time\n" + lines("0,{u},{i},{t}"),
        {},
        r"expected a header of 4 names, as all rows have fields, got 3 in .*log",
    ),
    "a backslash": (
        CSV + '1,"a \\" b, c",5\n',
        {},
        r'expected quotes inside of fields to be doubled, got \\" around row \d+ of .*; write ""',
    ),
    "a stray quote": (
        CSV + '1,12" disc,5\n',
        {},
        r'text that cannot be parsed before row \d+ of .*: a quote inside of the field \'12" disc\'; wrap such',
    ),
    "a field too many between blanks": (
        lines("{u}   {i}  {t}") + "1 2 3 4\n",
        {"format": "csv", **HEADERLESS},
        r"expected 3 fields, got 4 in row 73 of .*log; quote fields that hold the separator",
    ),
    "a field too many between double colons": (
        lines("{u}::{i}::{t}") * 2 + "1::2::3::4\n",
        HEADERLESS,
        r"expected 3 fields, got 4 in row 145 of .*log; quote fields that hold the separator",
    ),
    r"\N": (
        CSV.replace("\n1,", "\n\\N,"),
        {},
        r"expected a user id, got '\\\\N' in row 1, column 'user' of .*with --missing drop",
    ),
    "None": (CSV.replace("\n1,", "\nNone,"), {}, r"expected a user id, got 'None' in row 1, column 'user'"),
    "NA": (CSV.replace("\n1,", "\nNA,"), {}, r"expected a user id, got 'NA' in row 1, column 'user'"),
    "day or month": (
        "user,item,time\n1,2,10/3/2020 12:43\n",
        {},
        r"got '10/3/2020 12:43' in row 1, column 'time' of .*; say --time-format '%d/%m/%Y %H:%M' if the day is first, "
        r"'%m/%d/%Y %H:%M' if the month is",
    ),
    "day or month, short": ("user,item,time\n1,2,3.10.20\n", {}, r"say --time-format '%d\.%m\.%y' if the day is first"),
    "another time format": (
        CSV,
        {"time_format": "%d.%m.%Y"},
        r"expected a time of the form '%d\.%m\.%Y', got '\d+' in row 1, column 'time' of",
    ),
    "a time zone": (
        CSV,
        {"timezone": "Mars"},
        r"expected a time zone such as Europe/Berlin, got 'Mars'; correct --timezone",
    ),
    "an encoding": (
        CSV,
        {"encoding": "klingon"},
        r"expected an encoding such as utf-8, cp1251 or latin-1, got 'klingon'; correct it",
    ),
    "an encoding of bytes": (CSV, {"encoding": "hex"}, r"expected an encoding such as utf-8"),
    "another encoding": (
        "user,item\n\u00e9,1\n".encode("latin-1"),
        {"encoding": "ascii"},
        r"expected text in ascii, got other bytes",
    ),
    "Cyrillic": (
        "user,item\n\u0427\u0435\u043b\u043e\u0432\u0435\u043a,1\n".encode("cp1251"),
        {},
        r"expected UTF-8, got byte 0xd7 in row 1 of .*; convert the file, or name its --encoding, for instance cp1251",
    ),
    "time of day": (
        TABLE.with_columns(time=pl.lit(time(12, 0))),
        {},
        r"got Time in column 'time' of .*; a time of day has no date; name another column",
    ),
    "duration": (
        TABLE.with_columns(time=pl.lit(timedelta(1))),
        {},
        r"expected numbers, dates or text as times, got Duration.* in column 'time' of",
    ),
    "boolean times": (
        TABLE.with_columns(time=pl.lit(True)),
        {},
        r"expected numbers, dates or text as times, got Boolean in column 'time'",
    ),
    "boolean ids": (
        TABLE.with_columns(item=pl.lit(True)),
        {},
        r"expected text or numbers as item ids, got Boolean in column 'item' of .*; name another",
    ),
    "dates as ids": (
        TABLE.with_columns(user=pl.lit(datetime(2020, 1, 1))),
        {},
        r"expected text or numbers as user ids, got Datetime.* in column 'user'",
    ),
    "bytes as ids": (
        TABLE.with_columns(user=pl.lit(b"\xff")),
        {},
        r"expected text or numbers as user ids, got bytes that are no text in column 'user'",
    ),
    "lists of users": (
        TABLE.group_by("item").agg("user"),
        {},
        r"expected lists of items, or none, got List\(Int64\) in column 'user', the users, of",
    ),
    "lists of times": (
        TABLE.group_by("user", "item").agg("time"),
        {},
        r"expected lists of items, or none, got List\(Int64\) in column 'time', the times",
    ),
    "uneven lists": (
        pl.DataFrame({"user": [1, 2], "item": [[1, 2, 3], [4]], "time": [[1, 2, 3], [4, 5]]}),
        {},
        r"expected as many times as items, got 2 and 1 in row 2 of",
    ),
    "structs": (
        TABLE.select(pl.struct(a="user", b="user").alias("user"), "item"),
        {},
        r"expected a user column, got the columns user\.a, user\.b, item in",
    ),
    "objects": (
        '{"user": 1, "item": 2}\n{"user": {"a": 1}, "item": 2}\n',
        {},
        r"expected text, a number or null, got an object in line 2, field 'user' of .*log; name a field inside of it: user\.a",
    ),
    "true in JSON": (
        '{"user": true, "item": 2}\n',
        {},
        r"got true or false in line 1, field 'user' of .*log; name another field",
    ),
    "lists and none": (
        '{"user": 1, "item": [2]}\n{"user": 1, "item": 2}\n',
        {},
        r"expected lists in all lines or in none, got a number in line 2, field 'item' of .*log; write lists of one",
    ),
    "Excel": (
        zipped({"xl/workbook.xml": "x"}),
        {},
        r"expected a log, got an Excel workbook at .*; save its sheet as CSV",
    ),
    "two files in a zip": (
        zipped({"a.csv": CSV, "b.csv": CSV}),
        {},
        r"expected a zip archive of one file, got one of 2 at .*log: a\.csv, b\.csv; unpack it first",
    ),
    "SQLite": (
        b"SQLite format 3\0",
        {},
        r"got a SQLite database \(read it with --query SQL --database sqlite:///FILE\)",
    ),
    "Avro": (
        b"Obj\x01\0",
        {},
        r"expected text or a Parquet or Arrow file, got an Avro file in .*log; unpack or convert it",
    ),
    "an Arrow stream": (b"\xff\xff\xff\xff\0", {}, r"got an Arrow stream in"),
    "a cut xz": (
        lzma.compress(CSV.encode())[:90],
        {},
        r"expected a whole xz file, got one cut in the middle after line \d+ of .*log",
    ),
    "a cut bzip2": (
        bz2.compress(CSV.encode())[:90],
        {},
        r"expected a whole bzip2 file, got one cut in the middle after line \d+ of",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_cause(tmp_path: Path, case: str) -> None:
    content, options, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, content, **options)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
