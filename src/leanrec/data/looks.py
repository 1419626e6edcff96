"""What a file looks like that is no log, or not certainly one; what is found is told, with the options that would read it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from leanrec.data.columns import guess

BINARY = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"FEA1": "a Feather file of version 1",
    b"\xff\xff\xff\xff": "an Arrow stream",
    b"SQLite format 3\0": "a SQLite database (read it with --query SQL --database sqlite:///FILE)",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"%PDF": "a PDF document",
    b"\x80\x04\x95": "a Python pickle",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old form",
}
"""First bytes of files that are no text -> what they are."""
_WORDS = (b"ORC", b"FEA1", b"Rar!", b"Obj\x01")
"""Those that a text can begin with; it has no zero bytes."""
_SAMPLE = 1000
"""Lines that are looked at."""
_ACCESS = re.compile(r'\S+ \S+ \S+ \[[^\]]+\] "')
_ODD = re.compile(r"""[="'(){}<>\[\]]|[,;:.]$|^\d+:\d|^-?\d+\.\d*[1-9]\d*$""")
"""In words that are rarely ids: punctuation of sentences and of code, pairs with a colon, numbers with a fraction."""
_TIME = re.compile(r"1\d{9}(\d{3}){0,3}(\.\d+)?|(19|20)\d\d-\d\d?-\d\d?([ T].*)?")
_LISTS = "for lists --format sequences (the first word is the user) or --format sessions"


def binary(start: bytes) -> str:
    """What a file of other than text is, by its first bytes; empty if they say nothing."""
    found = next((magic for magic in BINARY if start.startswith(magic)), None)
    return BINARY[found] if found and (found not in _WORDS or b"\0" in start) else ""


def no_log(lines: Sequence[str]) -> str:
    """What a text is that holds no events as we read them, and what to do, with "{at}" for its name; else empty."""
    first = lines[0].lstrip().lower() if lines else ""
    sample = lines[:_SAMPLE]
    if first.startswith("%%matrixmarket"):
        return "a MatrixMarket file in {at}; remove its first lines, then --format csv --user 1 --item 2 reads the rest"
    if first.startswith(("@relation", "%")) and any(line.lower().startswith("@attribute") for line in sample):
        return "an ARFF file in {at}; remove the lines up to @data, then give positions such as --user 1 --item 2"
    if re.match(r"<[?!a-z][^<]*>", first):
        return "XML or HTML in {at}; write a table of user, item and time"
    if first.startswith(("insert into", "create table", "-- ", "begin transaction", "pragma ")):
        return "SQL in {at}; load it into a database and read that with --query and --database"
    if sample and all(map(_ACCESS.match, sample)):
        return "the access log of a web server in {at}; write a table of user, item and time from it"
    if sample and all(line.startswith("{'") and line.rstrip().endswith("}") for line in sample):
        return "Python dictionaries in {at}; write them as JSON, one object a line"
    if re.match(r"\[\s*$|\[\s*[\[{]", first):
        return "a JSON array in {at}; write one object a line, for instance with jq -c '.[]'"
    return ""


def not_surely_words(lines: Sequence[str]) -> str:
    """What lines of words may be that are not certainly events, and what to do, with "{at}" for its name; else empty."""
    sample = lines[:_SAMPLE]
    comment = next((line for line in sample if line.startswith("# ")), None)
    if comment is not None:
        return f"a comment, {_shown(comment)}, between the lines of {{at}}; remove such lines, or name the --format"
    rows = [line.split() for line in sample]
    odd = next((word for row in rows for word in row if _ODD.search(word)), None)
    widths = {len(row) for row in rows}
    if len(rows) > 1 and len(widths) == 1 and widths != {1} and (odd is not None or widths != {2}):
        table = f"a table of {widths.pop()} columns with blanks in between, or lists of one length, in {{at}}"
        return f"{table}; for the table say --format csv {options(rows)}, {_LISTS}"
    if odd is not None:
        return f"words such as {_shown(odd)}, which are rarely ids, in {{at}}; name the --format (pairs, sequences or sessions)"
    return ""


def is_header(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether the first row of a text names columns: it has no digit where all other rows have some."""
    if len(rest) < 2 or any(_digit(field) or not field.strip() for field in first):
        return False
    numbers = any(all(len(row) > place and _digit(row[place]) for row in rest) for place in range(len(first)))
    return numbers and (len(rest) >= 5 or any(guess(role, first) is not None for role in ("user", "item")))


def is_data(first: Sequence[str]) -> bool:
    """Whether the first row of a table can hardly name its columns."""
    return sum(map(_digit, first)) > len(first) / 2 or len(set(first)) < len(first)


def options(rows: Sequence[Sequence[str]]) -> str:
    """The options that read a table: names of a header, or else the first two columns, and a third that looks like times."""
    if is_header(rows[0], rows[1:]):
        names = [guess("user", rows[0]) or rows[0][0], guess("item", rows[0]) or rows[0][1]]
        time = guess("time", rows[0])
        return f"--user {names[0]} --item {names[1]}" + (f" --time {time}" if time else "")
    sample = [row for row in rows if len(row) == len(rows[0])]
    times = (place for place in range(2, len(rows[0])) if all(_TIME.fullmatch(row[place]) for row in sample))
    time = next(times, None)
    return "--user 1 --item 2" + (f" --time {time + 1}" if time is not None else "")


def _digit(field: str) -> bool:
    return any(c.isdigit() for c in field)


def _shown(text: str) -> str:
    """A short piece of a text, that may stand in a message."""
    return repr(text[:40]).replace("{", "{{").replace("}", "}}")
