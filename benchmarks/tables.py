"""Write tables, single values and pictures into documents, between markers, from the rows.

<!-- table NAME -->            benchmarks/tables/NAME.toml
<!-- /table -->

... reaches <!-- value NAME -->.1810<!-- /value --> ...        [NAME] in benchmarks/tables/values.toml

<!-- picture NAME -->          benchmarks/pictures/NAME.toml
<!-- /picture -->

<!-- repeated all -->          what was measured twice, by benchmarks/repeated.py
<!-- /repeated -->
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from benchmarks import pictures, repeated
from benchmarks.query import Rows, converted
from benchmarks.rows import newest
from leanrec.config import read_toml
from leanrec.core.errors import ConfigError, one_line
from leanrec.core.registry import did_you_mean
from leanrec.core.writing import written

SPECS = Path(__file__).parent / "tables"
VALUES = "values"
DOCUMENTS = (
    "README.md",
    "benchmarks/README.md",
    "docs/**/*.md",
    "src/leanrec/techniques/*/card.md",
    "src/leanrec/backbones/*/card.md",
)
MARKED = re.compile(r"<!-- (table|value|picture|repeated) ([\w.-]+) -->(.*?)<!-- /\1 -->", re.DOTALL)
OPEN = re.compile(r"<!-- /?(table|value|picture|repeated)\b[^>]*-->")


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of a table.

    Attributes:
        cells: Its first ones, which hold text.
        of: Keys of `query.Query` that its figures have.
        but: Head of a column -> other keys there.
    """

    cells: list[str]
    of: dict[str, Any] = {}
    but: dict[str, dict[str, Any]] = {}


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A column of figures.

    Attributes:
        head: Above it.
        of: Keys of `query.Query` that its figures have; "*" in a variant or metric is the variant of the line.
    """

    head: str
    of: dict[str, Any]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table.

    Attributes:
        heads: Of the first columns, which hold text.
        rows: Lines, from top to bottom.
        columns: Of figures, from left to right.
        of: Keys of `query.Query` that all figures have, where neither line nor column says otherwise; a column has the last word.
        caption: A line below it.
    """

    heads: list[str]
    rows: list[Line]
    columns: list[Column]
    of: dict[str, Any] = {}
    caption: str = ""


def update(frame: pl.DataFrame, root: Path, write: bool = True, specs: Path = SPECS) -> list[str]:
    """Bring all documents in line with the rows.

    Args:
        frame: All rows, in the order in which they came.
        root: Of the documents.
        write: Whether to write them, or only to compare.
        specs: Folder of the tables.

    Returns:
        A line for each file that differed: its name, and the first line that did.

    Raises:
        ConfigError: A document names a table or value that there is not, or one is not usable.
    """
    again, rows, changed = repeated.table(frame), Rows(newest(frame)), list[str]()
    for path in documents(root):
        old, name = path.read_text("utf-8"), str(path.relative_to(root))
        new, files = rendered(old, name, rows, specs, root, again)
        for made, text in [(path, new), *files.items()]:
            before = made.read_text("utf-8") if made.exists() else ""
            if before != text:
                changed.append(f"{made.relative_to(root)}{_first_difference(before, text)}")
                if write:
                    with written(made) as there:
                        there.write_text(text, encoding="utf-8")
    return changed


def documents(root: Path) -> Iterator[Path]:
    """What may have markers."""
    for pattern in DOCUMENTS:
        yield from sorted(root.glob(pattern))


def rendered(text: str, name: str, rows: Rows, specs: Path, root: Path, again: str = "") -> tuple[str, dict[Path, str]]:
    """A document with its markers filled, and the pictures that belong to it.

    Raises:
        ConfigError: A marker is not closed, or names what there is not.
    """
    files: dict[Path, str] = {}

    def fill(match: re.Match[str]) -> str:
        kind, what, _ = match.groups()
        where = f"{name}, {kind} {what}"
        if kind == "table":
            inner = f"\n\n{table(what, rows, specs)}\n\n"
        elif kind == "value":
            inner = value(what, rows, specs, where)
        elif kind == "repeated":
            inner = f"\n\n{again}\n\n"
        else:
            inner, more = pictures.picture(what, rows, root / name, root)
            files.update(more)
        return f"<!-- {kind} {what} -->{inner}<!-- /{kind} -->"

    made = MARKED.sub(fill, text)
    left = OPEN.search(MARKED.sub("", text))
    if left:
        raise ConfigError(f"{name}: expected markers in pairs, got {left.group()} alone")
    return made, files


def table(name: str, rows: Rows, specs: Path = SPECS) -> str:
    """A table as Markdown.

    Raises:
        ConfigError: There is none of that name, or it is not one.
    """
    where = f"{specs.name}/{name}.toml"
    spec = _spec(specs, name)
    try:
        found = msgspec.convert(spec, Table)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {one_line(error)}") from error
    lines = [[*found.heads, *(column.head for column in found.columns)]]
    lines += [["---"] * len(lines[0])]
    heads = [column.head for column in found.columns]
    for line in found.rows:
        for head in line.but:
            if head not in heads:
                raise ConfigError(f"{where}: expected the head of a column, got {head!r}; {did_you_mean(head, heads)}")
        if len(line.cells) != len(found.heads):
            raise ConfigError(f"{where}: expected {len(found.heads)} cells in a row, got {line.cells}")
        lines.append([*line.cells, *(_figure(found, line, column, rows, where) for column in found.columns)])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines).replace("| --- |", "|---|")
    text = re.sub(r"(?<=\|)(---\|)?( --- \|)+", lambda match: match.group().replace(" ", ""), text)
    return text + (f"\n\n{textwrap.fill(found.caption, 150, break_on_hyphens=False)}" if found.caption else "")


def _figure(spec: Table, line: Line, column: Column, rows: Rows, where: str) -> str:
    """What stands in a cell."""
    base = str((spec.of | line.of).get("variant", ""))
    own = {key: text.replace("*", base) if key in ("variant", "metric") else text for key, text in column.of.items()}
    return rows.text(converted(spec.of | line.of | own | line.but.get(column.head, {}), where), where)


def value(name: str, rows: Rows, specs: Path, where: str) -> str:
    """One figure.

    Raises:
        ConfigError: There is none of that name.
    """
    known = _spec(specs, VALUES)
    if name not in known:
        raise ConfigError(f"{where}: expected a value of {specs.name}/{VALUES}.toml; {did_you_mean(name, known)}")
    return rows.text(converted(known[name], where), where)


def _spec(specs: Path, name: str) -> dict[str, Any]:
    path = specs / f"{name}.toml"
    if not path.is_file():
        known = [one.stem for one in specs.glob("*.toml") if one.stem != VALUES]
        raise ConfigError(f"expected a table in {specs}, got {one_line(repr(name))}; {did_you_mean(name, known)}")
    return read_toml(path.read_text("utf-8"), str(path))


def _first_difference(before: str, after: str) -> str:
    """Line, and what stands there and should."""
    old, new = before.splitlines(), after.splitlines()
    for number, (ours, theirs) in enumerate(zip(old, new, strict=False), 1):
        if ours != theirs:
            return f":{number}: expected {one_line(repr(theirs))}, got {one_line(repr(ours))}"
    return f":{min(len(old), len(new)) + 1}: expected {len(new)} lines, got {len(old)}"
