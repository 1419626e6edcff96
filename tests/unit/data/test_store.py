from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from leanrec.core.digest import catalog_digest
from leanrec.core.errors import DataError, WriteError
from leanrec.data.store import Store, StoreMeta, write_store

META = StoreMeta(1, "toy", 0, 0, 0, False, "toy.csv", "ab", {"rare items": 2}, ("a note",), {"seed": 1})


def write(out: Path, *, times: bool = True, overwrite: bool = False) -> Store:
    return write_store(
        out,
        items=np.array([1, 2, 1, 3], np.int32),
        offsets=np.array([0, 3, 4]),
        times=np.array([5, 6, 7, 8]) if times else None,
        users=pl.DataFrame({"user": ["ann", "bob"], "kind": ["habit", "memory"]}),
        catalog=pl.DataFrame({"item": ["x", "y", "z"], "title": ["X", "Y", "Z"], "count": [2, 1, 1]}),
        meta=META,
        overwrite=overwrite,
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "store")
    store = Store.open(str(tmp_path / "store"))
    assert (store.num_users, store.num_items, store.num_events) == (2, 3, 4)
    assert store.history(0).tolist() == [1, 2, 1]
    assert store.history(1).tolist() == [3]
    assert store.items.dtype == np.int32
    assert store.offsets.dtype == np.int64
    assert store.times is not None and store.times.tolist() == [5, 6, 7, 8]
    assert store.user_keys == ["ann", "bob"]
    assert store.users_table()["kind"].to_list() == ["habit", "memory"]
    assert store.catalog.keys == ("x", "y", "z")
    assert store.catalog.titles == ("X", "Y", "Z")
    assert store.catalog.counts == (2, 1, 1)
    assert store.meta.notes == ("a note",)
    assert store.meta.simulation == {"seed": 1}
    assert store.meta.catalog_sha256 == catalog_digest(["x", "y", "z"])


def test_arrays_are_mapped_and_read_only(tmp_path: Path) -> None:
    store = write(tmp_path / "store")
    assert isinstance(store.items, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.items[0] = 9


def test_a_store_without_times_has_no_file_for_them(tmp_path: Path) -> None:
    store = write(tmp_path / "store", times=False)
    assert store.times is None
    assert sorted(path.name for path in store.path.iterdir()) == [
        "catalog.parquet",
        "items.npy",
        "offsets.npy",
        "store.json",
        "users.parquet",
    ]


def test_the_catalogue_digest_tells_orders_and_borders_apart() -> None:
    assert len({catalog_digest(keys) for keys in (["ab", "c"], ["a", "bc"], ["c", "ab"])}) == 3


def test_an_existing_store_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "store")
    with pytest.raises(
        DataError, match=r"expected a new directory, got the store .*store; choose another one or allow"
    ):
        write(tmp_path / "store")
    assert write(tmp_path / "store", times=False, overwrite=True).times is None
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_an_empty_directory_may_become_a_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert write(tmp_path / "store").num_users == 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_things_are_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("all of it")
    with pytest.raises(DataError, match=r"expected a new or empty directory, got .*precious which is not a store"):
        write(tmp_path / "precious", overwrite=overwrite)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "all of it"


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write(tmp_path / "old")
    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    for out in ("old", "new"):
        with pytest.raises(WriteError, match=rf"cannot write .*{out}: No space left on device; free some space"):
            write(tmp_path / out, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert Store.open(tmp_path / "old").num_events == 4


def test_a_write_that_numpy_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object, **__: object) -> None:
        raise OSError("4 requested and 2 written")

    monkeypatch.setattr(np, "save", short)
    with pytest.raises(WriteError, match=r"cannot write .*new: 4 requested and 2 written; free"):
        write(tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_a_missing_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a store, got no directory at .*nowhere; make one with"):
        Store.open(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"expected a store, got a directory without store\.json at .*is it the right one"
    ):
        Store.open(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"schema": 2}, "store .* has schema version 2, this leanrec reads 1; import the log again or upgrade leanrec"),
        (
            {"surprise": 1},
            r"store\.json of store .* is damaged: .*surprise.*; the store was cut or edited, import the log again",
        ),
        ({"users": "two"}, r"store\.json of store .* is damaged: Expected `int`, got `str` - at"),
        ({"events": 5}, r"expected int32 \[5\], got int32 \[4\] in .*items\.npy; the store was cut or edited"),
        ({"users": 3}, r"expected int64 \[4\], got int64 \[3\] in .*offsets\.npy"),
        ({"items": 4}, r"expected 4 rows, got 3 in .*catalog\.parquet"),
    ],
)
def test_an_edited_description(tmp_path: Path, edit: dict[str, object], message: str) -> None:
    path = write(tmp_path / "store").path / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(DataError, match=message):
        Store.open(tmp_path / "store")


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json"])
def test_a_description_that_is_none(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "store").path / "store.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"store\.json of store .* is damaged: |store .* has schema version None, this"):
        Store.open(tmp_path / "store")


@pytest.mark.parametrize("name", ["items.npy", "offsets.npy", "times.npy", "users.parquet", "catalog.parquet"])
def test_a_cut_or_missing_file_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "store").path / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 5])
    with pytest.raises(
        DataError, match=rf"expected .*{name}, got: .*; the store was cut or edited, import the log again"
    ):
        Store.open(tmp_path / "store")
    path.unlink()
    with pytest.raises(
        DataError, match=rf"expected the file {name} in the store .*, got none; the store was cut or edited"
    ):
        Store.open(tmp_path / "store")


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "store").path
    np.save(path / "items.npy", np.array([{"a": 1}] * 4), allow_pickle=True)
    with pytest.raises(DataError, match=r"expected 4 numbers in .*items\.npy, got: "):
        Store.open(path)


def test_offsets_that_do_not_ascend(tmp_path: Path) -> None:
    path = write(tmp_path / "store").path
    np.save(path / "offsets.npy", np.array([0, 5, 4]))
    with pytest.raises(DataError, match=r"expected ascending offsets from 0 to 4 in .*offsets\.npy"):
        Store.open(path)


def test_another_catalogue_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    store = write(tmp_path / "store")
    pl.DataFrame({"item": ["x", "z", "y"], "title": ["X", "Z", "Y"], "count": [2, 1, 1]}).write_parquet(
        store.path / "catalog.parquet"
    )
    with pytest.raises(
        DataError, match=r"expected the item keys that store\.json names, got others in .*catalog\.parquet"
    ):
        _ = Store.open(store.path).catalog
