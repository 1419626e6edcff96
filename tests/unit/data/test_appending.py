"""A log that is appended to a store gives what an import of all logs together gives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import DataError
from leanrec.data.importer import import_log
from leanrec.data.simulate import Shop, simulate
from leanrec.data.store import META, Store

Row = tuple[str, str, str]


def write(path: Path, rows: Sequence[Row], timed: bool = True) -> Path:
    names = ("user", "item", "time") if timed else ("user", "item")
    lines = [",".join(row[: len(names)]) for row in (names, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def same_files(one: Path, other: Path) -> None:
    """Every file but store.json, to the last byte; and of that what is counted."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        if name != META:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    ours, theirs = Store.open(one).meta, Store.open(other).meta
    assert (ours.users, ours.items, ours.events) == (theirs.users, theirs.items, theirs.events)
    assert ours.dropped == theirs.dropped and ours.catalog_sha256 == theirs.catalog_sha256


def check(where: Path, days: Sequence[Sequence[Row]], timed: bool = True, **options: Any) -> Store:
    """Append day by day, and compare with one import of all days."""
    import_log(write(where / "day-0.csv", days[0], timed), where / "grown", name="log", **options)
    for number, rows in enumerate(days[1:], start=1):
        grown = import_log(write(where / f"day-{number}.csv", rows, timed), where / "grown", append=True, **options)
        assert grown.meta.appended == number
    whole = write(where / "log.csv", [row for rows in days for row in rows], timed)
    import_log(whole, where / "whole", **options)
    same_files(where / "grown", where / "whole")
    return Store.open(where / "grown")


def some_rows(draw: random.Random, count: int, users: int, form: str) -> list[Row]:
    rows = []
    for _ in range(count):
        second = draw.randrange(20)
        time = {
            "whole": f"{1_600_000_000 + second}",
            "fractions": f"{1_600_000_000 + second}.{draw.randrange(4) * 25:02}",
        }
        time["dates"] = f"2020-09-13T12:26:{second:02}.{draw.randrange(4) * 250:03}"
        rows.append((f"u{draw.randrange(users)}", f"i{draw.randrange(9)}", time[form]))
    return rows


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(["whole", "fractions", "dates"]), st.sampled_from(["keep", "drop"]))
def test_in_any_order_of_events(
    tmp_path_factory: pytest.TempPathFactory, seed: int, form: str, duplicates: str
) -> None:
    draw = random.Random(seed)
    days = [some_rows(draw, 40, 5, form), some_rows(draw, draw.randrange(1, 20), 8, form), some_rows(draw, 3, 9, form)]
    check(tmp_path_factory.mktemp("log"), days, duplicates=duplicates)


def test_without_times_the_order_of_the_logs_counts(tmp_path: Path) -> None:
    draw = random.Random(1)
    days = [some_rows(draw, 40, 5, "whole"), some_rows(draw, 12, 8, "whole")]
    store = check(tmp_path, days, timed=False)
    assert store.times is None


def test_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(2)
    for module in ("events", "growing"):
        monkeypatch.setattr(f"leanrec.data.{module}.EVENTS_AT_ONCE", 7)
    check(tmp_path, [some_rows(draw, 60, 5, "dates"), some_rows(draw, 30, 8, "dates")])


def test_late_events_go_to_their_place(tmp_path: Path) -> None:
    days = [[("u", item, f"{time}") for time, item in enumerate("abcd", start=10)] + [("v", "a", "1")] * 3]
    days.append([("u", "late", "11"), ("u", "first", "1"), ("w", "new", "5")])
    store = check(tmp_path, days)
    keys = store.catalog.keys
    assert [keys[item - 1] for item in store.history(0)] == ["first", "a", "b", "late", "c", "d"]
    assert store.user_keys == ["u", "v", "w"]
    assert "day-1.csv was appended: 3 events more" in store.meta.notes


def test_titles_stay_and_new_ones_come(tmp_path: Path) -> None:
    rows = [("u", item, "1") for item in "abc"] + [("v", item, "1") for item in "abc"]
    for day, titles in enumerate(("item,title\na,Apple\nb,Bean\n", "item,title\nd,Date\n")):
        (tmp_path / f"titles-{day}.csv").write_text(titles, encoding="utf-8")
    import_log(write(tmp_path / "one.csv", rows), tmp_path / "data", titles=tmp_path / "titles-0.csv")
    grown = import_log(
        write(tmp_path / "two.csv", [("u", "d", "2")]), tmp_path / "data", titles=tmp_path / "titles-1.csv", append=True
    )
    assert dict(zip(grown.catalog.keys, grown.catalog.titles, strict=True)) == {
        "a": "Apple",
        "b": "Bean",
        "c": "c",
        "d": "Date",
    }


BASE = [(f"u{user}", f"i{item}", f"{1_600_000_000 + item}") for user in range(4) for item in range(4)]
REFUSED: dict[str, tuple[dict[str, Any], list[Row], bool, str]] = {
    "minimum counts": (
        {"min_user": 2},
        BASE,
        True,
        "expected a store with all its events, since new ones can change which are kept, got one with minimum counts in ",
    ),
    "without times": (
        {},
        BASE,
        False,
        "expected a log with the times that .*data has, got one with none; name its time column, or import the old",
    ),
    "milliseconds": (
        {},
        [("u1", "i1", "1600000000000")],
        True,
        "expected times in seconds as in .*, got milliseconds in the new log; bring them to one unit",
    ),
    "nothing": ({}, [], True, "expected an interaction log, got a header and no rows in "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_appended_leaves_the_store_as_it_is(case: str, tmp_path: Path) -> None:
    options, rows, timed, message = REFUSED[case]
    import_log(write(tmp_path / "one.csv", BASE), tmp_path / "data", **options)
    before = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    with pytest.raises(DataError, match=message):
        import_log(write(tmp_path / "two.csv", rows, timed), tmp_path / "data", append=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "one.csv", "two.csv"]


def test_a_log_with_times_is_not_added_to_a_store_without(tmp_path: Path) -> None:
    import_log(write(tmp_path / "one.csv", BASE, timed=False), tmp_path / "data")
    message = r"expected a log without times, as .*data has none, got one with times; import the old and the new log"
    with pytest.raises(DataError, match=message):
        import_log(write(tmp_path / "two.csv", BASE), tmp_path / "data", append=True)


def test_a_simulated_store_and_none_are_refused(tmp_path: Path) -> None:
    simulate(Shop(users=30, items=200), tmp_path / "shop")
    log = write(tmp_path / "two.csv", BASE)
    with pytest.raises(DataError, match="expected a store that was imported, got a simulated one in "):
        import_log(log, tmp_path / "shop", append=True)
    with pytest.raises(DataError, match="expected a store, got no directory at "):
        import_log(log, tmp_path / "none", append=True)
    assert not (tmp_path / "none").exists()


def test_fractions_are_kept_only_where_there_are_some(tmp_path: Path) -> None:
    for name, time in (("whole", "2020-09-13T12:26:40"), ("parts", "2020-09-13T12:26:40.5")):
        log = write(tmp_path / f"{name}.csv", [(user, item, time) for user in "uv" for item in "abc"])
        import_log(log, tmp_path / name)
    assert not (tmp_path / "whole" / "fractions.npy").exists()
    assert np.load(tmp_path / "parts" / "fractions.npy").tolist() == [500_000] * 6
