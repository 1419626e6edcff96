from __future__ import annotations

import errno
import gzip
import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import DataError, WriteError
from leanrec.data.ids import MISSING
from leanrec.data.importer import import_log
from leanrec.data.store import Store

GOOD = "user,item,time\nann,x,3\nbob,y,1\nann,y,1\nann,z,2\nbob,x,1\n"


def put(tmp_path: Path, content: str | bytes, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def histories(store: Store) -> dict[str, list[str]]:
    keys = store.catalog.keys
    return {name: [keys[item - 1] for item in store.history(user)] for user, name in enumerate(store.user_keys)}


def test_a_small_log(tmp_path: Path) -> None:
    source = put(tmp_path, GOOD, "my.shop.csv.gz")
    store = import_log(str(source), str(tmp_path / "store"))
    assert histories(store) == {"ann": ["y", "z", "x"], "bob": ["y", "x"]}
    assert store.catalog.keys == ("x", "y", "z")
    assert store.catalog.titles == ("x", "y", "z")
    assert store.catalog.counts == (2, 2, 1)
    assert store.times is not None and store.times.tolist() == [1, 2, 3, 1, 1]
    assert store.offsets.tolist() == [0, 3, 5]
    assert store.meta.name == "my"
    assert store.meta.source == "my.shop.csv.gz"
    assert store.meta.source_sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert store.meta.dropped == {}
    assert store.meta.notes == (
        "csv: user from 'user', item from 'item', time from 'time'",
        "1 events are older than the one before them; users' events were put in time order",
        "1 users have fewer than three events; they train but are not evaluated",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.shop.csv.gz", "store"]


def test_the_form_does_not_matter(tmp_path: Path) -> None:
    table = pl.DataFrame(
        [("7", "x", 3), ("8", "y", 1), ("7", "y", 1), ("7", "z", 2), ("8", "x", 1)],
        ["user", "item", "time"],
        orient="row",
    )
    table.write_csv(tmp_path / "1")
    table.write_csv(tmp_path / "2", separator="\t")
    table.write_ndjson(tmp_path / "3")
    table.with_columns(pl.col("user").cast(pl.Int16), pl.col("item").cast(pl.Categorical)).write_parquet(tmp_path / "4")
    (tmp_path / "5").write_text(
        table.write_csv(separator="\t").replace("user\titem\ttime", "user:token\titem:token\ttime:float")
    )
    (tmp_path / "6").write_bytes(gzip.compress(table.write_csv().encode()))
    ordered = table.sort("time", maintain_order=True)
    (tmp_path / "7").write_text("".join(f"{user} {item}\n" for user, item, _ in ordered.rows()))
    (tmp_path / "8").write_text("8 y x\n7 y z x\n")
    for form in range(1, 9):
        store = import_log(tmp_path / str(form), tmp_path / f"store{form}")
        assert histories(store) == {"7": ["y", "z", "x"], "8": ["y", "x"]}, form
        assert store.meta.has_times == (form < 7)


def test_names_of_columns_may_be_anything(tmp_path: Path) -> None:
    text = "wer;was;wann\n" + "".join(f"a;{item};2014-04-0{item}\nb;{item};2014-04-01\n" for item in (3, 2, 1))
    store = import_log(put(tmp_path, text), tmp_path / "store", user="wer", item="was", time="wann", name="laden")
    assert histories(store) == {"a": ["1", "2", "3"], "b": ["3", "2", "1"]}
    assert store.meta.name == "laden"
    assert store.times is not None and int(store.times[0]) == 1396310400


def test_sessions_have_numbers_as_users(tmp_path: Path) -> None:
    store = import_log(put(tmp_path, "x y z\n\ny x\n"), tmp_path / "store", format="sessions")
    assert histories(store) == {"1": ["x", "y", "z"], "3": ["y", "x"]}


def test_titles(tmp_path: Path) -> None:
    titles = put(tmp_path, "item,title\nx,Ex\nz,Zed\n", "titles.csv")
    store = import_log(put(tmp_path, GOOD), tmp_path / "store", titles=titles)
    assert store.catalog.titles == ("Ex", "y", "Zed")
    assert store.meta.notes[-1] == "1 items without a title are called by their key"


def test_the_k_core_is_taken_until_it_is_stable(tmp_path: Path) -> None:
    # z is rare; without it cyd is short; without cyd w is rare; ann and bob stay
    text = "user,item\n" + "".join(f"{user},{item}\n" for user in ("ann", "bob") for item in "xyxy") + "ann,w\n"
    text += "cyd,w\ncyd,z\n"
    store = import_log(put(tmp_path, text), tmp_path / "store", min_user=2, min_item=2)
    assert histories(store) == {"ann": list("xyxy"), "bob": list("xyxy")}
    assert store.meta.dropped == {"rare items": 2, "rare users": 1}
    assert store.num_events == 8


DOUBLE = "user,item,time\n" + "a,x,1\na,y,1\na,x,1\na,x,2\nb,x,1\nb,y,2\n"


def test_duplicates_are_kept_dropped_or_refused(tmp_path: Path) -> None:
    source = put(tmp_path, DOUBLE)
    kept = import_log(source, tmp_path / "keep")
    assert histories(kept)["a"] == ["x", "y", "x", "x"]
    assert "1 events repeat an earlier one of the same user, item and time and were kept" in kept.meta.notes
    dropped = import_log(source, tmp_path / "drop", duplicates="drop")
    assert histories(dropped)["a"] == ["x", "y", "x"]
    assert dropped.meta.dropped == {"duplicates": 1}
    with pytest.raises(
        DataError, match=r"expected every event once, got user 'a', item 'x', time 1 twice in .*keep or drop"
    ):
        import_log(source, tmp_path / "error", duplicates="error")
    invalid: Any = "maybe"
    with pytest.raises(DataError, match=r"expected duplicates to be keep, drop or error, got 'maybe'"):
        import_log(source, tmp_path / "maybe", duplicates=invalid)


def test_repeats_without_times_are_events(tmp_path: Path) -> None:
    store = import_log(put(tmp_path, "a x\na x\na x\nb x\n"), tmp_path / "store", duplicates="error")
    assert histories(store)["a"] == ["x", "x", "x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected an interaction log, got the empty file .*log\.csv"),
        ("user,item\n", r"expected an interaction log, got a header and no rows in .*log\.csv"),
        (
            "user,rating\na,1\n",
            r"expected an item column, got the columns user, rating in .*log\.csv; name it with --item, or give its position",
        ),
        (
            "user,item,ts\na,x,1\na,y,soon\n",
            r"expected a time such as .* got 'soon' in row 2, column 'ts' of .*log\.csv",
        ),
        ("user,item,ts\na,x,1\na,y,\n", r"expected a time such as .* got nothing in row 2, column 'ts' of"),
        (
            "user,item\na,x\n,x\n",
            r"expected a user id, got nothing in row 2, column 'user' of .*log\.csv; drop the row or",
        ),
        ('user,item\na,x\na,""\n', r"expected an item id, got '' in row 2, column 'item' of"),
        ("user,item\na,x\na, \n", r"expected an item id, got ' ' in row 2, column 'item' of"),
        ("user,item\na,x\na,NaN\n", r"expected an item id, got 'NaN' in row 2, column 'item' of"),
        ("user,item\na,x\n\na,y\n", r"expected a user id, got nothing in row 2, column 'user' of"),
        ('{"user": 1, "item": 2}\n{"user": 1}\n', r"expected an item id, got nothing in line 2, column 'item' of"),
        (
            "user,item\na,x\na,y\na,z\n",
            r"expected at least two users, got one in .*log\.csv; with one there is nothing to",
        ),
        (
            "user,item\na,x\na,y\nb,z\n",
            r"expected a user with at least three events, got at most 2 per user in .*log\.csv;",
        ),
        ("user,item,time\na,x,1\nb,x,2\nb,y\n", r"expected a time such as .* got nothing in row 3, column 'time'"),
        (
            "user,item,user\na,x,b\n",
            r"expected the user column 'user', got several of that name in .*log\.csv; it has the columns user, item",
        ),
    ],
)
def test_bad_logs_are_refused_and_leave_nothing(tmp_path: Path, text: str, message: str) -> None:
    source = put(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        import_log(source, tmp_path / "store")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_missing_ids_in_a_parquet_log(tmp_path: Path) -> None:
    source = tmp_path / "log"
    pl.DataFrame({"user": [1, 2, 3], "item": [1.0, float("nan"), 2.0]}).write_parquet(source)
    with pytest.raises(DataError, match=r"expected an item id, got 'NaN' in row 2, column 'item' of"):
        import_log(source, tmp_path / "store")
    pl.DataFrame({"user": [1, None, 3], "item": [1, 2, 3]}).write_parquet(source)
    with pytest.raises(DataError, match=r"expected a user id, got nothing in row 2, column 'user' of"):
        import_log(source, tmp_path / "store")
    pl.DataFrame({"user": [1, 2], "item": [True, False]}).write_parquet(source)
    with pytest.raises(DataError, match=r"expected text or numbers as item ids, got Boolean in column 'item' of"):
        import_log(source, tmp_path / "store")


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    message = r"expected the user column 'uid', got no such column in .*log\.csv; it has the columns user, item, time"
    with pytest.raises(DataError, match=message):
        import_log(put(tmp_path, GOOD), tmp_path / "store", user="uid")
    with pytest.raises(DataError, match=r"expected the time column 'when', got no such column"):
        import_log(put(tmp_path, GOOD), tmp_path / "store", time="when")


def test_minimum_counts_that_leave_too_little(tmp_path: Path) -> None:
    source = put(tmp_path, GOOD)
    with pytest.raises(
        DataError, match=r"expected events, got none that pass the minimum counts in .*lower min_user or"
    ):
        import_log(source, tmp_path / "store", min_user=9)
    with pytest.raises(DataError, match=r"expected at least two users, got one after the minimum counts in"):
        import_log(source, tmp_path / "store", min_user=3)


def test_sequences_that_turn_out_to_be_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanrec.data.source.SAMPLE", 30)
    source = put(tmp_path, "".join(f"{number} 1 2 3{' 4' * (number % 2)}\n" for number in range(10)) + "1 4 5\n")
    with pytest.raises(
        DataError, match=r"expected one line per user, got 11 lines that start with 10 different words in"
    ):
        import_log(source, tmp_path / "store")
    assert import_log(source, tmp_path / "a", format="sessions").num_users == 11
    assert import_log(source, tmp_path / "b", format="sequences").num_users == 10


@pytest.mark.parametrize("place", ["numpy.save", "os.posix_fallocate", "os.mkdir"])
def test_a_full_disk(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = put(tmp_path, GOOD)
    monkeypatch.setattr(place, full, raising=False)
    with pytest.raises(WriteError, match=r"cannot write .*store: No space left on device; free some space"):
        import_log(source, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    source = put(tmp_path, GOOD)
    with pytest.raises(KeyboardInterrupt):
        import_log(source, tmp_path / "store", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_an_existing_place_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    import_log(put(tmp_path, GOOD), tmp_path / "store")
    with pytest.raises(DataError, match="expected a new directory, got the store"):
        import_log(tmp_path / "missing.csv", tmp_path / "store")
    other = put(tmp_path, GOOD + "cyd,x,1\n", "other.csv")
    assert import_log(other, tmp_path / "store", overwrite=True).num_users == 3


def test_progress_goes_through_all_stages(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    import_log(put(tmp_path, GOOD), tmp_path / "store", progress=lambda *call: calls.append(call))
    assert list(dict.fromkeys(call[0] for call in calls)) == ["read", "group", "sort", "write"]
    last = {stage: (done, total) for stage, done, total in calls}
    assert last == {"read": (len(GOOD), len(GOOD)), "group": (5, 5), "sort": (5, 5), "write": (5, 5)}


def bare(text: str) -> str:
    return pl.Series([text]).str.strip_chars()[0]


IDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0") | st.sampled_from(",\"' 🛒é"),
    min_size=1,
    max_size=4,
).filter(lambda text: bare(text) and bare(text) not in MISSING)
LOGS = st.lists(st.tuples(st.sampled_from("ab") | IDS, IDS | st.sampled_from("xy"), st.integers(0, 3)), max_size=12)


@settings(deadline=None, max_examples=60)
@given(LOGS, st.booleans())
def test_a_store_is_the_log_sorted(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], timed: bool) -> None:
    rows = [("a", "x", 1), ("b", '"', 2), ("a", "é,", 0), ("a", "x", 3), *rows]
    folder = tmp_path_factory.mktemp("import")
    table = pl.DataFrame(rows, ["user", "item", "time"], orient="row")
    (table if timed else table.drop("time")).write_csv(folder / "log")
    store = import_log(folder / "log", folder / "store")
    expected: dict[str, list[str]] = {bare(user): [] for user, _, _ in rows}
    for user, item, _ in sorted(rows, key=lambda row: row[2]) if timed else rows:
        expected[bare(user)].append(bare(item))
    assert histories(store) == expected
    assert store.user_keys == list(expected)
    counts = Counter(bare(item) for _, item, _ in rows)
    assert list(store.catalog.keys) == sorted(counts, key=lambda key: (-counts[key], key.encode()))
    assert store.catalog.counts == tuple(sorted(counts.values(), reverse=True))
    if timed:
        assert store.times is not None
        assert sorted(store.times.tolist()) == sorted(time for _, _, time in rows)


def test_importing_a_log_does_not_import_torch() -> None:
    code = """
import importlib.util, sys, types
package = types.ModuleType("leanrec")  # without the names at the top, which do need it
package.__path__ = importlib.util.find_spec("leanrec").submodule_search_locations
sys.modules["leanrec"] = package
import leanrec.data.importer, leanrec.data.describe, leanrec.data.split
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_offsets_and_items_have_their_types(tmp_path: Path) -> None:
    store = import_log(put(tmp_path, GOOD), tmp_path / "store")
    assert (store.items.dtype, store.offsets.dtype) == (np.int32, np.int64)
    assert store.items.min() == 1
