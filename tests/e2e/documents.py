"""The commands and programs that documents show, and logs of two kinds to run them on."""

from __future__ import annotations

import csv
import gzip
import random
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parents[2]
HOW_TOS = tuple(sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/how-to/*.md")))
GUIDES = ("README.md", "docs/which-technique.md", *HOW_TOS)
CARDS = tuple(
    sorted(
        str(card.relative_to(ROOT))
        for pattern in ("docs/backbones/*.md", "src/leanrec/techniques/*/card.md")
        for card in ROOT.glob(pattern)
    )
)
KEYS = ("1193", "661", "914", "2", "50", "172", "181", "item-1", "item-2", "A", "B", "C")
"""Items that documents name."""
KINDS = ("repeats", "wide")


def shown(document: str) -> Iterator[tuple[str, str]]:
    """What a document tells its reader to run, in its order: ("sh", a line) or ("python", a block)."""
    text = (ROOT / document).read_text("utf-8")
    if document in CARDS:
        text = text.split("## Use\n")[1].split("\n## ")[0]
    for language, block in re.findall(r"```(sh|python)\n(.*?)```", text, re.DOTALL):
        if language == "python":
            yield language, block
        else:
            yield from (("sh", line) for line in block.splitlines() if line.strip() and not line.startswith("#"))


def wander(draw: random.Random, at: int, count: int) -> Iterator[int]:
    """Items that mostly follow each other, again and again."""
    while True:
        yield at % count
        at = at + 1 if draw.random() < 0.7 else draw.randrange(count)


def write_parts(folder: Path, rows: list[tuple[str, str, int]]) -> None:
    """The log in two files, two partitions, a database, and with dates in another encoding."""
    frame = pl.DataFrame(rows, ["user", "item", "time"], orient="row")
    for name, day, part in (("monday", 28, frame[::2]), ("tuesday", 29, frame[1::2])):
        part.write_csv(folder / f"{name}.csv")
        (folder / "logs" / f"day=2026-11-{day}").mkdir(parents=True)
        part.write_parquet(folder / "logs" / f"day=2026-11-{day}" / "part.parquet")
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        database.execute("CREATE TABLE events (user, item, time)")
        database.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
        database.commit()
    dated = frame.with_columns(pl.from_epoch("time").dt.strftime("%d.%m.%Y %H:%M"), pl.lit("\u0416").alias("name"))
    (folder / "dates.csv").write_bytes(dated.write_csv().encode("cp1251"))


def write(folder: Path, kind: str) -> None:
    """``ratings.csv`` and ``ratings.csv.gz`` in a folder, the same in other forms and in parts, and titles of some items.

    "repeats": 40 items, taken again and again, histories of up to 300 events. "wide": 48 users who take no item twice, of 3,300, in
    a file that has times only where the document names their column (``ratings.csv``).
    """
    (folder / "items.tsv").write_text("item\ttitle\n" + "".join(f"{key}\tThe {key}\n" for key in KEYS), "utf-8")
    draw = random.Random(0)
    count = 40 if kind == "repeats" else 3300
    keys = [*KEYS, *(f"key {number}" for number in range(count - len(KEYS)))]
    rows = []
    for user in range(48):
        length = 60 if kind == "wide" else draw.choice((8, 20, 50, 300))
        wandered = list(islice(wander(draw, user, count), length))
        walk = [(user * 3 + step) % 110 for step in range(length)] if kind == "wide" else wandered
        seen = [
            number for number in range(user, count, 48) if kind == "repeats" or number not in walk
        ]  # every item is there
        steps = [*seen, *walk]
        rows += [(f"u{user}", keys[at], 1_600_000_000 + 60 * step) for step, at in enumerate(steps)]
    for name, opened, timed in (("ratings.csv", open, True), ("ratings.csv.gz", gzip.open, kind == "repeats")):
        with opened(folder / name, "wt", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("user", "item", "time")[: 3 if timed else 2])
            writer.writerows(row[: 3 if timed else 2] for row in rows)
    named = "user_id:token\titem_id:token\ttimestamp:float\n"
    write_parts(folder, rows)
    (folder / "history.inter").write_text(named + "".join(f"{user}\t{item}\t{time}\n" for user, item, time in rows))
    words: dict[str, list[str]] = {}
    for user, item, _ in rows:
        words.setdefault(user, [user]).append(item.replace(" ", "-"))
    (folder / "sequences.txt").write_text("".join(" ".join(line) + "\n" for line in words.values()))
