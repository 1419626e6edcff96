"""Frames from Python: Polars, pandas, Arrow, and iterators of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from leanrec.core.errors import DataError
from leanrec.data.importer import import_log
from unit.data.logs import CSV, TABLE, WHOLE, histories, read, sizes


class Capsule:
    """What hands out columns by the C interface of Arrow alone."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return TABLE.__arrow_c_stream__(requested_schema)


class Table:
    """What hands out batches, as tables and data sets of Arrow do."""

    def to_batches(self) -> Any:
        return [TABLE[:36], TABLE[36:]]


class Batches:
    """What hands out one batch after the other, as readers of Arrow do; it could hand out all at once, too."""

    def __iter__(self) -> Any:
        return halves()

    def read_next_batch(self) -> Any:
        raise NotImplementedError

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        raise MemoryError


def halves() -> Iterator[pl.DataFrame]:
    yield TABLE[:36]
    yield TABLE[36:].select("time", "item", "user")


FRAMES: dict[str, Any] = {
    "frame": lambda: TABLE,
    "lazy frame": lambda: TABLE.lazy(),
    "Arrow": Capsule,
    "Arrow table": Table,
    "Arrow reader": Batches,
    "iterator": halves,
    "list of frames": lambda: list(halves()),
    "iterator of lazy frames": lambda: (half.lazy() for half in halves()),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_are_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanrec.data.sources.frames.ROWS_AT_ONCE", 10)
    store = import_log(FRAMES[kind](), tmp_path / "store", name="shop")
    assert sizes(store) == WHOLE
    assert histories(store) == histories(read(tmp_path, CSV, overwrite=True))
    assert store.meta.source_sha256 == ""


@pytest.mark.parametrize("change", ["plain", "nullable", "text", "categories", "dates"])
def test_frames_of_pandas(tmp_path: Path, change: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(TABLE.to_dict(as_series=False))
    if change == "nullable":
        frame = frame.astype({"user": "Int64", "item": "Int64"})
    if change == "text":
        frame = frame.astype({"user": str, "item": object})
    if change == "categories":
        frame = frame.astype({"user": "category", "item": "category"})
    if change == "dates":
        frame["time"] = pandas.to_datetime(frame["time"], unit="s", utc=True)
    store = import_log(frame, tmp_path / "store")
    assert sizes(store) == WHOLE
    assert histories(store) == histories(read(tmp_path, CSV, overwrite=True))


def test_a_gap_in_a_frame_of_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"user": ["a", None, "b"] * 4, "item": list("xyz") * 4})
    with pytest.raises(
        DataError, match=r"expected a user id, got nothing in row 2, column 'user' of the DataFrame; drop"
    ):
        import_log(frame, tmp_path / "store")
    assert import_log(frame, tmp_path / "store", missing="drop").meta.dropped == {"missing user": 4}


def test_where_and_titles_go_with_frames(tmp_path: Path) -> None:
    (tmp_path / "titles.csv").write_text("item,title\n1,One\n")
    store = import_log(
        TABLE.rename({"user": "who"}), tmp_path / "store", user="who", where="item < 5", titles=tmp_path / "titles.csv"
    )
    assert store.num_items == 4 and "One" in store.catalog.titles


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, r"expected a path, a frame of Polars, pandas or Arrow, or an iterator of frames, got int; convert it"),
        ([1, 2], r"expected a path, a frame .* got int; convert it"),
        ({"user": [1]}, r"expected a path, a frame .* got dict; convert it"),
        (iter([]), r"expected frames of events, got an iterator without any; give one"),
        (TABLE[:0], r"expected an interaction log, got a header and no rows in the DataFrame"),
        (
            [TABLE, TABLE.drop("time")],
            r"expected the time column 'time' in every frame, got none in frame 2; it has the columns",
        ),
        (
            TABLE.drop("item"),
            r"expected an item column, got the columns user, time in the DataFrame; name it with --item",
        ),
    ],
)
def test_what_is_no_frame(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        import_log(value, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_an_iterator_is_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[pl.DataFrame]:
        yield TABLE
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        import_log(broken(), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
